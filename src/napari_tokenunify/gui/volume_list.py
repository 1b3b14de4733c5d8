"""A list of volumes that can be added from files and folders, dropped, and removed; each has its voxel size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify import data
from napari_tokenunify.errors import ConfigError, DatasetChoiceError, TokenUnifyError
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.layers import LABEL_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_tokenunify.geometry import Triple, VoxelSize

_ROWS = 4  # that are seen at once


@dataclass(frozen=True)
class Listed:
    """A volume in the list.

    Attributes
    ----------
    address : str
        A path, or an address.
    shape : tuple of int or None
        Its voxels (z, y, x); None where it could not be opened.
    in_file : tuple of float or None
        The voxel size (z, y, x) in nm that the file says.
    given : str
        The voxel size that the user says instead, as she wrote it; empty if she says none.
    """

    address: str
    shape: Triple | None = None
    in_file: VoxelSize | None = None
    given: str = ""

    @property
    def size(self) -> VoxelSize | None:
        """The voxel size in nm that counts; None if it is unknown.

        Raises
        ------
        ConfigError
            If what is given is none.
        """
        return parse_voxel_size(self.given) if self.given else self.in_file

    @property
    def words(self) -> str:
        """How large it is: `40x4x4 nm, 125x1250x1250`."""
        try:
            size = self.size
        except ConfigError:
            size = None
        nm = "voxel size unknown" if size is None else f"{'x'.join(f'{step:g}' for step in size)} nm"
        return f"{nm}, {'x'.join(map(str, self.shape))}" if self.shape else nm

    @property
    def name(self) -> str:
        """The last part of the address."""
        where, mark, inner = self.address.partition("::")
        return f"{Path(where).name or where}{mark}{inner}"


class VolumeList(QWidget):
    """Addresses of volumes, each with its extent and voxel size; what cannot be opened is not taken.

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
        self.list, self.size, self.problem = QListWidget(), QLineEdit(), QLabel()
        self._trouble = ""  # what could not be opened
        self.list.setToolTip("The images to learn from. Files and folders can be dropped here.")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideLeft)
        self.list.setFixedHeight(_ROWS * self.list.fontMetrics().height() + 4 * _ROWS)
        self.size.setPlaceholderText("z,y,x in nm, e.g. 40,4,4")
        self.size.setToolTip("Along z, y and x in nm, of the volumes marked above; empty takes what the file says.")
        self.problem.setWordWrap(True)
        self.problem.hide()
        self.file, self.folder, self.remove = QPushButton("Add files..."), QPushButton("Add folder..."), QPushButton()
        self.remove.setText("Remove")
        self.file.setToolTip("Add images: TIFF, HDF5, MRC, NumPy...")
        self.folder.setToolTip("Add a Zarr or N5 store, or a folder of sections.")
        self.remove.setToolTip("Learn no longer from the volumes that are marked; nothing is deleted.")
        buttons, size, layout = QHBoxLayout(), QHBoxLayout(), QVBoxLayout(self)
        for button in (self.file, self.folder, self.remove):
            buttons.addWidget(button)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        size.addWidget(QLabel("its voxel size"))
        size.addWidget(self.size, 1)
        layout.addLayout(size)
        layout.addWidget(self.problem)
        layout.addLayout(buttons)
        self.setAcceptDrops(True)
        self.file.clicked.connect(self._add_files)
        self.folder.clicked.connect(self._add_folder)
        self.remove.clicked.connect(self._remove)
        self.list.itemSelectionChanged.connect(self._allow)
        self.size.textEdited.connect(self._take_size)
        self._looking.done.connect(self._found)
        self._allow()

    @property
    def addresses(self) -> tuple[str, ...]:
        """What is listed."""
        return tuple(listed.address for listed in self._listed)

    def voxel_sizes(self) -> str | None:
        """Return what the user says of the volumes' voxel sizes, as `PretrainConfig` takes it; None for nothing.

        Raises
        ------
        ConfigError
            If one of them is no voxel size.
        """
        for listed in self._listed:
            if listed.given:
                parse_voxel_size(listed.given)
        given = ["".join(listed.given.split()) or "file" for listed in self._listed]
        return " ".join(given) if any(word != "file" for word in given) else None

    def start_with(self, listed: Listed) -> None:
        """List one volume and no other."""
        self._looking.forget()
        self._wanted.clear()
        self.list.clear()
        self._trouble = ""
        self._put(listed)

    def add(self, paths: Sequence[str]) -> None:
        """Look at files or folders, in the background, and list what volumes they hold."""
        self._wanted += [path for path in paths if path not in self._wanted]
        wanted = tuple(self._wanted)
        self.problem.setText("Looking at it...")
        self.problem.show()
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
        self._say()
        self.changed.emit()

    def _found(self, found: list[tuple[list[Listed], str]]) -> None:
        self._wanted.clear()
        self._trouble = " ".join(problem for _, problem in found if problem)
        new = [self._put(listed) for volumes, _ in found for listed in volumes if listed.address not in self.addresses]
        unknown = [item for item in new if _read(item).size is None]
        if unknown:  # so that their size can be written at once
            self.list.clearSelection()
            for item in unknown:
                item.setSelected(True)
        self._say()

    def _put(self, listed: Listed) -> QListWidgetItem:
        item = QListWidgetItem()
        _write(item, listed)
        self.list.addItem(item)
        self._say()
        self.changed.emit()
        return item

    def _take_size(self, text: str) -> None:
        """Give the volumes that are marked the voxel size that is being written."""
        for item in self.list.selectedItems():
            _write(item, replace(_read(item), given=text.strip()))
        self._say()
        self.changed.emit()

    @property
    def _listed(self) -> list[Listed]:
        return [_read(self.list.item(row)) for row in range(self.list.count())]

    def _say(self) -> None:
        """Say what could not be opened, and which voxel sizes are missing or wrong."""
        said, unknown = [self._trouble], []
        for listed in self._listed:
            try:
                if listed.size is None and listed.shape is not None:
                    unknown.append(listed.name)
            except ConfigError as error:
                said.append(str(error))
        if unknown:
            them = "them" if len(unknown) > 1 else "it"
            said.append(f"The voxel size of {', '.join(unknown)} is unknown: mark {them} and write it above.")
        text = " ".join(filter(None, said))
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _allow(self) -> None:
        """Let what is marked be removed, and show its voxel size if it is one."""
        marked = [_read(item) for item in self.list.selectedItems()]
        self.remove.setEnabled(bool(marked))
        self.size.setEnabled(bool(marked))
        sizes = {listed.given or _comma(listed.in_file) for listed in marked}
        self.size.setText(sizes.pop() if len(sizes) == 1 else "")


