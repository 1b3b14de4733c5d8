"""How long a training goes on, and how large its steps are on the way."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

_FLOOR: Final = 0.01  # of the learning rate, where the cosine ends


class Clock:
    """Seconds of work: it stands still while whoever drives the training pauses it.

    Parameters
    ----------
    seconds : float
        What was worked before, by the run that is gone on with.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before, self._since = seconds, time.monotonic()
        self._running = True

    @property
    def seconds(self) -> float:
        """Seconds of work so far."""
        return self._before + (time.monotonic() - self._since if self._running else 0.0)

    def stop(self) -> None:
        """Stand still."""
        self._before, self._running = self.seconds, False

    def go(self) -> None:
        """Go on."""
        self._since, self._running = time.monotonic(), True


@dataclass(frozen=True)
class Budget:
    """How long to train: so many steps, or so many seconds of work.

    Attributes
    ----------
    steps : int or None
        Steps in all.
    seconds : float or None
        Seconds in all, validation and previews included; where `steps` is None.
    """

    steps: int | None
    seconds: float | None

    def share(self, step: int, seconds: float, reserve: float = 0.0) -> float:
        """Return how much of it is used, 0..1; of the seconds, `reserve` are kept for what follows the last step."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, seconds / max(1e-9, (self.seconds or 0.0) - reserve))

    def is_used(self, step: int, seconds: float, next_step: float) -> bool:
        """Tell whether no step of `next_step` seconds fits in any more."""
        if self.steps is not None:
            return step >= self.steps
        return seconds + 0.5 * next_step >= (self.seconds or 0.0)


def learning_rate(highest: float, step: int, warmup: int, share: float) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine that ends with the budget.

    Parameters
    ----------
    highest : float
        After the warm-up.
    step : int
        Number of the step, from 0.
    warmup : int
        Steps of the warm-up.
    share : float
        How much of the budget is used, 0..1.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return highest * min(1.0, (step + 1) / max(1, warmup)) * (_FLOOR + (1 - _FLOOR) * cosine)
