"""TakeLabels: labels that exist, from a file, a folder or a layer of the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
from napari.layers import Labels, Points
from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QMenu, QPushButton, QWidget

from napari_tokenunify.data.annotation_files import drawing_files
from napari_tokenunify.data.drawn_labels import Unit
from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.kept_layers import Nodes, file_of, finest, in_memory, keep_array, keep_skeletons

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Layer

    from napari_tokenunify.session import Session


class TakeLabels(QWidget):
    """Choose labels, points or skeletons that training is to learn from.

    Attributes
    ----------
    chosen : Signal(str)
        The address of something that `open_annotations` may open.

    Parameters
    ----------
    viewer : Viewer
        Whose layers are offered.
    session : Session
        In whose project layers are kept that are in no file.
    """

    chosen = Signal(object)

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self.file, self.layers, self.take = QPushButton("F&rom a file"), QComboBox(), QPushButton("&Use")
        self.file.setToolTip("A label volume, points as CSV, or skeletons as SWC, made on this image.")
        menu = QMenu(self.file)
        menu.addAction("A file...", self._choose_file)
        menu.addAction("A folder: Zarr, N5, SWC files...", self._choose_folder)
        self.file.setMenu(menu)
        self.layers.setToolTip("A Labels or Points layer. Of points, a column id says which neuron they lie in.")
        self.layers.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.take.setToolTip("Learn from this layer; one that is in no file is copied into the project.")
        self.unit = QComboBox()
        self.unit.addItems(get_args(Unit))
        self.unit.setCurrentText("nm")
        self.unit.setToolTip("What the coordinates in SWC files count; the files do not say it.")
        self.dense = QCheckBox("&0 is boundary")
        self.dense.setToolTip("For dense labels, where 0 is membrane or outside; else 0 is unlabelled.")
        row, form = QHBoxLayout(), QFormLayout(self)
        row.addWidget(self.layers, 1)
        row.addWidget(self.take)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.file)
        form.addRow("from a layer", row)
        form.addRow("unit of SWC", self.unit)
        form.addRow("", self.dense)
        self._background = Background(self)
        self._background.done.connect(self.chosen)
        self._background.failed.connect(show_error)
        for ended in (self._background.done, self._background.failed):
            ended.connect(self._allow)
        self.take.clicked.connect(self._take_layer)
        for event in ("inserted", "removed", "renamed"):
            getattr(viewer.layers.events, event).connect(self._list_layers)
        self._list_layers()

    def take_file(self, uri: str) -> None:
        """Learn from a file or folder; skeletons are put into voxels first."""
        location = Location.parse(uri)
        files = () if location.is_remote or location.inner else drawing_files(location.path)
        if not files or files[0].suffix.lower() != ".swc":
            self.chosen.emit(uri)
            return
        try:
            volume, path = self._session.volume, self._session.place_for("skeletons.csv")
        except TokenUnifyError as error:
            show_error(str(error))
            return
        unit: Unit = next(known for known in get_args(Unit) if known == self.unit.currentText())
        self._keep(lambda: keep_skeletons(files, volume, unit, path))

    def _take_layer(self, _: object = None) -> None:
        """Learn from the layer as it is now: from its file if it is read lazily, else from a copy."""
        try:
            layer = self.layers.currentData()
            if layer not in self._viewer.layers:
                raise ConfigError("The layer is not there any more: choose another one.")
            if isinstance(layer, Points):
                nodes, table = Nodes.of(layer, self._session.volume), self._session.place_for("points.csv")
                self._keep(lambda: nodes.keep(table))
                return
            address = file_of(layer)
            if address is not None and not isinstance(finest(layer), np.ndarray):
                self.chosen.emit(address)
                return
            array, path = in_memory(layer), self._session.place_for("labels.npy")
            self._keep(lambda: keep_array(array, path))
        except TokenUnifyError as error:
            show_error(str(error))

    def _keep(self, work: Callable[[], str]) -> None:
        """Keep a copy in the project in a thread, one after the other; it is used once it is whole."""
        self._background.start(work)
        self._allow()

    def _allow(self, _: object = None) -> None:
        is_free = not self._background.busy
        for widget in (self.layers, self.take):
            widget.setEnabled(self.layers.count() > 0 and is_free)
        self.file.setEnabled(is_free)

    def _choose_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Labels, points or skeletons of this image")
        if chosen:
            self.take_file(chosen)

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A label store, or a folder of SWC files")
        if chosen:
            self.take_file(chosen)

    def _list_layers(self, event: object = None) -> None:
        offered, before = [layer for layer in self._viewer.layers if _is_offered(layer)], self.layers.currentData()
        self.layers.clear()
        for layer in offered:
            self.layers.addItem(layer.name, layer)
        self.layers.setCurrentIndex(next((row for row, layer in enumerate(offered) if layer is before), 0))
        self._allow()


def _is_offered(layer: Layer) -> bool:
    """Whether a layer may be labels of the user's: not what is painted or was computed in a project."""
    ours = "project" in layer.metadata.get("tokenunify", {})
    return isinstance(layer, Labels | Points) and not ours
