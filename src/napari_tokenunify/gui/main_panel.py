"""The widget "TokenUnify": the steps of the work, and the project's jobs always in view."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QSplitter, QTabWidget, QVBoxLayout, QWidget

from napari_tokenunify.gui.annotate_panel import AnnotatePanel
from napari_tokenunify.gui.compare_panel import ComparePanel
from napari_tokenunify.gui.data_panel import DataPanel
from napari_tokenunify.gui.export_panel import ExportPanel
from napari_tokenunify.gui.job_panel import JobPanel
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.proofread_panel import ProofreadPanel
from napari_tokenunify.gui.segment_panel import SegmentPanel
from napari_tokenunify.gui.train_panel import TrainPanel
from napari_tokenunify.gui.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

_MAKERS: dict[str, Callable[[Workbench], QWidget]] = {
    "Data": lambda bench: DataPanel(bench.viewer, bench.session),
    "Annotate": lambda bench: AnnotatePanel(bench.viewer, bench.session, bench.layers),
    "Train": lambda bench: TrainPanel(bench.viewer, bench.session),
    "Segment": lambda bench: SegmentPanel(bench.viewer, bench.session),
    "Proofread": ProofreadPanel,
    "Compare": lambda bench: ComparePanel(bench.viewer, bench.session),
    "Export": lambda bench: ExportPanel(bench.viewer, bench.session),
}


class MainPanel(QWidget):
    """Data, Annotate, Train, Segment, Proofread, Export: from a stack to segments for everyone else.

    Parameters
    ----------
    napari_viewer : Viewer
        Where the layers are; napari passes it by this name.
    """

    STEPS: ClassVar[tuple[str, ...]] = ("Data", "Annotate", "Train", "Segment", "Proofread", "Export")

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.bench = Workbench.of(napari_viewer, self)
        self.session, self.layers = self.bench.session, self.bench.layers
        self.panels = {step: _MAKERS[step](self.bench) for step in self.STEPS}
        self.jobs = JobPanel(self.bench.watch)
        self.steps = QTabWidget()
        for step, panel in self.panels.items():
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setWidget(panel)
            self.steps.addTab(area, step)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.steps)
        splitter.addWidget(self.jobs)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(splitter)
        self.setMinimumWidth(340)
        self._allow_steps()
        listen(self.session.project_opened, self._allow_steps)

    def close_all(self) -> None:
        """Look after nothing any more; jobs go on."""
        self.bench.close()

    def _allow_steps(self, project: object = None) -> None:
        """Let the user go beyond the data once there is a project."""
        for row in range(1, self.steps.count()):
            self.steps.setTabEnabled(row, self.session.is_open)
        if self.session.is_open and len(self.STEPS) == 2:  # a widget for one purpose: to that at once
            self.steps.setCurrentIndex(1)


class AnnotateWidget(MainPanel):
    """Only the annotations."""

    STEPS = ("Data", "Annotate")


class TrainWidget(MainPanel):
    """Only the training."""

    STEPS = ("Data", "Train")


class SegmentWidget(MainPanel):
    """Only prediction and segments."""

    STEPS = ("Data", "Segment")


class ProofreadWidget(MainPanel):
    """Only the correction of segments."""

    STEPS = ("Data", "Proofread")


class CompareWidget(MainPanel):
    """Only the scores against labels."""

    STEPS = ("Data", "Compare")


class ExportWidget(MainPanel):
    """Only the export."""

    STEPS = ("Data", "Export")
