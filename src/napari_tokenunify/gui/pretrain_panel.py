"""Pre-training, the second part of the step Train: volumes, a recipe, a size, minutes, and what comes of it."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.config import PretrainConfig
from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.form import Form
from napari_tokenunify.gui.helped_panel import HelpedPanel
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.model_words import PARAMETERS, short_name
from napari_tokenunify.gui.reconstructions import Reconstructions
from napari_tokenunify.gui.volume_list import Listed, VolumeList, listed_volume
from napari_tokenunify.jobs import JobState
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.train.pretraining.recipes import load_recipe, recipe_names

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session
    from napari_tokenunify.train.pretraining.recipes import Recipe

_ADVANCED: Final = (
    "resample",
    "hold_out",
    "steps",
    "token",
    "order",
    "unit",
    "crop",
    "batch",
    "learning_rate",
    "preview_seconds",
    "precision",
    "device",
    "workers",
    "seed",
)
_ANOTHER: Final = "another, from a file..."
_DEFAULT: Final = PretrainConfig.model_fields["recipe"].default
_WHAT: Final = (
    "From images alone, without any label, a network learns to predict parts of them that are hidden. Training from it "
    "may then need fewer labels. It takes hours rather than minutes."
)


class PretrainPanel(QWidget):
    """Let a network learn from images without labels.

    Attributes
    ----------
    chosen : Signal(str)
        A finished pre-training that training should start from: its run folder.

    Parameters
    ----------
    viewer : Viewer
        Where reconstructions are shown.
    session : Session
        Who starts the job.
    """

    chosen = Signal(str)

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._session = session
        self._last: str | None = None  # run that is finished
        self.volumes, self.seen = VolumeList(), Reconstructions(viewer, session)
        self.helped = HelpedPanel(session)
        self._make_widgets()
        self._arrange()
        self.recipe.activated.connect(self._choose_recipe)
        self.recipe.currentIndexChanged.connect(self._say_recipe)
        self.model.currentTextChanged.connect(self._name_button)
        self.minutes.valueChanged.connect(self._name_button)
        self.volumes.changed.connect(self._allow)
        self.more.toggled.connect(lambda wanted: self.form.native.setVisible(wanted))
        self.button.clicked.connect(self._start)
        self.use.clicked.connect(lambda: self.chosen.emit(self._last or ""))
        listen(session.project_opened, self._opened)
        listen(session.job_changed, self._follow)
        self._say_recipe()
        self._name_button()
        self._opened(None)

    def _make_widgets(self) -> None:
        self.recipe, self.about = QComboBox(), _words()
        self.recipe.setToolTip("What is hidden, what is predicted, and how much it counts when.")
        for name, recipe in own_recipes().items():
            self.recipe.addItem(recipe.title, name)
        self.recipe.insertSeparator(self.recipe.count())
        self.recipe.addItem(_ANOTHER)
        self.model = QComboBox()
        self.model.setToolTip("A size to start from scratch, or a pre-training of this project to go on from.")
        self.model.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.05, 1_000_000)
        self.minutes.setValue(PretrainConfig.model_fields["minutes"].default)
        self.minutes.setToolTip("How long to learn; the phases of the recipe end with it. More gives a better network.")
        self.button, self.reason = QPushButton(), _words()
        self.button.setMinimumHeight(44)
        self.button.setToolTip("Start in the background; it can be paused, stopped and resumed in the list of jobs.")
        self.use = QPushButton()
        self.use.setToolTip("Choose it above as what training starts from.")
        self.use.hide()
        self.more = QCheckBox("more settings")
        self.more.setToolTip("What is chosen to suit, unless it is said here.")

    def _arrange(self) -> None:
        rows, layout, line = QFormLayout(), QVBoxLayout(self), QFrame()
        rows.addRow("recipe", self.recipe)
        rows.addRow(self.about)
        rows.addRow("network", self.model)
        rows.addRow("minutes", self.minutes)
        line.setFrameShape(QFrame.Shape.HLine)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(_words(_WHAT))
        layout.addWidget(QLabel("learn from"))
        layout.addWidget(self.volumes)
        layout.addLayout(rows)
        for widget in (self.button, self.reason, self.seen, self.use, self.more):
            layout.addWidget(widget)
        layout.addWidget(CopyButtons("pretrain", self.config))
        layout.addSpacing(8)
        layout.addWidget(line)
        layout.addWidget(self.helped)

    @cached_property
    def form(self) -> Form:
        """All other settings; made when somebody asks for them."""
        form, layout = Form(PretrainConfig, _ADVANCED), self.layout()
        form.native.setVisible(False)
        if isinstance(layout, QVBoxLayout):
            layout.insertWidget(layout.indexOf(self.more) + 1, form.native)
        return form

    def config(self) -> PretrainConfig:
        """Return the settings as they stand.

        Raises
        ------
        ConfigError, ProjectError
            If one cannot be used, or no project is open.
        """
        if not self.volumes.addresses:
            raise ConfigError("There is no volume to learn from: add one.")
        values: dict[str, Any] = {}
        if "form" in self.__dict__:  # else all is as the Config has it
            values = self.form.config(volumes=("-",), out="-").model_dump(include=set(_ADVANCED))
        return self._session.pretrain_config(
            **values,
            volumes=self.volumes.addresses,
            voxel_size=self.volumes.voxel_sizes(),
            recipe=self.recipe.currentData(),
            model=self.model.currentData(),
            minutes=self.minutes.value(),
        )

    def _start(self) -> None:
        try:
            self._session.start("pretrain", self.config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _choose_recipe(self, row: int) -> None:
        """Take a recipe of the user's own."""
        if self.recipe.itemText(row) != _ANOTHER:
            return
        path, _ = QFileDialog.getOpenFileName(self, "A recipe", filter="Recipes (*.yaml *.yml)")
        try:
            if path:
                self.recipe.insertItem(row, load_recipe(path).title, path)
            self.recipe.setCurrentIndex(row if path else 0)
        except TokenUnifyError as error:
            self.recipe.setCurrentIndex(0)
            show_error(str(error))

    def _say_recipe(self, _: object = None) -> None:
        name = self.recipe.currentData()
        if name is not None:
            self.about.setText((own_recipes().get(name) or load_recipe(name)).description)

    def _name_button(self, _: object = None) -> None:
        minutes, name = self.minutes.value(), short_name(self.model.currentData() or "")
        self.button.setText(f"Pre-train {name} for {minutes:g} minute{'' if minutes == 1 else 's'}")

    def _opened(self, _: object) -> None:
        """Begin with the project's own volume."""
        if not self._session.is_open:
            self._allow()
            return
        state = self._session.state
        try:
            own = listed_volume(state.volume, self._session.volume, state.voxel_size or "")
        except TokenUnifyError:  # was said when the project was opened
            own = Listed(state.volume, given=state.voxel_size or "")
        self.volumes.start_with(own)
        self._list_models()
        preset = state.model if state.model in NETWORK_PRESETS else PretrainConfig.model_fields["model"].default
        self.model.setCurrentIndex(self.model.findData(preset))
        self._offer()
        self._allow()

    def _list_models(self) -> None:
        """Offer the sizes, and the pre-trainings of this project; what is chosen stays."""
        chosen = self.model.currentData()
        self.model.blockSignals(True)
        self.model.clear()
        for name in NETWORK_PRESETS:
            self.model.addItem(f"{name} ({PARAMETERS[name]:g} M parameters)", name)
        for status in self._pretrained(JobState.DONE, JobState.STOPPED):
            self.model.addItem(f"{status.name} (this project)", str(status.folder))
        self.model.setCurrentIndex(max(0, self.model.findData(chosen)))
        self.model.blockSignals(False)
        self._name_button()

    def _follow(self, status: JobStatus) -> None:
        if status.stage != "pretrain":
            return
        self._allow()
        if status.state.final:
            self._list_models()
            self._offer()

    def _offer(self) -> None:
        """Offer to train from what was pre-trained last."""
        done = self._pretrained(JobState.DONE)
        self._last = str(done[-1].folder) if done else None
        self.use.setVisible(bool(done))
        if done:
            self.use.setText(f"Train from {done[-1].name}")
        self.helped.offer([Path(status.folder) for status in reversed(done)])

    def _pretrained(self, *states: JobState) -> list[JobStatus]:
        """Return the pre-trainings that have left weights; a sweep leaves tables, and folders within its own."""
        ended = [status for status in self._session.jobs if status.stage == "pretrain" and status.state in states]
        return [status for status in ended if (status.folder / "checkpoints").is_dir()]

    def _allow(self, _: object = None) -> None:
        """Let the button be pressed, or say why it cannot."""
        reason = self._problem()
        self.button.setEnabled(not reason)
        self.reason.setText(reason)
        self.reason.setVisible(bool(reason))

    def _problem(self) -> str:
        if not self._session.is_open:
            return "Start a project in the step Data first."
        for status in self._session.jobs:
            if status.stage == "pretrain" and not status.state.final:
                return f"{status.name} is {status.state}; stop it in the list below to start another."
        return "" if self.volumes.addresses else "There is no volume to learn from: add one."


@cache
def own_recipes() -> dict[str, Recipe]:
    """Return the recipes of the package by their names, the default one first."""
    return {name: load_recipe(name) for name in sorted(recipe_names(), key=lambda name: name != _DEFAULT)}


def _words(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label
