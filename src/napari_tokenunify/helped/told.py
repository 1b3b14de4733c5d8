"""What long stages tell of how far they are, as parts of something longer."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.events import Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.events import Event

_STEPS: Final = 1000  # of a part, for the progress


def told(
    stage: Generator[Event, None, Any], begins: float, share: float, total: int, what: str
) -> Generator[Event, None, Any]:
    """Drive a stage; of what it says, pass on how far it is, in terms of the whole.

    Parameters
    ----------
    stage : generator
        To drive; what it returns is returned.
    begins, share : float
        Where it begins and how much of the whole it is, in parts.
    total : int
        Number of parts of the whole.
    what : str
        What is being done.
    """
    with closing(stage):  # a training that is stopped writes its checkpoint here
        while True:
            try:
                event = next(stage)
            except StopIteration as end:
                return end.value
            if isinstance(event, Progress):
                done = begins + share * event.done / max(1, event.total)
                yield Progress(round(_STEPS * done), _STEPS * total, what)
