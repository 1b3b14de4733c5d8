"""The step Segment: predict what is visible, a box or everything; join fragments, move the threshold, pick segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.config import PredictConfig, SegmentConfig
from napari_tokenunify.errors import ConfigError, SegmentError, TokenUnifyError
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.import_box import ImportBox
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.model_words import network_in_use
from napari_tokenunify.gui.pick_panel import PickPanel
from napari_tokenunify.gui.threshold_fit import ThresholdFit
from napari_tokenunify.gui.view_box import visible_box
from napari_tokenunify.predictions import larger_box
from napari_tokenunify.session import SEGMENTING

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_tokenunify.project import Project
    from napari_tokenunify.segment.segmentation import Segmentation
    from napari_tokenunify.session import Session

_VISIBLE: Final = (32, 512, 512)  # voxels that "what is visible" has at most
_STEPS: Final = 1000  # of the slider
_NOTHING_SEEN: Final = (
    "The middle of the view lies outside of the volume: move the view, or press Home to see all of it."
)
_REST_MS: Final = 400  # without a move, until the threshold is written into the project


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
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._keep)
        self._make_widgets()
        self.picking = PickPanel(viewer, session)
        self._arrange()
        self._connect()

    def _make_widgets(self) -> None:
        self.network = QLabel()
        self.network.setWordWrap(True)
        self.visible, self.everything = QPushButton("Predict what is visible"), QPushButton("Predict everything")
        self.visible.setToolTip("Affinities of the part of the volume in the middle of the view: a first look.")
        self.everything.setToolTip(
            "Affinities of the whole volume, beginning in the middle of the view. It fills in as it comes, can be "
            "stopped, and goes on where it was."
        )
        self.box, self.from_view, self.this_box = QLineEdit(), QPushButton("From view"), QPushButton("Predict it")
        self.box.setPlaceholderText("z0:z1,y0:y1,x0:x1")
        self.box.setToolTip("A part of the volume in voxels, from the first to the one past the last.")
        self.from_view.setToolTip("Write down the box in the middle of the view, to change it.")
        self.this_box.setToolTip("Affinities of this box.")
        self.then = QCheckBox("segment when it is done")
        self.then.setChecked(True)
        self.then.setToolTip("Go on from affinities to segments without being asked.")
        self.method = QComboBox()
        self.method.addItems(get_args(SegmentConfig.model_fields["method"].annotation))
        self.method.setToolTip(SegmentConfig.model_fields["method"].description or "")
        self.segment = QPushButton("Segment")
        self.segment.setToolTip("Cut the affinities into fragments and join them.")
        self.elsewhere = ImportBox(self._viewer, self._session)
        self.threshold, self.value = QSlider(Qt.Orientation.Horizontal), QLabel()
        self.threshold.setRange(0, _STEPS)
        self.threshold.setEnabled(False)
        self.threshold.setToolTip("Further right joins more: fewer, larger segments.")
        self.fit = ThresholdFit(self._session)
        self.fit.setEnabled(False)

    def _arrange(self) -> None:
        predict, box, slider = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        rows, below = QFormLayout(), QFormLayout()
        for row, widgets in (
            (predict, (self.visible, self.everything)),
            (box, (self.box, self.from_view, self.this_box)),
            (slider, (self.threshold, self.value)),
        ):
            for widget in widgets:
                row.addWidget(widget)
        rows.addRow("box", box)
        below.addRow("method", self.method)
        below.addRow("threshold", slider)
        below.addRow("", self.fit)
        layout = QVBoxLayout(self)
        layout.addWidget(self.network)
        layout.addLayout(predict)
        layout.addLayout(rows)
        layout.addWidget(self.then)
        layout.addWidget(CopyButtons("predict", self.predict_config))
        layout.addLayout(below)
        layout.addWidget(self.segment)
        layout.addWidget(CopyButtons("segment", self.segment_config))
        layout.addWidget(self.elsewhere)
        layout.addWidget(self.picking)
        layout.addStretch()

    def _connect(self) -> None:
        self.visible.clicked.connect(self._predict_visible)
        self.everything.clicked.connect(self._predict_everything)
        self.from_view.clicked.connect(self._write_box)
        self.this_box.clicked.connect(self._predict_box)
        self.box.returnPressed.connect(self._predict_box)
        self.segment.clicked.connect(self._segment)
        self.method.currentTextChanged.connect(self._set_method)
        self.threshold.valueChanged.connect(self._set_threshold)
        self.threshold.actionTriggered.connect(self.fit.let_go)  # by the user, not by us
        self.fit.fitted.connect(self._set_fitted)
        listen(self._session.project_opened, self._opened)
        listen(self._session.state_changed, self._show_state)
        listen(self._session.segmentation_changed, self._segmented)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look anew which networks there are."""
        super().showEvent(event)
        self._show_network()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Remember where the slider stands."""
        self._keep()
        super().hideEvent(event)

    def predict_config(self) -> PredictConfig:
        """Return what the next prediction would do."""
        return self._session.predict_config()

    def segment_config(self) -> SegmentConfig:
        """Return what the next segmentation would do."""
        return self._session.segment_config()

    def _predict_visible(self) -> None:
        box = self._seen()
        if box is None:
            show_error(_NOTHING_SEEN)
        else:
            self._predict(str(box))

    def _predict_everything(self) -> None:
        box = self._seen((1, 1, 1))
        self._predict(None, **({} if box is None else {"start_at": box.start}))

    def _predict_box(self) -> None:
        try:
            box = Box.parse(self.box.text().strip())
            if box.clipped(self._session.volume.shape) != box:
                raise ConfigError(
                    f"The box {box} reaches outside the volume, {Box.whole(self._session.volume.shape)}: mend it."
                )
        except TokenUnifyError as error:
            show_error(str(error))
            return
        self._predict(str(box))

    def _predict(self, box: str | None, **more: Any) -> None:
        try:
            self._session.be_free(*SEGMENTING)
            larger = larger_box(self._session.predict_config(box=box), self._session.volume)
            if larger is not None and not _may_replace(larger, self):
                return
            self._session.change(box=box)
            job = self._session.start("predict", self.predict_config().replace(**more))
            if self.then.isChecked():
                self._session.change(then_segment=(*self._session.state.then_segment, job.folder.name))
        except TokenUnifyError as error:
            show_error(str(error))

    def _segment(self) -> None:
        try:
            if not self._session.project.affinities.exists():
                raise SegmentError("There are no affinities yet: predict what is visible first, or everything.")
            self._session.be_free(*SEGMENTING)
            self._session.start("segment", self.segment_config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _seen(self, most: tuple[int, int, int] = _VISIBLE) -> Box | None:
        try:
            return visible_box(self._viewer, self._session.volume, most)
        except TokenUnifyError:  # is said when the job starts
            return None

    def _write_box(self) -> None:
        box = self._seen()
        if box is None:
            show_error(_NOTHING_SEEN)
        else:
            self.box.setText(str(box))

    def _set_method(self, method: str) -> None:
        if self._session.is_open and method:
            self._session.change(method=method)

    def _set_threshold(self, step: int) -> None:
        self.value.setText(f"{step / _STEPS:.3f}")
        if self._session.is_open:
            self._session.move_threshold(step / _STEPS)
            self._rest.start()

    def _set_fitted(self, threshold: float) -> None:
        self.threshold.setValue(round(threshold * _STEPS))

    def _keep(self) -> None:
        self._rest.stop()
        try:
            self._session.keep_threshold()
        except TokenUnifyError as error:
            show_error(str(error))

    def _opened(self, project: Project) -> None:
        self.threshold.setEnabled(False)
        self.fit.setEnabled(False)
        self.box.setText(project.state.box or "")
        self._show_state(project.state)
        self._show_network()

    def _show_state(self, _: object) -> None:
        state = self._session.state
        self.method.setCurrentText(state.method)
        self.threshold.blockSignals(True)  # it follows here, and moves nothing
        self.threshold.setValue(round(state.threshold * _STEPS))
        self.threshold.blockSignals(False)
        self.value.setText(f"{state.threshold:.3f}")
        if self._shown_network != (state.trained, state.model):
            self._show_network()

    def _show_network(self) -> None:
        """Say which network predicts, and allow it if there is one."""
        if not self._session.is_open:
            return
        state = self._session.state
        self._shown_network = (state.trained, state.model)
        words, there = network_in_use(state)
        self.network.setText(words)
        for button in (self.visible, self.everything, self.this_box):
            button.setEnabled(there)

    _shown_network: tuple[str | None, str] = (None, "")

    def _segmented(self, segmentation: Segmentation) -> None:
        """Let the slider move, if the method has a threshold that can be moved."""
        self.threshold.setEnabled(segmentation.spec["has_tree"])
        self.fit.setEnabled(segmentation.spec["has_tree"])


def _may_replace(larger: Box, parent: QWidget) -> bool:
    """Say what would be lost, and ask."""
    question = QMessageBox(parent)
    question.setIcon(QMessageBox.Icon.Warning)
    question.setWindowTitle("Predict")
    question.setText(f"Replace the affinities of the larger box {larger}?")
    question.setInformativeText(
        "The project keeps one prediction. A smaller one, or one of another network, takes the place of what was "
        "predicted there, which may have taken long."
    )
    yes = question.addButton("Replace", QMessageBox.ButtonRole.DestructiveRole)
    no = question.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
    question.setDefaultButton(no)
    question.setEscapeButton(no)
    question.exec()
    return question.clickedButton() is yes
