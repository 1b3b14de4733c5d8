"""The step Data: choose an image, say its voxel size, start or open a project, and see what is odd about the data."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify import data
from napari_tokenunify.data.formats.placement import nm_per_unit
from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.data_check import DataCheck
from napari_tokenunify.gui.kept_layers import array_of, file_of, in_memory
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.opening import NewProject, open_image, open_volume_of
from napari_tokenunify.gui.readers import read
from napari_tokenunify.project import SUFFIX, check_place, project_around

if TYPE_CHECKING:
    from napari import Viewer
    from napari.types import LayerData
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_tokenunify.data import Volume
    from napari_tokenunify.geometry import VoxelSize
    from napari_tokenunify.project import Project
    from napari_tokenunify.session import Session

_OPEN: Final = "Open an image, or a project."
_START: Final = "Start a project next: labels, networks and segments are kept in its folder."
_ASK: Final = "The file does not say how large a voxel is: give it, or tick 'not known'."
_MARKED: Final = "QLineEdit { border: 2px solid #d97a1f; }"  # reads well on light and dark


class DataPanel(QWidget):
    """Choose what to work on.

    Parameters
    ----------
    viewer : Viewer
        Whose image layers are offered.
    session : Session
        Where the project is opened.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._filled_in: object = None  # for which layer; what the user has changed stays
        self._from_file = ""  # the voxel size as the file itself says it
        self._looking, self._reading = Background(self), Background(self)
        self._beginning, self._opening = Background(self), Background(self)
        self._make_choices()
        self._lay_out()
        self._connect()
        self.setAcceptDrops(True)
        self._list_images()
        self._say_what_is_missing()
        if session.is_open:
            self._opened(session.project)

    def _make_choices(self) -> None:
        self.image, self.voxel_size, self.folder = QComboBox(), QLineEdit(), QLineEdit()
        self.image.setToolTip("The image to segment: a layer of this viewer. Open or drop a file to have more of them.")
        self.voxel_size.setToolTip("Size of a voxel along z, y and x in nm; ask whoever imaged it if it is empty.")
        self.voxel_size.setPlaceholderText("z,y,x, e.g. 40,4,4")
        self.not_known = QCheckBox("not known")
        self.not_known.setToolTip("Go on without: then nobody can tell whether a network was made for such voxels.")
        self.folder.setToolTip("Where annotations, trained networks and segments are kept; the image is not copied.")
        self.file = QPushButton("&Open image")
        self.file.setToolTip("Open an image; it becomes a layer. Files can be dropped here, too.")
        menu = QMenu(self.file)
        menu.addAction("A file...", self._open_file)
        menu.addAction("A folder: Zarr, N5, sections...", self._open_folder)
        self.file.setMenu(menu)
        self.start, self.open = QPushButton("St&art project"), QPushButton("Op&en project...")
        self.start.setToolTip("Make the project folder; everything that is done from now on is kept in it.")
        self.open.setToolTip("Go on with a project: layers, jobs and results come back. Or drop its folder here.")
        self.hint, self.about = QLabel(), QLabel()
        for label in (self.hint, self.about):
            label.setWordWrap(True)
        self.check = DataCheck(self._viewer, self._session)

    def _lay_out(self) -> None:
        size, form = QHBoxLayout(), QFormLayout()
        size.addWidget(self.voxel_size, 1)
        size.addWidget(self.not_known)
        form.addRow("&image", self.image)
        form.addRow("vo&xel size (nm)", size)
        form.addRow("pro&ject folder", self.folder)
        for widget, place in ((self.voxel_size, size), (self.folder, self.folder)):
            label = form.labelForField(place)
            if isinstance(label, QLabel):
                label.setBuddy(widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 1)
        buttons.addWidget(self.open)
        layout = QVBoxLayout(self)
        layout.addWidget(self.file)
        layout.addLayout(form)
        layout.addWidget(self.hint)
        layout.addLayout(buttons)
        layout.addWidget(self.about)
        layout.addWidget(self.check)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.image.currentTextChanged.connect(self._chosen)
        self.voxel_size.textChanged.connect(self._say_what_is_missing)
        self.not_known.toggled.connect(self._say_what_is_missing)
        self.folder.textChanged.connect(self._say_what_is_missing)
        self.start.clicked.connect(self._start)
        self.open.clicked.connect(self._open)
        self._looking.done.connect(self._looked)
        self._reading.done.connect(self._add_layers)
        self._reading.failed.connect(self._fail)
        self._beginning.done.connect(self._begin)
        self._opening.done.connect(self._go_on)
        for work in (self._beginning, self._opening):
            work.failed.connect(self._fail)
        for event in ("inserted", "removed", "renamed"):
            getattr(self._viewer.layers.events, event).connect(self._list_images)
        listen(self._session.project_opened, self._opened)

    def open_path(self, *paths: str) -> None:
        """Open a project folder, or all else as layers, of which the first image is chosen; in a thread."""
        projects = [Path(path) for path in paths if (Path(path) / "project.json").exists()]
        if projects:
            self._open_project(projects[0])
        else:
            self._reading.start(lambda: read(list(paths)))
            self._say_what_is_missing()

    def _add_layers(self, found: list[LayerData]) -> None:
        self._say_what_is_missing()
        for layer_data in found:
            if layer_data[0] is None:
                continue
            layer = self._viewer.add_layer(Layer.create(*layer_data))
            if isinstance(layer, Image) and layer.visible:
                self.image.setCurrentText(layer.name)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files and folders."""
        dropped = None if event is None else event.mimeData()
        if event is not None and dropped is not None and any(url.isLocalFile() for url in dropped.urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open what is dropped."""
        dropped = None if event is None else event.mimeData()
        paths = [url.toLocalFile() for url in dropped.urls() if url.isLocalFile()] if dropped is not None else []
        if paths:
            self.open_path(*paths)

    def _open_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open an image")
        if chosen:
            self.open_path(chosen)

    def _open_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a Zarr or N5 store, or a folder of sections")
        if chosen:
            self.open_path(chosen)

    def _list_images(self, event: object = None) -> None:
        """Offer the images of the viewer, without what was computed in a project."""
        names = [
            layer.name
            for layer in self._viewer.layers
            if isinstance(layer, Image) and "project" not in layer.metadata.get("tokenunify", {})
        ]
        if names == [self.image.itemText(row) for row in range(self.image.count())]:
            return
        before = self.image.currentText()
        self.image.blockSignals(True)
        self.image.clear()
        self.image.addItems(names)
        self.image.setCurrentText(before)  # nothing happens if it is gone
        self.image.blockSignals(False)
        self._chosen(self.image.currentText())

    def _chosen(self, name: str) -> None:
        """Fill in what is known of the layer."""
        self._say_what_is_missing()
        layer = next((layer for layer in self._viewer.layers if layer.name == name), None)
        if layer is None or _same(layer) == self._filled_in:
            return
        self._filled_in, self._from_file = _same(layer), ""
        size = _voxel_size_nm(layer)
        self._fill_in_size(size, layer.metadata.get("tokenunify", {}).get("voxel_size_nm") is not None)
        source = file_of(layer)
        self.folder.setText(str(_place_of(source) / f"{name.replace(' ', '-')}{SUFFIX}"))
        self._looking.forget()
        if size is None and source is not None:  # another reader may have passed over what the file says
            self._looking.start(lambda: data.open_volume(source).voxel_size_nm)

    def _fill_in_size(self, size: VoxelSize | None, says_the_file: bool) -> None:
        text = "" if size is None else ",".join(f"{step:g}" for step in size)
        self._from_file = text if says_the_file else ""
        self.not_known.setChecked(False)
        self.voxel_size.setText(text)

    def _looked(self, size: VoxelSize | None) -> None:
        if size is not None and not self.voxel_size.text().strip():
            self._fill_in_size(size, True)

    def _say_what_is_missing(self, _: object = None) -> None:
        """Let the button wait until the voxel size is given, and say so where the user looks."""
        text, problem = self.voxel_size.text().strip(), ""
        chosen = self.image.currentText()
        self.not_known.setVisible(not text)
        self.voxel_size.setEnabled(not self.not_known.isChecked())
        if text:
            try:
                parse_voxel_size(text)
            except ConfigError as error:
                problem = str(error)
        elif chosen and not self.not_known.isChecked():
            problem = _ASK
        self.voxel_size.setStyleSheet(_MARKED if problem else "")
        self.hint.setText(problem)
        self.hint.setVisible(bool(problem))
        if not self._session.is_open:
            self.about.setText(_START if chosen else _OPEN)
        there, busy = self._existing(), self._beginning.busy or self._opening.busy
        self.start.setText("Opening..." if busy else "St&art project" if there is None else "Ope&n this project")
        ready = bool(chosen) and not problem if there is None else not self._is_open(there)
        self.start.setEnabled(ready and not busy)
        self.open.setEnabled(not busy)
        self.file.setText("Opening..." if self._reading.busy else "&Open image")
        self.file.setEnabled(not self._reading.busy)

    def _existing(self) -> Path | None:
        """Return the project that the folder's field names, if it is there."""
        text = self.folder.text().strip()
        around = project_around(Path(text)) if text else None
        return around if around is not None and around == Path(text).expanduser().resolve() else None

    def _is_open(self, folder: Path) -> bool:
        return self._session.is_open and self._session.project.folder == folder

    def _start(self) -> None:
        """Make a project once its image is open, and kept if it is in no file; or open the one that is there."""
        folder, there = Path(self.folder.text().strip()), self._existing()
        if there is not None:
            self._open_project(there)
            return
        try:
            layer = self._viewer.layers[self.image.currentText()]
            address = file_of(layer)
            array = in_memory(layer) if address is None else array_of(layer)
            check_place(folder)
            folder = folder.expanduser()
        except TokenUnifyError as error:
            show_error(str(error))
        except KeyError:
            show_error("The layer is not there any more: choose another image.")
        else:
            size = self.voxel_size.text().strip()
            z, y, x = np.divide(layer.translate[-3:], layer.scale[-3:]).tolist()
            new = NewProject(layer.name, folder, size if size and size != self._from_file else None, (z, y, x))
            self._beginning.start(lambda: open_image(new, address, array))
            self._say_what_is_missing()

    def _begin(self, found: tuple[NewProject, str, Volume]) -> None:
        """Open the new project of an image that is open now."""
        new, address, volume = found
        self._say_what_is_missing()
        if new.layer in self._viewer.layers:
            layer = self._viewer.layers[new.layer]
            layer.metadata.setdefault("tokenunify", {})["uri"] = address
            self._filled_in = _same(layer)  # as it is replaced by one of the project
        try:
            self._session.new_project(new.folder, address, new.voxel_size, volume)
        except TokenUnifyError as error:
            show_error(str(error))

    def _fail(self, problem: str) -> None:
        self._say_what_is_missing()
        show_error(problem)

    def _open(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Open a TokenUnify project", str(Path(self.folder.text()).parent)
        )
        if chosen:
            self._open_project(Path(chosen))

    def _open_project(self, folder: Path) -> None:
        self._opening.start(lambda: open_volume_of(folder))
        self._say_what_is_missing()

    def _go_on(self, found: tuple[Path, Volume | None]) -> None:
        """Open a project whose volume is open now."""
        self._say_what_is_missing()
        try:
            self._session.open_project(*found)
        except TokenUnifyError as error:
            show_error(str(error))

    def _opened(self, project: Project) -> None:
        """Say what is open."""
        self._say_what_is_missing()
        try:
            volume = self._session.volume
        except TokenUnifyError as error:
            self.about.setText(str(error))
            return
        size = "unknown" if volume.voxel_size_nm is None else "x".join(f"{step:g}" for step in volume.voxel_size_nm)
        shape = "x".join(map(str, volume.shape))
        self.about.setText(f"<b>{project.folder.name}</b><br>{shape} voxels (z, y, x) of {size} nm.")


def _same(layer: Image) -> tuple[str, object]:
    """Return what two layers have alike if one takes the place of the other: the name, and the file if there is one."""
    return layer.name, file_of(layer) or weakref.ref(layer)


def _place_of(source: str | None) -> Path:
    """Return where a project of a file is proposed: beside the file, or beside the project that it lies in."""
    if source is None or "://" in source:
        return Path.home()
    path = Path(source.split("::")[0]).resolve()
    return (project_around(path) or path).parent


def _voxel_size_nm(layer: Image) -> VoxelSize | None:
    """Return (z, y, x) in nm as a layer's scale and units say; None if its units are no lengths."""
    factors = [nm_per_unit(unit) for unit in layer.units[-3:]]
    if layer.ndim < 3 or any(factor is None for factor in factors):
        return None
    z, y, x = (float(step) * (factor or 1.0) for step, factor in zip(layer.scale[-3:], factors, strict=True))
    return z, y, x
