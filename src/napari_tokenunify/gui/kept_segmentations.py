"""KeptSegments: the segmentations from before that a project keeps with their edits, and a way to be rid of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QComboBox, QGroupBox, QHBoxLayout, QLabel, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.export_panel import size_words
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.segmentations import delete_kept, look_at_kept

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtGui import QShowEvent

    from napari_tokenunify.segmentations import KeptSegmentation
    from napari_tokenunify.session import Session


class KeptSegments(QGroupBox):
    """A list of the segmentations from before, which is not seen as long as there are none.

    Attributes
    ----------
    list : QComboBox
        Them, the oldest first.
    delete : QPushButton
        Asks, then deletes the one that is chosen.

    Parameters
    ----------
    session : Session
        Whose project.
    """

    def __init__(self, session: Session) -> None:
        super().__init__("Segments from before")
        self._session = session
        self.list, self.delete = QComboBox(), QPushButton("Delete...")
        self.list.setToolTip("Kept with their edits when other segments were made; they can be opened from the disk.")
        self.list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.delete.setToolTip("Free its room on the disk; asks first. What is shown now stays.")
        words, row, layout = (
            QLabel("Not in use any more; they take room on the disk."),
            QHBoxLayout(),
            QVBoxLayout(self),
        )
        words.setWordWrap(True)
        row.addWidget(self.list, 1)
        row.addWidget(self.delete)
        layout.addWidget(words)
        layout.addLayout(row)
        self._looking, self._deleting = Background(self), Background(self)
        self._at_work: set[Path] = set()
        self._looking.done.connect(self._show)
        self._looking.failed.connect(show_error)
        self._deleting.done.connect(self.refresh)
        self._deleting.failed.connect(self._fail)
        self.delete.clicked.connect(self._delete)
        listen(session.project_opened, self.refresh)
        listen(session.segmentation_changed, self.refresh)
        listen(session.job_changed, self._follow)
        self.setVisible(False)

    @property
    def busy(self) -> bool:
        """Whether one is being deleted, or they are being looked at."""
        return self._looking.busy or self._deleting.busy

    def refresh(self, _: object = None) -> None:
        """Look anew which there are."""
        folders = self._session.kept_segmentations if self._session.is_open else []
        if folders:
            self._looking.start(lambda: [look_at_kept(folder) for folder in folders])
        else:
            self._looking.forget()
            self._show([])

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look anew: edits are added to what is kept by nobody, but another program may have deleted one."""
        super().showEvent(event)
        self.refresh()

    def _follow(self) -> None:
        """Offer none that a job is at work on, and those again that it has left."""
        at_work = {job.folder for job in self._session.jobs if not job.state.final}
        if self._session.is_open and at_work != self._at_work:
            self._at_work = at_work
            self.refresh()

    def _show(self, found: list[KeptSegmentation]) -> None:
        chosen = self._chosen()
        self.list.clear()
        for kept in found:
            self.list.addItem(_line(kept), kept)
        folders = [kept.folder for kept in found]
        if chosen is not None and chosen.folder in folders:
            self.list.setCurrentIndex(folders.index(chosen.folder))
        self._allow()
        if self.isHidden() == bool(found):
            self.setVisible(bool(found))

    def _chosen(self) -> KeptSegmentation | None:
        kept: KeptSegmentation | None = self.list.currentData()
        return kept

    def _allow(self) -> None:
        self.delete.setEnabled(self.list.count() > 0 and not self._deleting.busy)
        self.delete.setText("Deleting..." if self._deleting.busy else "Delete...")

    def _delete(self) -> None:
        kept = self._chosen()
        if kept is None or not _is_sure(kept, self._session.project.segmentation.name, self):
            return
        project, folder = self._session.project, kept.folder
        try:
            self._be_free(folder)
        except SegmentError as error:
            show_error(str(error))
            return
        self._deleting.start(lambda: delete_kept(project, folder))
        self._allow()

    def _be_free(self, folder: Path) -> None:
        """Refuse what has come into use while the user was asked."""
        if folder not in self._session.kept_segmentations:
            raise SegmentError(f"{folder.name} is in use by now, and is not deleted.")

    def _fail(self, sentence: str) -> None:
        show_error(sentence)
        self.refresh()


def _is_sure(kept: KeptSegmentation, used: str, parent: QWidget) -> bool:
    """Say what would be lost, and ask."""
    question = QMessageBox(parent)
    question.setIcon(QMessageBox.Icon.Warning)
    question.setWindowTitle("Delete segments")
    question.setText(f"Delete {kept.folder.name}, with {_edits(kept)}, for ever?")
    question.setInformativeText(
        f"It was changed last on {kept.changed:%Y-%m-%d at %H:%M}, and takes {size_words(kept.size)}. "
        f"What is in use now, {used}, stays, with the edits that went along. This cannot be undone."
    )
    yes = question.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
    no = question.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
    question.setDefaultButton(no)
    question.setEscapeButton(no)
    question.exec()
    return question.clickedButton() is yes


def _line(kept: KeptSegmentation) -> str:
    return f"{kept.folder.name}: {_edits(kept)}, {kept.changed:%Y-%m-%d}, {size_words(kept.size)}"


def _edits(kept: KeptSegmentation) -> str:
    if kept.edits is None:
        return "edits that cannot be read"
    return f"{kept.edits:,} edit{'s' * (kept.edits != 1)}" if kept.edits else "no edits"
