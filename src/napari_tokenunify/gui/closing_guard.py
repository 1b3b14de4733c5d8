"""ClosingGuard: jobs go on when napari is closed, unless the user wants them to stop; so she is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_tokenunify.errors import TokenUnifyError

if TYPE_CHECKING:
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session


class ClosingGuard(QObject):
    """Asks before the window that holds a widget is closed while jobs of the project are at work.

    Parameters
    ----------
    widget : QWidget
        In a dock of napari's window, sooner or later; the guard ends with it.
    session : Session
        Whose jobs.
    """

    def __init__(self, widget: QWidget, session: Session) -> None:
        super().__init__(widget)
        self._widget, self._session = widget, session
        self._window: QMainWindow | None = None
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Find the window once the widget is shown in it; ask when it is closed."""
        if event is None:
            return False
        if watched is self._widget and event.type() == QEvent.Type.Show and self._window is None:
            self._window = _main_window(self._widget)
            if self._window is not None:
                self._window.installEventFilter(self)
        elif watched is self._window and event.type() == QEvent.Type.Close and not self._may_close():
            event.ignore()
            return True
        return False

    def _may_close(self) -> bool:
        """Ask what becomes of the jobs, if there are any; False if the window shall stay."""
        working = [status for status in self._session.jobs if not status.state.final]
        if not working:
            return True
        question = _question(working, self._widget)
        stop = question.addButton("Stop", QMessageBox.ButtonRole.DestructiveRole)
        stay = question.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        leave = question.addButton("Leave running", QMessageBox.ButtonRole.AcceptRole)
        question.setDefaultButton(leave)
        question.setEscapeButton(stay)
        question.exec()
        if question.clickedButton() is stop:
            self._stop(working)
        return question.clickedButton() is not stay

    def _stop(self, working: list[JobStatus]) -> None:
        for status in working:
            try:
                self._session.job(status.folder).stop()
            except TokenUnifyError as error:  # gone meanwhile, or out of reach
                self._session.said.emit(str(error), "warning")


def _question(working: list[JobStatus], parent: QWidget) -> QMessageBox:
    """Say what is at work, and what happens to it."""
    names = ", ".join(_standing(status) for status in working)
    question = QMessageBox(parent)
    question.setIcon(QMessageBox.Icon.Question)
    question.setWindowTitle("TokenUnify is at work")
    question.setText(f"At work: {names}.")
    question.setInformativeText(
        "Left running, it goes on without napari, and the project shows how it went. "
        "Stopped, it ends after its step with a checkpoint, and can be resumed."
    )
    return question


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
