"""Background: work that would hold up the window, in a thread; only the last piece of work counts."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils.notifications import ErrorNotification, notification_manager
from qtpy.QtCore import QObject, Signal

from napari_tokenunify.errors import TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Background(QObject):
    """Does one thing at a time for a widget; what was begun before is forgotten.

    The work must release the GIL for most of its time, as NumPy and zarr do; else it belongs into a Job.

    Attributes
    ----------
    done : Signal(object)
        What the work has returned.
    reported : Signal(object)
        An event that it has yielded, if it is a generator.
    failed : Signal(str)
        The sentence of a TokenUnifyError. Any other error is a fault of ours: it is told too, and napari shows where.

    Parameters
    ----------
    parent : QObject
        With it all signals end.
    """

    done = Signal(object)
    reported = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._turn = 0
        self._worker: Any = None

    @property
    def busy(self) -> bool:
        """Whether there is work whose result is awaited."""
        return self._worker is not None

    def start(self, work: Callable[[], Any]) -> None:
        """Call `work` in a thread; it must touch no widget and no layer."""
        self.forget()
        self._worker = create_worker(_follow, self._turn, work)
        self._worker.yielded.connect(self._report)
        self._worker.returned.connect(self._finish)
        self._worker.start()

    def forget(self) -> None:
        """Want no result of what is at work; a generator ends at its next event."""
        self._turn += 1
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _report(self, said: tuple[int, Any]) -> None:
        if said[0] == self._turn:
            self.reported.emit(said[1])

    def _finish(self, found: tuple[int, Any, Exception | None]) -> None:
        turn, result, problem = found
        if turn != self._turn:
            return
        self._worker = None
        if problem is None:
            self.done.emit(result)
        elif isinstance(problem, TokenUnifyError):
            self.failed.emit(str(problem))
        else:
            self.failed.emit(f"Something went wrong that should not: {type(problem).__name__}: {problem}")
            notification_manager.dispatch(ErrorNotification(problem))


def _follow(turn: int, work: Callable[[], Any]) -> Generator[tuple[int, Any], None, tuple[int, Any, Exception | None]]:
    """Run a function or a generator to its end; in the thread."""
    try:
        result = work()
        while inspect.isgenerator(result):
            try:
                event = next(result)
            except StopIteration as end:
                result = end.value
            else:
                yield turn, event
    except Exception as error:  # noqa: BLE001 - else the widget would wait for ever
        return turn, None, error
    return turn, result, None
