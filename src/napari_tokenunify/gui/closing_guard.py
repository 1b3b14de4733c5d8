"""ClosingGuard: jobs go on when napari is closed, unless the user wants them to stop; so she is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.preferences import on_closing

if TYPE_CHECKING:
    from napari_tokenunify.gui.preferences import Closing
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session


class ClosingGuard(QObject):
    """Asks before napari's window is closed while jobs of the project are at work.

    Parameters
    ----------
    session : Session
        Whose jobs.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._window: QMainWindow | None = None

    def attend(self, widget: QWidget) -> None:
        """Find napari's window as soon as a widget is shown in it."""
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Find the window once a widget is shown in it; ask when it is closed."""
        if event is None:
            return False
        if event.type() == QEvent.Type.Show and self._window is None and isinstance(watched, QWidget):
            self._window = _main_window(watched)
            if self._window is not None:
                self._window.installEventFilter(self)
        elif event.type() == QEvent.Type.Close and watched is self._window and not self._may_close():
            event.ignore()
            return True
        return False

    def _may_close(self) -> bool:
        """Ask what becomes of the jobs, if there are any; False if the window shall stay."""
        working = [status for status in self._session.jobs if not status.state.final]
        if not working:
            return True
        answer: Closing | None = on_closing()
        if answer == "ask":
            answer = _asked(working, self._window)
        if answer == "stop":
            self._stop(working)
        return answer is not None

    def _stop(self, working: list[JobStatus]) -> None:
        for status in working:
            try:
                self._session.job(status.folder).stop()
            except TokenUnifyError as error:  # gone meanwhile, or out of reach
                self._session.said.emit(str(error), "warning")


def _asked(working: list[JobStatus], parent: QWidget | None) -> Closing | None:
    """Say what is at work, and ask what becomes of it; None if the window shall stay."""
    names = ", ".join(_standing(status) for status in working)
    question = QMessageBox(parent)
    question.setIcon(QMessageBox.Icon.Question)
    question.setWindowTitle("TokenUnify is at work")
    question.setText(f"At work: {names}.")
    question.setInformativeText(
        "Left running, it goes on without napari, and the project shows how it went. "
        "Stopped, it ends after its step with a checkpoint, and can be resumed. "
        "The Preferences can answer this once and for all."
    )
    stop = question.addButton("Stop", QMessageBox.ButtonRole.DestructiveRole)
    stay = question.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
    leave = question.addButton("Leave running", QMessageBox.ButtonRole.AcceptRole)
    question.setDefaultButton(leave)
    question.setEscapeButton(stay)
    question.exec()
    answers: dict[object, Closing] = {stop: "stop", leave: "leave running"}
    return answers.get(question.clickedButton())


def _standing(status: JobStatus) -> str:
    progress = status.progress
    if progress is None or not progress.total:
        return status.name
    return f"{status.name} ({100 * progress.done / progress.total:.0f} %)"


def _main_window(widget: QWidget) -> QMainWindow | None:
    """Return the window that a widget belongs to, be its dock afloat or not."""
    parent: QWidget | None = widget
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent
