"""The step Train: a model and its card, minutes, one big button, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.form import Form
from napari_tokenunify.gui.layers import own_layer
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.model_words import model_words, network_in_use, short_name
from napari_tokenunify.gui.project_layers import BEFORE, PREVIEW
from napari_tokenunify.gui.view_box import visible_box

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_tokenunify.gui.pretrain_panel import PretrainPanel
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.project import ProjectState
    from napari_tokenunify.session import Session

_ADVANCED: Final = (
    "resample",
    "parts",
    "transfer",
    "loss",
    "widen_borders",
    "hold_out",
    "patience",
    "steps",
    "crop",
    "batch",
    "learning_rate",
    "precision",
    "device",
    "workers",
    "seed",
)
_PREVIEW: Final = (16, 256, 256)  # voxels that are previewed at most
_TYPING_MS: Final = 200  # without a key, until the card of a model is looked up
_LOOK_MS: Final = 1000  # between two looks whether something was painted meanwhile
_OURS: Final = " (this project)"


class TrainPanel(QWidget):
    """Teach a network the annotations.

    Parameters
    ----------
    viewer : Viewer
        What it shows is previewed while the network learns.
    session : Session
        Whose annotations, and who starts the job.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._trained: str | None = None  # of which the last lines speak
        self._typing, self._look = QTimer(self), QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(_TYPING_MS)
        self._look.setInterval(_LOOK_MS)
        self._make_widgets()
        self._arrange()
        self._typing.timeout.connect(self._show_card)
        self._look.timeout.connect(self._allow)
        self.more.toggled.connect(self.form.native.setVisible)
        self.unfold.toggled.connect(self._unfold)
        self.button.clicked.connect(self._train)
        self.before.toggled.connect(self._flip)
        self.model.currentTextChanged.connect(self._choose)
        self.minutes.valueChanged.connect(self._name_button)
        listen(session.project_opened, self._opened)
        listen(session.state_changed, self._show_state)
        listen(session.job_changed, self._follow)
        viewer.layers.events.inserted.connect(self._allow_flip)
        viewer.layers.events.removed.connect(self._allow_flip)
        self._allow_flip()

    def _make_widgets(self) -> None:
        self.model, self.card = QComboBox(), _words()
        self.model.setToolTip("What to start from: a trained network, or a size to start from scratch.")
        self.model.setEditable(True)
        self.model.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # a path would widen the panel
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.05, 100_000)
        self.minutes.setToolTip("How long to train; crop, batch and schedule are chosen to suit.")
        self.button, self.reason = QPushButton("Train"), _words()
        self.button.setMinimumHeight(44)
        self.button.setToolTip("Start learning in the background; painting goes on meanwhile.")
        self.last, self.before = _words(), QPushButton("Show how it was before")
        self.before.setCheckable(True)
        self.before.setToolTip("Flip between what the network predicted before the training and what it predicts now.")
        self.more = QCheckBox("more settings")
        self.more.setToolTip("What is chosen to suit, unless it is said here.")
        self.form = Form(FinetuneConfig, _ADVANCED)
        self.form.native.setVisible(False)
        self.pretraining: PretrainPanel | None = None
        self.unfold = QToolButton()
        self.unfold.setText("Pre-train on unlabelled data")
        self.unfold.setToolTip("Let a network learn from images alone first; for large data and few labels.")
        self.unfold.setCheckable(True)
        self.unfold.setAutoRaise(True)
        self.unfold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.unfold.setArrowType(Qt.ArrowType.RightArrow)

    def _arrange(self) -> None:
        rows = QFormLayout()
        rows.addRow("start from", self.model)
        rows.addRow(self.card)
        rows.addRow("minutes", self.minutes)
        hint = _words("While it learns, what is visible is predicted every 20 seconds.")
        layout = QVBoxLayout(self)
        layout.addLayout(rows)
        for widget in (self.button, self.reason, hint, self.before, self.last, self.more, self.form.native):
            layout.addWidget(widget)
        layout.addWidget(CopyButtons("finetune", self.config))
        layout.addWidget(self.unfold)
        layout.addStretch()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look what is annotated and trained by now."""
        super().showEvent(event)
        self._list_models()
        self._allow()
        self._look.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Rest."""
        self._look.stop()
        super().hideEvent(event)

    def config(self) -> FinetuneConfig:
        """Return the settings as they stand.

        Raises
        ------
        ConfigError, ProjectError
            If one cannot be used, or no project is open.
        """
        values = self.form.config(volume="-", annotations="-", out="-").model_dump(include=set(_ADVANCED))
        box = visible_box(self._viewer, self._session.volume, _PREVIEW)
        preview = None if box is None else str(box)
        return self._session.finetune_config(
            **values, model=self._chosen(), minutes=self.minutes.value(), preview=preview
        )

    def _unfold(self, unfolded: bool) -> None:
        """Show or hide what concerns pre-training; it is made when somebody asks for it."""
        layout = self.layout()
        if self.pretraining is None and isinstance(layout, QVBoxLayout):
            from napari_tokenunify.gui.pretrain_panel import PretrainPanel  # here, as a widget that opens would wait

            self.pretraining = PretrainPanel(self._viewer, self._session)
            self.pretraining.chosen.connect(self._start_from)
            layout.insertWidget(layout.indexOf(self.unfold) + 1, self.pretraining)
        if self.pretraining is not None:
            self.pretraining.setVisible(unfolded)
        self.unfold.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)

    def _start_from(self, run: str) -> None:
        """Choose a run of this project as what to start from, and show that."""
        self._list_models()
        self.model.setCurrentIndex(self.model.findData(run))
        self.model.setFocus()

    def _train(self) -> None:
        try:
            self._session.change(model=self._chosen(), minutes=self.minutes.value())
            self._session.start("finetune", self.config())
        except TokenUnifyError as error:
            show_error(str(error))
            return
        self.before.setChecked(False)

    def _chosen(self) -> str:
        """Return the model that the line names: a run of this project stands there by its short name."""
        row = self.model.findText(self.model.currentText())
        known = self.model.itemData(row) if row >= 0 else None
        return known or self.model.currentText()

    def _list_models(self) -> None:
        """Offer the models there are, and the runs of this project; what is chosen stays."""
        if not self._session.is_open:
            return
        runs = [run for run in reversed(self._session.project.runs) if (run / "checkpoints").is_dir()]
        items = {f"{run.name}{_OURS}": str(run) for run in runs} | {name: name for name in self._session.models()}
        if list(items) == [self.model.itemText(row) for row in range(self.model.count())]:
            return
        text = self.model.currentText()
        self.model.blockSignals(True)
        self.model.clear()
        for name, value in items.items():
            self.model.addItem(name, value)
        self.model.setCurrentText(text)
        self.model.blockSignals(False)

    def _choose(self, _: str) -> None:
        self._name_button()
        self._typing.start()

    def _name_button(self, _: object = None) -> None:
        minutes = self.minutes.value()
        self.button.setText(f"Train {short_name(self._chosen())} for {minutes:g} minute{'' if minutes == 1 else 's'}")

    def _show_card(self) -> None:
        if self._session.is_open:
            try:
                size = self._session.volume.voxel_size_nm
            except TokenUnifyError:  # was said when the project was opened
                size = None
            self.card.setText(model_words(self._chosen(), size))

    def _allow(self, _: object = None) -> None:
        """Let the button be pressed, or say why it cannot."""
        reason = self._problem()
        self.button.setEnabled(not reason)
        self.reason.setText(reason)
        self.reason.setVisible(bool(reason))

    def _problem(self) -> str:
        session = self._session
        if not session.is_open:
            return "Start a project in the step Data first."
        for status in session.jobs:
            if status.stage == "finetune" and not status.state.final:
                return f"{status.name} is {status.state}; stop it in the list below to train anew."
        if session.state.annotations is None and not _is_painted(session):
            return "Nothing is annotated yet: paint two neurons that touch in the step Annotate, or use labels there."
        return ""

    def _follow(self, status: JobStatus) -> None:
        if status.stage == "finetune":
            self._allow()
        elif status.stage == "pretrain" and status.state.final:
            self._list_models()

    def _show_state(self, state: ProjectState) -> None:
        self._allow()
        if state.trained != self._trained:
            self._show_last(state)

    def _show_last(self, state: ProjectState) -> None:
        """Say what was trained last, and how good it is."""
        self._trained = state.trained
        self._list_models()
        words, there = network_in_use(state)
        self.last.setText(words if there and state.trained else "")

    def _opened(self, project: object) -> None:
        state = self._session.state
        self._list_models()
        ours = self.model.findData(state.model)
        self.model.setCurrentText(self.model.itemText(ours) if ours >= 0 else state.model)
        self.minutes.setValue(state.minutes)
        self._name_button()
        self._show_card()
        self._show_last(state)
        self._allow()

    def _allow_flip(self, _: object = None) -> None:
        self.before.setEnabled(self._layer(BEFORE) is not None and self._layer(PREVIEW) is not None)

    def _flip(self, before: bool) -> None:
        """Show the preview before the training or the last one, and not the other."""
        for name, wanted in ((BEFORE, before), (PREVIEW, not before)):
            layer = self._layer(name)
            if layer is not None:
                layer.visible = wanted

    def _layer(self, name: str) -> Layer | None:
        return own_layer(self._viewer, name)


def _words(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def _is_painted(session: Session) -> bool:
    """Whether a stroke was ever kept: of labels on disk only the blocks exist that hold one."""
    blocks = session.project.annotations / "0" / "c"
    return any(path.is_file() for path in blocks.rglob("*"))
