"""The step Segment: predict what is visible or everything, join fragments, move the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_tokenunify.config import PredictConfig, SegmentConfig
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.view_box import visible_box

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.project import Project
    from napari_tokenunify.segment.segmentation import Segmentation
    from napari_tokenunify.session import Session

_VISIBLE: Final = (32, 512, 512)  # voxels that "what is visible" has at most
_STEPS: Final = 1000  # of the slider


class SegmentPanel(QWidget):
    """From a trained network to segments.

    Parameters
    ----------
    viewer : Viewer
        What it shows can be predicted for itself.
    session : Session
        Who starts the jobs and keeps the threshold.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self.network = QLabel("No network was trained yet.")
        self.network.setWordWrap(True)
        self.visible, self.everything = QPushButton("Predict what is visible"), QPushButton("Predict everything")
        self.visible.setToolTip("Affinities of the part of the volume in the middle of the view: a first look.")
        self.everything.setToolTip("Affinities of the whole volume; it fills in as it comes, and can be stopped.")
        self.method = QComboBox()
        self.method.addItems(get_args(SegmentConfig.model_fields["method"].annotation))
        self.method.setToolTip(SegmentConfig.model_fields["method"].description or "")
        self.segment = QPushButton("Segment")
        self.segment.setToolTip("Cut the affinities into fragments and join them.")
        self.threshold, self.value = QSlider(Qt.Orientation.Horizontal), QLabel()
        self.threshold.setRange(0, _STEPS)
        self.threshold.setEnabled(False)
        self.threshold.setToolTip("Further right joins more: fewer, larger segments.")
        predict, rows = QHBoxLayout(), QFormLayout()
        predict.addWidget(self.visible)
        predict.addWidget(self.everything)
        slider = QHBoxLayout()
        slider.addWidget(self.threshold, 1)
        slider.addWidget(self.value)
        rows.addRow("method", self.method)
        rows.addRow("threshold", slider)
        layout = QVBoxLayout(self)
        layout.addWidget(self.network)
        layout.addLayout(predict)
        layout.addWidget(CopyButtons("predict", self.predict_config))
        layout.addLayout(rows)
        layout.addWidget(self.segment)
        layout.addWidget(CopyButtons("segment", self.segment_config))
        layout.addStretch()
        self.visible.clicked.connect(self._predict_visible)
        self.everything.clicked.connect(self._predict_everything)
        self.segment.clicked.connect(self._segment)
        self.method.currentTextChanged.connect(self._set_method)
        self.threshold.valueChanged.connect(self._set_threshold)
        session.project_opened.connect(self._opened)
        session.state_changed.connect(self._show_state)
        session.segmentation_changed.connect(self._segmented)

    def predict_config(self) -> PredictConfig:
        """Return what the next prediction would do."""
        return self._session.predict_config(overwrite=self._session.project.affinities.exists())

    def segment_config(self) -> SegmentConfig:
        """Return what the next segmentation would do."""
        return self._session.segment_config(overwrite=self._session.project.segmentation.exists())

    def _predict_visible(self, _: object = None) -> None:
        try:
            box = visible_box(self._viewer, self._session.volume, _VISIBLE)
            self._session.change(box=None if box is None else str(box))
            self._session.start("predict", self.predict_config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _predict_everything(self, _: object = None) -> None:
        try:
            box = visible_box(self._viewer, self._session.volume, (1, 1, 1))
            self._session.change(box=None)
            near = {} if box is None else {"start_at": box.start}
            self._session.start("predict", self.predict_config().replace(**near))
        except TokenUnifyError as error:
            show_error(str(error))

    def _segment(self, _: object = None) -> None:
        try:
            self._session.start("segment", self.segment_config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _set_method(self, method: str) -> None:
        if self._session.is_open and method:
            self._session.change(method=method)

    def _set_threshold(self, step: int) -> None:
        self.value.setText(f"{step / _STEPS:.3f}")
        if self._session.is_open:
            self._session.change(threshold=step / _STEPS)

    def _opened(self, project: Project) -> None:
        self.threshold.setEnabled(False)
        self._show_state(project.state)

    def _show_state(self, _: object) -> None:
        state = self._session.state
        self.network.setText(f"Network: <b>{state.trained or state.model}</b>")
        self.method.setCurrentText(state.method)
        self.threshold.setValue(round(state.threshold * _STEPS))
        self.value.setText(f"{state.threshold:.3f}")

    def _segmented(self, segmentation: Segmentation) -> None:
        """Let the slider move, if the method has a threshold that can be moved."""
        self.threshold.setEnabled(segmentation.tree is not None)
