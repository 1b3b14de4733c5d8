"""The step Annotate: paint neurons, see what is known by now and where to go on, or take labels that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.annotation_count import AnnotationCount
from napari_tokenunify.gui.annotation_keys import KEYS, bind_keys
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.finding_list import FindingList, go_to
from napari_tokenunify.gui.layers import own_layer
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.look_at import show_section, shown_section
from napari_tokenunify.gui.project_layers import ANNOTATIONS
from napari_tokenunify.gui.section_strip import SectionStrip
from napari_tokenunify.gui.suggest_places import SuggestPlaces
from napari_tokenunify.gui.take_labels import TakeLabels

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.data import Annotations, AnnotationSummary
    from napari_tokenunify.gui.annotation_count import Counted
    from napari_tokenunify.gui.project_layers import ProjectLayers
    from napari_tokenunify.session import Session

_MANY: Final = 2e9  # voxels; a minute or two to count
_LARGEST: Final = int(np.iinfo(np.uint32).max)  # id that the project's own labels can hold
_NOTHING: Final = "Nothing is labelled yet: paint at least two neurons that touch, in one section."


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
        self._section = 0  # that the viewer showed when the labels were drawn last
        self.count, self._opening = AnnotationCount(session, self), Background(self)
        self._make_brush()
        self.about, self.strip, self.findings = QLabel(_NOTHING), SectionStrip(), FindingList()
        self.about.setWordWrap(True)
        self.look = QPushButton("&Count again")
        self.look.setToolTip("Count what the labels say, and look for slips of the brush; painting does it by itself.")
        self.suggest, self.existing = SuggestPlaces(viewer, session), TakeLabels(viewer, session)
        self._lay_out()
        self._connect()
        if session.is_open:
            self._opened(session.project)

    def _make_brush(self) -> None:
        self.paint = QPushButton("Pa&int")
        self.paint.setToolTip("Paint neurons in a few places: two that touch, in one section, are a good start.")
        self.source = QLabel()
        self.source.setWordWrap(True)
        self.source.hide()
        self.neuron, self.boundary = QPushButton("New &neuron"), QPushButton("&Boundary")
        self.neuron.setToolTip("Paint with an id that no neuron has yet (N).")
        self.boundary.setToolTip("Paint membrane or outside: linked to nothing (B).")
        self.boundary_id = QLineEdit()
        self.boundary_id.setPlaceholderText("none")
        self.boundary_id.setMaximumWidth(90)
        self.boundary_id.setToolTip("The id in the labels that stands for membrane or outside.")
        self.keys = QLabel(" · ".join(f"<b>{key}</b> {what}" for key, what in KEYS))
        self.keys.setToolTip(
            "They work while the layer of annotations is selected. Those of napari itself can be changed under "
            "Preferences > Shortcuts; its key for a new label asks for a new neuron, too."
        )
        self.keys.setWordWrap(True)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.neuron, 1)
        row.addWidget(self.boundary, 1)
        label = QLabel("i&d")
        label.setBuddy(self.boundary_id)
        row.addWidget(label)
        row.addWidget(self.boundary_id)
        known = QVBoxLayout()
        for widget in (self.about, self.strip, self.findings, self.look):
            known.addWidget(widget)
        box, others = QGroupBox("What is known"), QGroupBox("Labels that exist")
        box.setLayout(known)
        form = QFormLayout(others)
        form.addRow(self.existing)
        layout = QVBoxLayout(self)
        layout.addWidget(self.paint)
        layout.addWidget(self.source)
        layout.addLayout(row)
        for widget in (self.keys, box, self.suggest, others):
            layout.addWidget(widget)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.paint.clicked.connect(self._paint)
        self.neuron.clicked.connect(self.new_neuron)
        self.boundary.clicked.connect(self.paint_boundary)
        self.look.clicked.connect(self.count.now)
        self.boundary_id.editingFinished.connect(self._set_boundary)
        self.strip.chosen.connect(lambda section: show_section(self._viewer, self._session.volume, section))
        self.findings.go_to.connect(lambda target: go_to(self._viewer, self._session.volume, target))
        self.count.counted.connect(self._tell)
        self.count.failed.connect(self._fail)
        self._opening.done.connect(self._use_opened)
        self._opening.failed.connect(self._not_opened)
        self.existing.chosen.connect(self.use)
        self.existing.dense.toggled.connect(self._set_dense)
        self._viewer.dims.events.point.connect(self._moved)
        listen(self._session.project_opened, self._opened)

    @property
    def labels(self) -> Any:
        """The layer that is painted; None before, and where the labels are other people's."""
        return None if self._are_foreign else own_layer(self._viewer, ANNOTATIONS)

    def new_neuron(self, _: object = None) -> None:
        """Paint with the smallest id above all that are there."""
        if self.labels is None:
            self._paint()
        self.count.when_counted(self._take_new_id)

    def paint_boundary(self, _: object = None) -> None:
        """Paint with the boundary's id; with a new one if none was chosen."""
        if self.labels is None:
            self._paint()
        self.count.when_counted(self._take_boundary)

    def use(self, uri: str) -> None:
        """Learn from labels that exist."""
        try:
            opener = self._session.annotations_opener(uri)
        except TokenUnifyError as error:
            show_error(str(error))
            return

        self._opening.start(lambda: (uri, opener()))

    @property
    def _boundary(self) -> int | None:
        return self._session.state.boundary_id if self._session.is_open else None

    @property
    def _are_foreign(self) -> bool:
        return self._session.is_open and self._session.state.annotations is not None

    def _take_new_id(self) -> None:
        self._take_id(self._unused())

    def _take_boundary(self) -> None:
        if self._boundary is None:
            self._session.change(boundary_id=self._unused())
            self.boundary_id.setText(str(self._boundary))
        self._take_id(self._boundary or 1)

    def _unused(self) -> int:
        """Return the smallest id above those of all neurons that is not the boundary's."""
        free = (self.count.largest or 0) + 1
        return free + (free == self._boundary)

    def _take_id(self, number: int) -> None:
        layer = self.labels
        if number > _LARGEST:
            show_error(f"Ids that can be painted end at {_LARGEST}, which is taken: give that neuron a smaller one.")
        elif layer is not None:
            layer.selected_label = number
            if layer.mode == "erase":
                layer.mode = "paint"

    def _paint(self, _: object = None) -> None:
        """Show the project's own labels, and take the brush."""
        try:
            is_new, were_foreign = not self._session.project.annotations.exists(), self._are_foreign
            self._session.change(annotations=None)
            self._layers.paint()
        except TokenUnifyError as error:
            show_error(str(error))
            return
        if is_new or were_foreign:
            self.count.forget(0 if is_new else None)
            self.count.now()
        self._follow_layer()
        self._say_whose()

    def _follow_layer(self) -> None:
        """Bind the keys to the layer, and count again when it was painted."""
        layer = self.labels
        if layer is not None:
            bind_keys(layer, self.new_neuron, self.paint_boundary)
            layer.events.paint.connect(self._painted)
            layer.events.set_data.connect(self._redrawn)

    def _painted(self, event: object = None) -> None:
        """Count soon, and know at once which id is in use."""
        layer = self.labels
        number = 0 if layer is None or layer.mode == "erase" else int(layer.selected_label)
        self.count.painted(0 if number == self._boundary else number)

    def _redrawn(self, event: object = None) -> None:
        """Count soon if the labels were drawn anew and it is no other section: a stroke was undone."""
        if self.labels is None:
            return
        before, self._section = self._section, shown_section(self._viewer, self._session.volume)
        if before == self._section:
            self.count.soon()

    def _moved(self, event: object = None) -> None:
        if self._session.is_open and self._viewer.dims.ndim >= 3:
            self.strip.show_current(shown_section(self._viewer, self._session.volume))

    def _use_opened(self, opened: tuple[str, Annotations]) -> None:
        """Take labels over that could be opened, and count them unless that would take long."""
        uri, annotations = opened
        self._session.change(annotations=uri)
        self._say_whose()
        self._layers.show_labels(annotations.labels)
        self.count.forget()
        if np.prod(annotations.shape, dtype=np.float64) > _MANY:
            self.about.setText("These labels are large: counting them takes a while, and nothing else waits for it.")
        else:
            self.about.setText("Counting...")
            self.count.now()

    def _not_opened(self, problem: str) -> None:
        show_error(problem)
        if self._are_foreign:
            self._fail(problem)

    def _set_boundary(self) -> None:
        text = self.boundary_id.text().strip()
        if text and not (text.isdecimal() and 0 < int(text) <= _LARGEST):
            show_error(f"{text!r} is no id: give a whole number from 1 to {_LARGEST}, or nothing.")
            return
        boundary = int(text) if text else None
        if boundary != self._boundary:
            self._session.change(boundary_id=boundary)
            self.count.now()

    def _set_dense(self, is_dense: bool) -> None:
        """Read 0 in another way."""
        if self._session.is_open and is_dense != self._session.state.zero_is_boundary:
            self._session.change(zero_is_boundary=is_dense)
            self.count.now()

    def _tell(self, counted: Counted) -> None:
        """Show what was counted."""
        summary = counted.summary
        self.about.setText(_in_words(summary) if summary.labelled_voxels else _NOTHING)
        self.about.setToolTip(str(summary))
        self.strip.show_labelled(summary.shape[0], summary.sections)
        said = {"coverage", "nothing-labelled"}  # above
        self.findings.show_findings([finding for finding in counted.findings if finding.kind not in said])

    def _fail(self, problem: str) -> None:
        self.about.setText(problem)
        self.findings.show_findings(())

    def _say_whose(self) -> None:
        """Say what training learns from, and let only what is the user's own be painted."""
        foreign = self._are_foreign
        self.source.setVisible(foreign)
        self.source.setText(f"Training learns from <b>{self._session.annotations}</b>.")
        self.paint.setText("Pa&int instead" if foreign else "Pa&int")
        for button in (self.neuron, self.boundary):
            button.setEnabled(not foreign)

    def _opened(self, project: object) -> None:
        boundary = self._boundary
        self.boundary_id.setText("" if boundary is None else str(boundary))
        self.existing.dense.setChecked(self._session.state.zero_is_boundary)
        self._opening.forget()
        there = self._are_foreign or self._session.project.annotations.exists()
        self.count.forget(None if there else 0)
        self.about.setText("Counting..." if there else _NOTHING)
        self.findings.show_findings(())
        self._say_whose()
        try:
            self.strip.show_labelled(self._session.volume.shape[0], ())
        except TokenUnifyError:  # ProjectLayers has said so
            return
        self._follow_layer()
        self._moved()
        if self._are_foreign:
            self.use(self._session.annotations)
        elif there:
            self.count.now()


def _in_words(summary: AnnotationSummary) -> str:
    """Return a line on coverage, and one on balance."""
    neurons, known, joined = len(summary.neurons), sum(summary.known_pairs), sum(summary.joined_pairs)
    share = 100 * summary.labelled_share
    size = f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"
    text = (
        f"<b>{neurons:,} neuron{'s' * (neurons != 1)}</b> in {len(summary.sections):,} of {summary.shape[0]:,} "
        f"sections, {size} of the voxels."
    )
    if known:
        text += f"<br>Known pairs: {100 * joined / known:.1f} % joined, {100 * (known - joined) / known:.1f} % apart."
    return text
