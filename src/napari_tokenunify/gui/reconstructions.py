"""What a pre-training makes of what was hidden: a picture in the panel, and layers where the crop lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.events import Preview
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.curve_plots import OBJECTIVES
from napari_tokenunify.gui.layers import grid_of, own_layer
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.look_at import look_at
from napari_tokenunify.gui.model_words import short_name
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train.pretraining.reconstructions import read_reconstructions

if TYPE_CHECKING:
    from napari import Viewer
    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session
    from napari_tokenunify.train.pretraining.reconstructions import Reconstruction

LAYERS: Final = {
    "input": "pre-training input",
    "prediction": "pre-training prediction",
    "error": "pre-training error",
}
"""Fields of a Reconstruction and the layers that show them."""
_WORDS: Final = ("it sees", "it predicts", "it is off by")
_SHOWN: Final = "prediction"  # at first
_COLOURS: Final = {"input": "gray", "prediction": "gray", "error": "magma"}
_SIDE: Final = 84  # pixels of a picture


class Reconstructions(QWidget):
    """The last reconstruction of the last pre-training; it follows a job that runs.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    session : Session
        Whose jobs.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._found: dict[str, Reconstruction] = {}
        self._about: dict[str, Any] = {}
        self._reading = Background(self)
        self._reading.done.connect(self._read)
        self._path: Path | None = None
        self.words, self.objective = QLabel(), QComboBox()
        self.words.setWordWrap(True)
        self.objective.setToolTip("What was asked of the network: the training mixes these questions.")
        self.pictures = [QLabel() for _ in LAYERS]
        self.show_layers = QPushButton("Show in viewer")
        self.show_layers.setToolTip("Show all sections of this crop as layers, and go there; they follow the training.")
        self._arrange()
        self.objective.currentIndexChanged.connect(self._show)
        self.show_layers.clicked.connect(self._go_there)
        listen(session.job_said, self._hear)
        listen(session.project_opened, self._opened)
        self.look()

    def _arrange(self) -> None:
        top, grid, layout = QHBoxLayout(), QGridLayout(), QVBoxLayout(self)
        top.addWidget(self.objective, 1)
        top.addWidget(self.show_layers)
        for column, (picture, text) in enumerate(zip(self.pictures, _WORDS, strict=True)):
            label = QLabel(text)
            for widget in (picture, label):
                widget.setAlignment(Qt.AlignmentFlag.AlignCenter)
            picture.setToolTip(f"{text.capitalize()}: one section of a crop that is not learnt from.")
            grid.addWidget(picture, 0, column)
            grid.addWidget(label, 1, column)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addLayout(top)
        layout.addLayout(grid)

    def look(self) -> None:
        """Read the last reconstruction that the project's pre-trainings have written, if there is one."""
        if self._session.is_open:
            runs = [run for run in self._session.project.runs if run.name.startswith("pretrain-")]
            self._reading.start(lambda: next((file for run in reversed(runs) if (file := _last(run))), None))
        self.setVisible(bool(self._found))

    def _opened(self, _: object) -> None:
        """Forget the project before."""
        for layer in self._layers().values():
            self._viewer.layers.remove(layer)
        self._found, self._path = {}, None
        self.look()

    def _hear(self, status: JobStatus, event: Event) -> None:
        if status is not None and status.stage == "pretrain" and isinstance(event, Preview):
            path = Path(event.path)
            self._reading.start(lambda: (path, *read_reconstructions(path)))

    def _read(self, found: tuple[Path, dict[str, Reconstruction], dict[str, Any]] | None) -> None:
        """Take what was read."""
        if found is None:
            return
        self._path, self._found, self._about = found
        names = [name for name in OBJECTIVES if name in self._found]
        if names != [self.objective.itemData(row) for row in range(self.objective.count())]:
            self.objective.blockSignals(True)
            self.objective.clear()
            for name in names:
                self.objective.addItem(OBJECTIVES[name], name)
            self.objective.blockSignals(False)
        run, volume = self._path.parents[1].name, self._about["volume"]
        whose = "" if volume == self._session.volume.uri else f" of {short_name(volume)}"
        self.words.setText(f"{run}, step {self._about['step']:,}, on sections{whose} that it does not learn from:")
        self.setVisible(True)
        self._show()

    def _show(self, _: object = None) -> None:
        """Draw the pictures, and refresh the layers that are there."""
        shown = self._found.get(self.objective.currentData())
        if shown is None:
            return
        section = int((shown.error > 0).sum(axis=(1, 2)).argmax())
        for picture, field in zip(self.pictures, LAYERS, strict=True):
            picture.setPixmap(_pixmap(getattr(shown, field)[section]))
        if self._layers():
            self._put(shown)

    def _go_there(self) -> None:
        shown = self._found.get(self.objective.currentData())
        if shown is None:
            return
        self._put(shown)
        self._viewer.layers.selection.active = self._layers()[_SHOWN]
        look_at(self._viewer, self._session.volume, Box.parse(self._about["box"]))

    def _put(self, shown: Reconstruction) -> None:
        """Add the layers, or give them what is shown now; how they look stays as the user wants it."""
        grid = grid_of(self._session.volume, Box.parse(self._about["box"]).start)
        there = self._layers()
        for field, name in LAYERS.items():
            array, found = getattr(shown, field), there.get(field)
            if found is not None and found.data.shape == array.shape:
                found.data, found.translate = array, grid["translate"]
                continue
            if found is not None:
                self._viewer.layers.remove(found)
            ours = {"project": str(self._session.project.folder), "volume": self._about["volume"], "layer": name}
            layer = Image(
                array, name=name, visible=field == _SHOWN, colormap=_COLOURS[field], contrast_limits=(0, 255),
                metadata={"tokenunify": ours}, **grid,
            )  # fmt: skip
            self._viewer.add_layer(layer)

    def _layers(self) -> dict[str, Image]:
        """Return the layers that are there, by field."""
        found = {field: own_layer(self._viewer, name) for field, name in LAYERS.items()}
        return {field: layer for field, layer in found.items() if layer is not None}


def _last(run: Path) -> tuple[Path, dict[str, Reconstruction], dict[str, Any]] | None:
    """Read the newest reconstruction of a run; in a thread."""
    file = max(RunPaths(run).previews.glob("*.npz"), default=None)
    return None if file is None else (file, *read_reconstructions(file))


def _pixmap(section: NDArray[np.uint8]) -> QPixmap:
    """Return a section in grey, as large as pictures are."""
    grey = np.ascontiguousarray(section)
    image = QImage(grey.data, grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format.Format_Grayscale8)
    keep = Qt.AspectRatioMode.KeepAspectRatio
    return QPixmap.fromImage(image).scaled(_SIDE, _SIDE, keep, Qt.TransformationMode.FastTransformation)
