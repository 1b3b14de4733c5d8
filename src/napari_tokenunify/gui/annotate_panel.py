"""The step Annotate: paint neurons, see what is known by now, or take labels that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.data import check_annotations, open_annotations, summarise
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.project_layers import ANNOTATIONS

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.gui.project_layers import ProjectLayers
    from napari_tokenunify.session import Session

KEYS = "N next neuron · B boundary · , and . previous and next id · E erase"


class AnnotatePanel(QWidget):
    """Make the labels that training learns from.

    Parameters
    ----------
    viewer : Viewer
        Where they are painted.
    session : Session
        Whose annotations.
    layers : ProjectLayers
        Shows them.
    """

    def __init__(self, viewer: Viewer, session: Session, layers: ProjectLayers) -> None:
        super().__init__()
        self._viewer, self._session, self._layers = viewer, session, layers
        self.paint, self.take = QPushButton("Paint"), QPushButton("Use labels from a file...")
        self.paint.setToolTip("Paint neurons in a few places: two that touch, in one section, are a good start.")
        self.take.setToolTip("Labels that exist: a label volume, or points and skeletons as CSV or SWC.")
        self.neuron, self.boundary = QPushButton("New neuron"), QPushButton("Boundary")
        self.neuron.setToolTip("Paint with an id that no neuron has yet (N).")
        self.boundary.setToolTip("Paint membrane or outside: linked to nothing (B).")
        self.boundary_id = QLineEdit()
        self.boundary_id.setPlaceholderText("none")
        self.boundary_id.setToolTip("The id in the labels that stands for membrane or outside.")
        self.look, self.about = QPushButton("What is known?"), QLabel(KEYS)
        self.look.setToolTip("Count what the labels say, and look for slips of the brush.")
        self.about.setWordWrap(True)
        ids, form = QHBoxLayout(), QFormLayout()
        ids.addWidget(self.neuron)
        ids.addWidget(self.boundary)
        form.addRow("boundary id", self.boundary_id)
        layout = QVBoxLayout(self)
        for widget in (self.paint, self.take):
            layout.addWidget(widget)
        layout.addLayout(ids)
        layout.addLayout(form)
        layout.addWidget(self.look)
        layout.addWidget(self.about)
        layout.addStretch()
        self.paint.clicked.connect(self._paint)
        self.take.clicked.connect(self._take)
        self.neuron.clicked.connect(self.new_neuron)
        self.boundary.clicked.connect(self.paint_boundary)
        self.look.clicked.connect(self._look)
        self.boundary_id.editingFinished.connect(self._set_boundary)
        session.project_opened.connect(self._opened)

    @property
    def labels(self) -> Any:
        """The layer that is painted; None before."""
        return next((layer for layer in self._viewer.layers if layer.name == ANNOTATIONS), None)

    def new_neuron(self, _: object = None) -> None:
        """Paint with the smallest id above all that are there."""
        if self.labels is None:
            self._paint()
        if self.labels is not None:
            used = int(np.asarray(self.labels.data).max()) if self._is_small() else int(self.labels.selected_label)
            self.labels.selected_label = max(used, self._boundary or 0) + 1

    def paint_boundary(self, _: object = None) -> None:
        """Paint with the boundary's id; 1 if none was chosen."""
        if self._boundary is None:
            self._session.change(boundary_id=1)
            self.boundary_id.setText("1")
        if self.labels is None:
            self._paint()
        if self.labels is not None:
            self.labels.selected_label = self._boundary

    @property
    def _boundary(self) -> int | None:
        return self._session.state.boundary_id if self._session.is_open else None

    def _is_small(self) -> bool:
        return bool(np.prod(self.labels.data.shape, dtype=np.float64) < 5e7)

    def _paint(self, _: object = None) -> None:
        try:
            self._session.change(annotations=None)
            self._layers.paint()
        except TokenUnifyError as error:
            show_error(str(error))
            return
        layer = self.labels
        layer.bind_key("N", lambda _: self.new_neuron(), overwrite=True)
        layer.bind_key("B", lambda _: self.paint_boundary(), overwrite=True)
        layer.bind_key(",", lambda layer: _step(layer, -1), overwrite=True)
        layer.bind_key(".", lambda layer: _step(layer, 1), overwrite=True)
        layer.bind_key("E", lambda layer: setattr(layer, "mode", "erase"), overwrite=True)

    def _take(self, _: object = None) -> None:
        chosen, _filter = QFileDialog.getOpenFileName(self, "Labels of this image")
        if chosen:
            self.use(chosen)

    def use(self, uri: str) -> None:
        """Learn from labels that exist."""
        try:
            open_annotations(uri, self._session.volume)
            self._session.change(annotations=uri)
        except TokenUnifyError as error:
            show_error(str(error))
            return
        self._look()

    def _set_boundary(self) -> None:
        text = self.boundary_id.text().strip()
        if text and not (text.isdigit() and int(text) > 0):
            show_error(f"{text!r} is no id: give a whole number above 0, or nothing.")
            return
        self._session.change(boundary_id=int(text) if text else None)

    def _look(self, _: object = None) -> None:
        """Count in a thread."""
        try:
            state = self._session.state
            annotations = open_annotations(self._session.annotations, self._session.volume, state.boundary_id)
        except TokenUnifyError as error:
            show_error(str(error))
            return
        worker = create_worker(lambda: check_annotations(annotations, summarise(annotations)))
        worker.returned.connect(self._tell)
        worker.start()

    def _tell(self, findings: list[Any]) -> None:
        self.about.setText("<br>".join(["<br>".join(finding.message for finding in findings), "", KEYS]))

    def _opened(self, project: object) -> None:
        boundary = self._session.state.boundary_id
        self.boundary_id.setText("" if boundary is None else str(boundary))


def _step(layer: Any, by: int) -> None:
    layer.selected_label = max(1, int(layer.selected_label) + by)
