"""JobWatch: looks after jobs from a thread of its own, so that reading their folders never holds up the window."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from qtpy.QtCore import QObject, QTimer, Signal

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.jobs import Job
from napari_tokenunify.jobs.history import Curves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs import JobStatus

Order = Literal["pause", "resume", "stop", "kill"]

_TICK_MS: Final = 300


class JobWatch(QObject):
    """Polls jobs a few times a second, and passes orders on to them.

    Attributes
    ----------
    updated : Signal(list of JobStatus)
        How all jobs stand, whenever one stands otherwise than before.
    reported : Signal(JobStatus, list of Event)
        How a job stands and what it said since the last time, whenever there is news of it.
    lost : Signal(Path)
        A run folder that is not there any more, or cannot be read now.
    measured : Signal(Path, dict)
        Everything measured so far in the job named by `look_at`, by name and step.
    problem : Signal(str)
        A sentence for the user.

    Parameters
    ----------
    folders : callable
        Returns the run folders of the jobs, in the order in which they are shown; called in the thread.
    parent : QObject, optional
        With it the watch ends.
    """

    updated = Signal(list)
    reported = Signal(object, list)
    lost = Signal(object)
    measured = Signal(object, dict)
    problem = Signal(str)

    def __init__(self, folders: Callable[[], Sequence[Path]], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folders = folders
        self._jobs: dict[Path, Job] = {}
        self._curves: dict[Path, Curves] = {}  # of the chosen job alone
        self._statuses: dict[Path, JobStatus] = {}
        self._chosen: Path | None = None
        self._again = False
        self._thread = ThreadPoolExecutor(1, "jobs")
        self._looking: Future[_Found] | None = None
        self._orders: list[Future[str]] = []
        self._trouble = ""
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin to look."""
        self._timer.start()
        self._tick()

    def stop(self) -> None:
        """Look no more, until `start`; what the jobs do is not changed."""
        self._timer.stop()

    def forget(self) -> None:
        """Report every job anew at the next look, as somebody else wants to know, or of other jobs."""
        self._looking = None  # nobody wants to know what it finds
        self._jobs, self._statuses = {}, {}

    def close(self) -> None:
        """Look never again."""
        self._timer.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def look_at(self, folder: Path | None) -> None:
        """Choose the job whose curves are wanted."""
        self._chosen, self._again = folder, True

    def order(self, folder: Path, order: Order) -> None:
        """Tell a job to do something; an error comes as `problem`."""
        self._orders.append(self._thread.submit(_obey, folder, order))

    def _tick(self) -> None:
        """Take what the thread has found, and let it look again."""
        for done in [future for future in self._orders if future.done()]:
            self._orders.remove(done)
            if sentence := done.result():
                self.problem.emit(sentence)
        if self._looking is not None and not self._looking.done():
            return
        looked, self._looking = self._looking, self._thread.submit(self._look, self._chosen)
        if looked is not None and looked.exception() is None:
            self._trouble = ""
            self._take(looked.result())
        elif looked is not None and self._trouble != (trouble := f"The jobs cannot be seen: {looked.exception()}"):
            self._trouble = trouble  # once, not at each look
            self.problem.emit(trouble)

    def _take(self, found: _Found) -> None:
        for folder, status in found.statuses.items():
            if found.events[folder] or status != self._statuses.get(folder):
                self.reported.emit(status, found.events[folder])
        for folder in self._statuses.keys() - found.statuses.keys():
            self.lost.emit(folder)
        changed, again = found.statuses != self._statuses, self._again
        self._statuses = found.statuses
        self._again = again and found.chosen != self._chosen  # another was chosen while the thread looked
        if changed or again:
            self.updated.emit(list(found.statuses.values()))
        if (changed or again) and found.chosen is not None and found.chosen == self._chosen:
            self.measured.emit(found.chosen, found.curves)

    def _look(self, chosen: Path | None) -> _Found:
        """Poll; in the thread."""
        statuses, events = {}, {}
        for folder in self._folders():
            try:
                job = self._jobs[folder] if folder in self._jobs else self._jobs.setdefault(folder, Job(folder))
                statuses[job.folder], events[job.folder] = job.poll(), job.events()
            except (TokenUnifyError, OSError):  # removed meanwhile, damaged, or on a disk that does not answer now
                continue
        return _Found(statuses, events, chosen, self._measured(chosen) if chosen in statuses else {})

    def _measured(self, chosen: Path | None) -> dict[str, dict[int, float]]:
        """Return what was measured in the chosen job; in the thread."""
        if chosen is None:
            return {}
        if chosen not in self._curves:
            self._curves = {chosen: Curves(chosen)}
        return self._curves[chosen].read()


@dataclass(frozen=True)
class _Found:
    """What one look at the jobs has shown."""

    statuses: dict[Path, JobStatus]
    events: dict[Path, list[Event]]
    chosen: Path | None
    curves: dict[str, dict[int, float]]


def _obey(folder: Path, order: Order) -> str:
    """Pass an order on; in the thread. Return what went wrong, or nothing."""
    try:
        getattr(Job(folder), order)()
    except TokenUnifyError as error:
        return str(error)
    return ""
