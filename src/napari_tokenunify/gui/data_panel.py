"""The step Data: choose an image, say its voxel size, start or open a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.errors import ConfigError, ProjectError, TokenUnifyError
from napari_tokenunify.gui.layers import layer_address
from napari_tokenunify.project import SUFFIX, whole_file

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.project import Project
    from napari_tokenunify.session import Session

_NM = {"nanometer": 1.0, "micrometer": 1000.0, "millimeter": 1e6, "angstrom": 0.1}


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
        self._filled_in = ""  # for which layer; what the user has changed stays
        self.image, self.voxel_size, self.folder = QComboBox(), QLineEdit(), QLineEdit()
        self.image.setToolTip("The image to segment: a layer of this viewer. Open or drop a file to have more of them.")
        self.voxel_size.setToolTip("Size of a voxel along z, y and x in nm; ask whoever imaged it if it is empty.")
        self.voxel_size.setPlaceholderText("z,y,x in nm, e.g. 40,4,4")
        self.folder.setToolTip("Where annotations, trained networks and segments are kept; the image is not copied.")
        self.start, self.open = QPushButton("Start project"), QPushButton("Open project...")
        self.start.setToolTip("Make the project folder; everything that is done from now on is kept in it.")
        self.open.setToolTip("Go on with a project: layers, jobs and results come back.")
        self.about = QLabel("Open an image in napari, then start a project.")
        self.about.setWordWrap(True)
        form = QFormLayout()
        form.addRow("image", self.image)
        form.addRow("voxel size", self.voxel_size)
        form.addRow("project", self.folder)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.start)
        layout.addWidget(self.open)
        layout.addWidget(self.about)
        layout.addStretch()
        self.image.currentTextChanged.connect(self._chosen)
        self.start.clicked.connect(self._start)
        self.open.clicked.connect(self._open)
        viewer.layers.events.inserted.connect(self._list_images)
        viewer.layers.events.removed.connect(self._list_images)
        session.project_opened.connect(self._opened)
        self._list_images()

    def _list_images(self, event: object = None) -> None:
        names = [layer.name for layer in self._viewer.layers if isinstance(layer, Image)]
        if names == [self.image.itemText(row) for row in range(self.image.count())]:
            return
        self.image.clear()
        self.image.addItems(names)
        self.start.setEnabled(bool(names))

    def _chosen(self, name: str) -> None:
        """Fill in what is known of the layer."""
        if name not in self._viewer.layers or name == self._filled_in:
            return
        self._filled_in = name
        layer = self._viewer.layers[name]
        size = _voxel_size_nm(layer)
        self.voxel_size.setText("" if size is None else ",".join(f"{step:g}" for step in size))
        source = layer_address(layer)
        place = Path(source.split("::")[0]).resolve().parent if source and "://" not in source else Path.home()
        self.folder.setText(str(place / f"{name.replace(' ', '-')}{SUFFIX}"))

    def _start(self) -> None:
        try:
            layer = self._viewer.layers[self.image.currentText()]
            folder = Path(self.folder.text()).expanduser()
            address = layer_address(layer) or _saved(layer, folder)
            layer.metadata.setdefault("tokenunify", {})["uri"] = address
            self._session.new_project(folder, address, self.voxel_size.text().strip() or None)
        except TokenUnifyError as error:
            show_error(str(error))
        except KeyError:
            show_error("The layer is not there any more: choose another image.")

    def _open(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Open a TokenUnify project", str(Path(self.folder.text()).parent)
        )
        if not chosen:
            return
        try:
            self._session.open_project(Path(chosen))
        except ProjectError as error:
            show_error(str(error))

    def _opened(self, project: Project) -> None:
        try:
            volume = self._session.volume
        except TokenUnifyError as error:
            self.about.setText(str(error))
            return
        size = "unknown" if volume.voxel_size_nm is None else "x".join(f"{step:g}" for step in volume.voxel_size_nm)
        shape = "x".join(map(str, volume.shape))
        self.about.setText(f"<b>{project.folder.name}</b><br>{shape} voxels (z, y, x) of {size} nm.")


def _saved(layer: Image, folder: Path) -> str:
    """Keep an image that is only in memory in the project, and return its address.

    Raises
    ------
    ConfigError
        If it has not three axes, or lies in no memory.
    ProjectError
        If it cannot be written.
    """
    data: Any = layer.data
    if not isinstance(data, np.ndarray) or data.ndim != 3:
        raise ConfigError(
            f"{layer.name}: is neither opened from a file nor a 3-D array (z, y, x) in memory: save it to a file, open "
            "that, and choose it here."
        )
    path = folder / "image.npy"
    with whole_file(path, ProjectError) as part, part.open("wb") as file:
        np.save(file, data, allow_pickle=False)
    return str(path)


def _voxel_size_nm(layer: Image) -> tuple[float, float, float] | None:
    """Return (z, y, x) in nm as a layer's scale and units say; None if its units are no lengths."""
    factors = [_NM.get(str(unit)) for unit in layer.units[-3:]]
    if layer.ndim < 3 or any(factor is None for factor in factors):
        return None
    z, y, x = (float(step) * (factor or 1.0) for step, factor in zip(layer.scale[-3:], factors, strict=True))
    return z, y, x
