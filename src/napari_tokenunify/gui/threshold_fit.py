"""ThresholdFit: finds the threshold at which segments agree best with the labels, after each segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.project import Project
    from napari_tokenunify.segment.tuning import Tuning
    from napari_tokenunify.session import Session

_WORDS = "fit to labels"


class ThresholdFit(QCheckBox):
    """While it is checked, each new segmentation gets the threshold that suits the labels best.

    Attributes
    ----------
    fitted : Signal(float)
        The threshold that was found.

    Parameters
    ----------
    session : Session
        Whose segmentation and labels.
    """

    fitted = Signal(float)

    def __init__(self, session: Session) -> None:
        super().__init__(_WORDS)
        self._session, self._is_asked = session, False
        self.setToolTip(
            "Try all thresholds on your labels, and take the one with the least error (VOI): now, and after each "
            "segmentation, until you move the slider yourself. Best on labelled neurons that touch."
        )
        self.setChecked(not session.is_open or session.state.fits_labels)
        self._work = Background(self)
        self._work.done.connect(self._take)
        self._work.failed.connect(self._fail)
        self.clicked.connect(self._click)
        listen(session.job_ended, self._follow)
        listen(session.segmentation_changed, self._forget)
        listen(session.project_opened, self._opened)
        listen(session.job_changed, self._make_way)

    def let_go(self) -> None:
        """Leave the threshold to the user."""
        self._forget()
        self._keep(wanted=False)

    def _click(self) -> None:
        if self.isChecked():
            self._keep(wanted=True)
            self._begin(is_asked=True)
        else:
            self.let_go()

    def _opened(self, project: Project) -> None:
        self._forget()
        self.setChecked(project.state.fits_labels)

    def _keep(self, *, wanted: bool) -> None:
        """Check it or not, and remember that in the project."""
        self.setChecked(wanted)
        if not self._session.is_open or self._session.state.fits_labels == wanted:
            return
        try:
            self._session.change(fits_labels=wanted)
        except TokenUnifyError as error:
            show_error(str(error))

    def _follow(self, status: JobStatus) -> None:
        """Fit what a job has just made; of edits that are carried along, when they are there."""
        if status.state == JobState.DONE and status.stage in {"segment", "proofread carry"} and self.isChecked():
            self._begin(is_asked=False)

    def _make_way(self, status: JobStatus) -> None:
        """Read no folder that a segmentation is about to overwrite."""
        if status.stage == "segment" and not status.state.final:
            self._work.forget()

    def _forget(self) -> None:
        self._work.forget()
        self.setText(_WORDS)

    def _begin(self, *, is_asked: bool) -> None:
        self._is_asked = is_asked
        segmentation = self._session.segmentation
        try:
            opener = self._session.annotations_opener()
        except TokenUnifyError as error:
            self._fail(str(error))
            return
        if segmentation is None:
            self._fail("There are no segments yet: segment first.")
        elif not self._session.is_carrying:
            self._work.start(_search(segmentation, opener))

    def _take(self, found: Tuning) -> None:
        best = min(point.voi_split + point.voi_merge for point in found.curve)
        self.setText(f"{_WORDS} (VOI {best:.2f})")
        self.fitted.emit(found.value)

    def _fail(self, sentence: str) -> None:
        """Say why not, if somebody asked; after a segmentation nobody did."""
        if self._is_asked:
            show_error(sentence)
            self._keep(wanted=False)


def _search(segmentation: Any, opener: Callable[[], Any]) -> Callable[[], Generator[None, None, Tuning]]:
    def search() -> Generator[None, None, Tuning]:
        from napari_tokenunify.segment import tune_segmentation  # late, as the window opens without it

        return tune_segmentation(segmentation, opener())

    return search
