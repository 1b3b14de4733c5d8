"""DataCheck: what may spoil the segmentation of a project's data; computed once, then remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.events import Progress
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.finding_list import FindingList, go_to
from napari_tokenunify.gui.kept_findings import check_and_keep, kept_findings
from napari_tokenunify.gui.listening import listen

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QShowEvent

    from napari_tokenunify.data import Finding
    from napari_tokenunify.project import Project
    from napari_tokenunify.session import Session


class DataCheck(QWidget):
    """A button, and what the check has found; a new project is checked by itself.

    Parameters
    ----------
    viewer : Viewer
        Jumps to what was found.
    session : Session
        Whose volume.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._session = session
        self.button, self.progress = QPushButton("&Check the data"), QProgressBar()
        self.button.setToolTip("Look for what may spoil a segmentation: blank, moved or repeated sections, and more.")
        self.about, self.findings = QLabel(), FindingList()
        self.about.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.progress, self.about, self.findings):
            layout.addWidget(widget)
        self._background = Background(self)
        self._background.done.connect(self._show)
        self._background.reported.connect(self._show_progress)
        self._background.failed.connect(self._end)
        self.button.clicked.connect(self.start)
        self.findings.go_to.connect(lambda target: go_to(viewer, session.volume, target))
        self._is_new = False
        self.hide()
        listen(session.project_opened, self._opened)
        if session.is_open:
            self._opened(session.project)

    def start(self, _: object = None) -> None:
        """Check the data, in the background."""
        try:
            volume, path = self._session.volume, self._session.project.preflight
        except TokenUnifyError as error:
            self._end(str(error))
            return
        self.button.setEnabled(False)
        self.progress.setRange(0, 0)
        self.progress.show()
        self.about.hide()
        self.findings.show_findings(())
        self._background.start(lambda: check_and_keep(volume, path))

    def _opened(self, project: Project) -> None:
        self._background.forget()
        self._is_new = True
        self.hide()
        self.show()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show what is known, once somebody looks; what was never checked is checked now."""
        super().showEvent(event)
        if not self._is_new:
            return
        self._is_new = False
        found = kept_findings(self._session.project.preflight)
        if found is None:
            self.start()
        else:
            self._show(found)

    def _show_progress(self, event: object) -> None:
        if isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            self.progress.setFormat(f"{event.what} %p %")

    def _show(self, findings: list[Finding]) -> None:
        self._end(_count(findings))
        self.button.setText("&Check the data again")
        self.findings.show_findings(findings)

    def _end(self, text: str) -> None:
        self.progress.hide()
        self.button.setEnabled(True)
        self.about.setText(text)
        self.about.show()


def _count(findings: list[Finding]) -> str:
    """Return how many findings there are, in words."""
    if not findings:
        return "The data were checked: nothing odd was found."
    grave = sum(finding.severity == "error" for finding in findings)
    listing = f"{len(findings)} thing{'s' * (len(findings) > 1)} to know"
    return f"The data were checked: {listing}{f', {grave} of them in the way' if grave else ''}."
