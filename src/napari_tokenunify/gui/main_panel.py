"""The widget "TokenUnify": the steps of the work, and the project's jobs always in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QSplitter, QTabWidget, QVBoxLayout, QWidget

from napari_tokenunify.gui.annotate_panel import AnnotatePanel
from napari_tokenunify.gui.closing_guard import ClosingGuard
from napari_tokenunify.gui.data_panel import DataPanel
from napari_tokenunify.gui.job_panel import JobPanel
from napari_tokenunify.gui.job_watch import JobWatch
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.gui.segment_panel import SegmentPanel
from napari_tokenunify.gui.train_panel import TrainPanel
from napari_tokenunify.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer


class MainPanel(QWidget):
    """Data, Annotate, Train, Segment: from a stack to segments.

    Parameters
    ----------
    napari_viewer : Viewer
        Where the layers are; napari passes it by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        viewer = napari_viewer
        self.session = Session()
        self.layers = ProjectLayers(viewer, self.session)
        self.data = DataPanel(viewer, self.session)
        self.annotate = AnnotatePanel(viewer, self.session, self.layers)
        self.train = TrainPanel(viewer, self.session)
        self.segment = SegmentPanel(viewer, self.session)
        self.watch = JobWatch(self._runs, self)
        self.jobs = JobPanel(self.watch)
        self.steps = QTabWidget()
        for name, panel in (
            ("Data", self.data),
            ("Annotate", self.annotate),
            ("Train", self.train),
            ("Segment", self.segment),
        ):
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setWidget(panel)
            self.steps.addTab(area, name)
        for row in range(1, self.steps.count()):
            self.steps.setTabEnabled(row, False)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.steps)
        splitter.addWidget(self.jobs)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(splitter)
        self.setMinimumWidth(340)
        self.session.project_opened.connect(self._opened)
        self.session.said.connect(_notify)
        self.watch.reported.connect(self.session.take)
        self._guard = ClosingGuard(self, self.session)

    def close_all(self) -> None:
        """Look after nothing any more; jobs go on."""
        self.watch.close()

    def _runs(self) -> list[Path]:
        return list(reversed(self.session.project.runs)) if self.session.is_open else []

    def _opened(self, project: object) -> None:
        for row in range(self.steps.count()):
            self.steps.setTabEnabled(row, True)
        self.watch.start()


def _notify(text: str, level: str) -> None:
    {"info": show_info, "warning": show_warning, "error": show_error}[level](text)
