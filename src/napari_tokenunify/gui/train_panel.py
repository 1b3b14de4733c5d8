"""The step Train: a model, minutes, one big button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.form import Form
from napari_tokenunify.gui.view_box import visible_box

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.session import Session

_ADVANCED = (
    "parts",
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
_PREVIEW = (16, 256, 256)  # voxels that are previewed at most


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
        self.model, self.minutes = QComboBox(), QDoubleSpinBox()
        self.model.setToolTip("What to start from: a trained network, or a size to start from scratch.")
        self.model.setEditable(True)
        self.minutes.setRange(0.05, 100_000)
        self.minutes.setToolTip("How long to train; crop, batch and schedule are chosen to suit.")
        self.button = QPushButton("Train")
        self.button.setMinimumHeight(44)
        self.button.setToolTip("Start learning in the background; painting goes on meanwhile.")
        self.more = QCheckBox("more settings")
        self.form = Form(FinetuneConfig, _ADVANCED)
        self.form.native.setVisible(False)
        rows = QFormLayout()
        rows.addRow("start from", self.model)
        rows.addRow("minutes", self.minutes)
        layout = QVBoxLayout(self)
        layout.addLayout(rows)
        layout.addWidget(self.button)
        hint = QLabel("While it learns, what is visible is predicted every 20 seconds.")
        hint.setWordWrap(True)
        layout.addWidget(hint)
        layout.addWidget(self.more)
        layout.addWidget(self.form.native)
        layout.addWidget(CopyButtons("finetune", self.config))
        layout.addStretch()
        self.more.toggled.connect(self.form.native.setVisible)
        self.button.clicked.connect(self._train)
        session.project_opened.connect(self._opened)

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
            **values, model=self.model.currentText(), minutes=self.minutes.value(), preview=preview
        )

    def _train(self) -> None:
        try:
            self._session.change(model=self.model.currentText(), minutes=self.minutes.value())
            self._session.start("finetune", self.config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _opened(self, project: object) -> None:
        state = self._session.state
        self.model.clear()
        self.model.addItems(self._session.models())
        self.model.setCurrentText(state.model)
        self.minutes.setValue(state.minutes)
