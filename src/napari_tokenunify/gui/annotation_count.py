"""AnnotationCount: what the labels hold, counted in a thread shortly after they have changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QObject, QTimer, Signal

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.data import AnnotationSummary, Finding
    from napari_tokenunify.session import Session

_PAUSE_MS: Final = 1200  # after the last stroke
_REST: Final = 3  # times as long as a count took; so counting takes a quarter of a core at most


@dataclass(frozen=True, eq=False)
class Counted:
    """What was found.

    Attributes
    ----------
    summary : AnnotationSummary
        Numbers.
    findings : list of Finding
        What deserves a look.
    """

    summary: AnnotationSummary
    findings: list[Finding]


class AnnotationCount(QObject):
    """Counts the labels of a session's project; never two times at once.

    Attributes
    ----------
    counted : Signal(Counted)
        The labels as they are now.
    failed : Signal(str)
        Why they cannot be counted.
    largest : int or None
        An id as large as any neuron's, or larger; None before the first count.

    Parameters
    ----------
    session : Session
        Whose labels.
    parent : QObject
        With it the counting ends.
    """

    counted = Signal(object)
    failed = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self.largest: int | None = None
        self._took_ms, self._again = 0.0, False
        self._waiting: list[Callable[[], None]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.now)
        self._background = Background(self)
        self._background.done.connect(self._take)
        self._background.failed.connect(self._fail)

    def forget(self, largest: int | None = None) -> None:
        """Begin with other labels, of which perhaps the largest id is known."""
        self._timer.stop()
        self._background.forget()
        self._waiting.clear()
        self.largest, self._again = largest, False

    def painted(self, neuron: int) -> None:
        """Know that an id is in use now."""
        if self.largest is not None:
            self.largest = max(self.largest, neuron)
        self.soon()

    def soon(self) -> None:
        """Count once the brush rests."""
        self._timer.start(round(max(_PAUSE_MS, _REST * self._took_ms)))

    def now(self) -> None:
        """Count, or count again if that is under way."""
        self._timer.stop()
        if self._background.busy:
            self._again = True
            return
        try:
            opener = self._session.annotations_opener()
        except TokenUnifyError as error:
            self.failed.emit(str(error))
            return
        self._again = False

        def count() -> tuple[Counted, float]:
            from napari_tokenunify.data import check_annotations, summarise  # here, as they load much of SciPy

            started = time.perf_counter()
            annotations = opener()
            summary = summarise(annotations)
            counted = Counted(summary, check_annotations(annotations, summary))
            return counted, 1000 * (time.perf_counter() - started)

        self._background.start(count)

    def when_counted(self, act: Callable[[], None]) -> None:
        """Do something at once if `largest` is known, else after the first count."""
        if self.largest is not None:
            act()
        elif act not in self._waiting:
            self._waiting.append(act)
            if not self._background.busy:
                self.now()

    def _take(self, found: tuple[Counted, float]) -> None:
        counted, self._took_ms = found
        neurons = counted.summary.neurons
        self.largest = max(self.largest or 0, int(neurons.max()) if len(neurons) else 0)
        self.counted.emit(counted)
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()
        if self._again:
            self.soon()

    def _fail(self, problem: str) -> None:
        self._waiting.clear()
        self.failed.emit(problem)
