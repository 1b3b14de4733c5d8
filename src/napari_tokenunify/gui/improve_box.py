"""ImproveBox: the button that lets the network learn from edits, and says in words what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.improvement import LABELS, STEPS

if TYPE_CHECKING:
    from napari_tokenunify.improvement import Improvement
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session

_WHAT: Final = (
    "What you merged, split and marked correct becomes labels, beside those you painted. The network learns from them "
    "({minutes:g} min), predicts anew, and makes new segments, on which all your edits are made again. Your segments "
    "stay as they are until then, and are kept."
)


class ImproveBox(QWidget):
    """Starts an improvement and tells how it stands.

    Parameters
    ----------
    session : Session
        Whose project.
    improvement : Improvement
        Does it.
    """

    def __init__(self, session: Session, improvement: Improvement) -> None:
        super().__init__()
        self._session, self._improvement = session, improvement
        self.words, self.button = QLabel(), QPushButton("Improve")
        self.words.setWordWrap(True)
        self.button.setToolTip("Four jobs, one after the other; each is in the list of jobs, and can be stopped there.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.button)
        layout.addWidget(CopyButtons(LABELS, improvement.labels_config))
        self.button.clicked.connect(self._press)
        listen(improvement.changed, self.tell)
        listen(session.state_changed, self.tell)
        self.tell()

    def tell(self) -> None:
        """Say how it stands."""
        job = self._improvement.job
        self.button.setText("Improve" if job is None else "Leave it at that")
        if job is None:
            minutes = self._session.state.minutes if self._session.is_open else 5.0
            self.words.setText(_WHAT.format(minutes=minutes))
        else:
            self.words.setText(_standing(job))

    def _press(self, _: object = None) -> None:
        try:
            if self._improvement.job is None:
                self._improvement.begin()
            else:
                self._improvement.end()
        except TokenUnifyError as error:
            show_error(str(error))


def _standing(job: JobStatus) -> str:
    """Return which of the steps is at work."""
    number = list(STEPS).index(job.stage) + 1
    words = f"<b>Step {number} of {len(STEPS)}</b>: {STEPS[job.stage]} ({job.name}, {job.state})."
    if job.state.final:
        return f"{words} Resume it in the list of jobs to go on, or leave it at that."
    return f"{words} You may go on proofreading: every edit is taken along."