def listed_volume(address: str, volume: data.Volume, given: str = "") -> Listed:
    """Return the entry of a volume that was opened, with the voxel size `given` if there is one."""
    return Listed(address, volume.shape, None if given else volume.voxel_size_nm, given)


def _read(item: QListWidgetItem) -> Listed:
    listed: Listed = item.data(Qt.ItemDataRole.UserRole)
    return listed


def _write(item: QListWidgetItem, listed: Listed) -> None:
    item.setData(Qt.ItemDataRole.UserRole, listed)
    item.setText(f"{listed.name}   {listed.words}")
    item.setToolTip(f"{listed.address}\n{listed.words}{', as you say' if listed.given else ''}")


def _comma(size: VoxelSize | None) -> str:
    return "" if size is None else ",".join(f"{step:g}" for step in size)


def _volumes_in(path: str) -> tuple[list[Listed], str]:
    """Return the images at a path, and what is wrong with it; in the thread."""
    try:
        return [listed_volume(path, data.open_volume(path))], ""
    except DatasetChoiceError as error:
        names = [candidate.inner for candidate in error.candidates if not LABEL_WORDS.search(candidate.inner.lower())]
        found, problem = [], str(error)
        for address in (f"{path}::{name}" for name in names):
            try:
                found.append(listed_volume(address, data.open_volume(address)))
            except TokenUnifyError as wrong:
                problem = str(wrong)
        return found, "" if found else problem
    except TokenUnifyError as error:
        return [], str(error)
