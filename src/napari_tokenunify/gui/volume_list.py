"""A list of volumes that can be added from files and folders, dropped, and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify import data
from napari_tokenunify.errors import DatasetChoiceError, TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.layers import LABEL_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QDragEnterEvent, QDropEvent

_ROWS = 4  # that are seen at once


class VolumeList(QWidget):
    """Addresses of volumes, each with its extent; what cannot be opened is not taken.

    Attributes
    ----------
    changed : Signal()
        Another one is in the list, or one less.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._wanted: list[str] = []  # being looked at
        self._looking = Background(self)
        self.list, self.problem = QListWidget(), QLabel()
        self.list.setToolTip("The images to learn from. Files and folders can be dropped here.")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideLeft)
        self.list.setFixedHeight(_ROWS * self.list.fontMetrics().height() + 4 * _ROWS)
        self.problem.setWordWrap(True)
        self.problem.hide()
        self.file, self.folder, self.remove = QPushButton("Add files..."), QPushButton("Add folder..."), QPushButton()
        self.remove.setText("Remove")
        self.file.setToolTip("Add images: TIFF, HDF5, MRC, NumPy...")
        self.folder.setToolTip("Add a Zarr or N5 store, or a folder of sections.")
        self.remove.setToolTip("Learn no longer from the volumes that are marked; nothing is deleted.")
        buttons, layout = QHBoxLayout(), QVBoxLayout(self)
        for button in (self.file, self.folder, self.remove):
            buttons.addWidget(button)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addLayout(buttons)
        layout.addWidget(self.problem)
        self.setAcceptDrops(True)
        self.file.clicked.connect(self._add_files)
        self.folder.clicked.connect(self._add_folder)
        self.remove.clicked.connect(self._remove)
        self.list.itemSelectionChanged.connect(self._allow)
        self._looking.done.connect(self._found)
        self._allow()

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is listed."""
        return tuple(self.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.list.count()))

    def start_with(self, address: str, words: str) -> None:
        """List one volume and no other."""
        self._looking.forget()
        self._wanted.clear()
        self.list.clear()
        self._say("")
        self._put(address, words)

    def add(self, paths: Sequence[str]) -> None:
        """Look at files or folders, in the background, and list what volumes they hold."""
        self._wanted += [path for path in paths if path not in self._wanted]
        wanted = tuple(self._wanted)
        self._say("Looking at it...")
        self._looking.start(lambda: [_volumes_in(path) for path in wanted])

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files and folders."""
        dropped = None if event is None else event.mimeData()
        if event is not None and dropped is not None and any(url.isLocalFile() for url in dropped.urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Add what is dropped."""
        dropped = None if event is None else event.mimeData()
        if dropped is not None:
            self.add([url.toLocalFile() for url in dropped.urls() if url.isLocalFile()])

    def _add_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Images to learn from")
        if chosen:
            self.add(chosen)

    def _add_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A Zarr or N5 store, or a folder of sections")
        if chosen:
            self.add([chosen])

    def _remove(self) -> None:
        for item in self.list.selectedItems():
            self.list.takeItem(self.list.row(item))
        self.changed.emit()

    def _found(self, found: list[tuple[list[tuple[str, str]], str]]) -> None:
        self._wanted.clear()
        for volumes, _ in found:
            for address, words in volumes:
                self._put(address, words)
        self._say(" ".join(problem for _, problem in found if problem))

    def _put(self, address: str, words: str) -> None:
        if address in self.addresses:
            return
        item = QListWidgetItem(f"{address}   {words}")
        item.setData(Qt.ItemDataRole.UserRole, address)
        item.setToolTip(f"{address}\n{words}")
        self.list.addItem(item)
        self.changed.emit()

    def _say(self, text: str) -> None:
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _allow(self) -> None:
        self.remove.setEnabled(bool(self.list.selectedItems()))


def extent_words(volume: data.Volume) -> str:
    """Return how large a volume is: `125x1250x1250, 40x4x4 nm`."""
    size = volume.voxel_size_nm
    nm = "voxel size unknown" if size is None else f"{'x'.join(f'{step:g}' for step in size)} nm"
    return f"{'x'.join(map(str, volume.shape))}, {nm}"


def _volumes_in(path: str) -> tuple[list[tuple[str, str]], str]:
    """Return address and extent of each image at a path, and what is wrong with it; in the thread."""
    try:
        return [(path, extent_words(data.open_volume(path)))], ""
    except DatasetChoiceError as error:
        names = [candidate.inner for candidate in error.candidates if not LABEL_WORDS.search(candidate.inner.lower())]
        found, problem = [], str(error)
        for address in (f"{path}::{name}" for name in names):
            try:
                found.append((address, extent_words(data.open_volume(address))))
            except TokenUnifyError as wrong:
                problem = str(wrong)
        return found, "" if found else problem
    except TokenUnifyError as error:
        return [], str(error)
