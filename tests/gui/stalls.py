"""How long the event loop of Qt stands still, apart from what other programs on the machine take from it."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_MS = 10


class Stalls:
    """Between `with` and its end, the longest time in which the event loop answered nothing.

    On Linux the time in which the main thread, or another one of this process that it may wait for, could have run but
    other work had the processors does not count: a busy machine is nobody's mistake. Other waiting counts: for a file,
    a lock, a thread that works.

    Attributes
    ----------
    longest : float
        Seconds.
    where : str
        Where the main thread was when a stall had lasted for `suspect` seconds; of the longest.

    Parameters
    ----------
    suspect : float
        Seconds after which the main thread is looked at.
    """

    def __init__(self, suspect: float = 0.06) -> None:
        self.longest, self.where, self._suspect, self._excused = 0.0, "", suspect, 0.0
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._main, self._seen, self._over = threading.get_ident(), "", threading.Event()
        self._watchdog = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Stalls:
        self._last, self._queued = time.monotonic(), _seconds_in_queue()
        self._timer.start()
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._over.set()
        self._watchdog.join()

    def excusing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time does not count: what is not ours to make faster."""

        def excused(*arguments: Any, **settings: Any) -> Any:
            began, queued = time.monotonic(), _seconds_in_queue()
            try:
                return function(*arguments, **settings)
            finally:
                self._excused += time.monotonic() - began - _grown(queued, _seconds_in_queue())

        return excused

    def _tick(self) -> None:
        now, queued = time.monotonic(), _seconds_in_queue()
        stall = now - self._last - _grown(self._queued, queued) - self._excused
        if stall > self.longest:
            self.longest, self.where = stall, self._seen
        self._last, self._queued, self._seen, self._excused = now, queued, "", 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            if not self._seen and time.monotonic() - self._last > self._suspect:
                self._seen = "".join(traceback.format_stack(sys._current_frames()[self._main])[-12:])


def _seconds_in_queue() -> dict[str, float]:
    """Return how long each thread of this process has waited for a processor; nothing where that is not known."""
    seconds = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # ended meanwhile
            seconds[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return seconds


def _grown(before: dict[str, float], now: dict[str, float]) -> float:
    """Return the longest time that a thread has waited for a processor since."""
    return max((seconds - before.get(thread, 0.0) for thread, seconds in now.items()), default=0.0)
