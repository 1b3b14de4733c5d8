"""Did it help? The same trainings from a pre-training and from scratch, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.config import ComparePretrainingConfig
from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.events import Message
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session

_STAGE: Final = "compare-pretraining"
_ROWS: Final = {
    "affinity_f1": ("F1 ↑", "Affinity F1 at places that no training saw; larger is better."),
    "validation_loss": ("loss ↓", "Loss at places that no training saw; smaller is better."),
    "voi": ("VOI ↓", "Variation of information of the segments there; smaller is better."),
    "adapted_rand_error": ("Rand ↓", "Adapted Rand error of the segments there; smaller is better."),
}
_NONE: Final = "nothing else"
_WHAT: Final = (
    "<b>Did it help?</b> Trains from the pre-training and from scratch, with the same labels and the same time, and "
    "compares them where none has seen labels."
)
_NOTHING_YET: Final = "Nothing is pre-trained yet in this project."


class HelpedPanel(QWidget):
    """Compare a pre-training with none, and show the table.

    Parameters
    ----------
    session : Session
        Whose annotations, and who starts the job.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.model, self.other = QComboBox(), QComboBox()
        self.model.setToolTip("The pre-training in question.")
        self.other.setToolTip(
            "Hold another one beside it, best one by the recipe 'Masked autoencoder' of equal length."
        )
        self.minutes, self.seeds = QDoubleSpinBox(), QSpinBox()
        self.minutes.setRange(0.05, 100_000)
        self.minutes.setValue(ComparePretrainingConfig.model_fields["minutes"].default)
        self.minutes.setToolTip("Of each training.")
        self.seeds.setRange(1, 100)
        self.seeds.setValue(ComparePretrainingConfig.model_fields["seeds"].default)
        self.seeds.setToolTip("Trainings from each start; more tell skill from chance.")
        self.button, self.words, self.table = QPushButton("Did it help?"), QLabel(), QTableWidget()
        self.button.setMinimumHeight(36)
        self.button.setToolTip("Train and score in the background; it can be stopped, and goes on where it was.")
        self.open = QPushButton("Open table")
        self.open.setToolTip("Open the table as Markdown; table.csv lies beside it.")
        self.words.setWordWrap(True)
        self._file = ""
        self._arrange()
        for box in (self.model, self.other):
            box.currentIndexChanged.connect(self._say_time)
        for spin in (self.minutes, self.seeds):
            spin.valueChanged.connect(self._say_time)
        self.button.clicked.connect(self._start)
        self.open.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(self._file)))
        listen(session.job_changed, self._follow)
        listen(session.job_said, self._hear)
        self.offer([])

    def _arrange(self) -> None:
        what, rows, layout = QLabel(_WHAT), QFormLayout(), QVBoxLayout(self)
        what.setWordWrap(True)
        rows.addRow("start from", self.model)
        rows.addRow("and from", self.other)
        rows.addRow("minutes each", self.minutes)
        rows.addRow("seeds", self.seeds)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(what)
        layout.addLayout(rows)
        for widget in (self.button, self.words, self.table, self.open):
            layout.addWidget(widget)
        layout.addWidget(CopyButtons(_STAGE, self.config))

    def offer(self, runs: Sequence[Path]) -> None:
        """Offer finished pre-trainings, the last one first, and show what was compared last."""
        for box, first in ((self.model, []), (self.other, [(_NONE, "")])):
            chosen = box.currentData()
            box.blockSignals(True)
            box.clear()
            for name, value in (*first, *((run.name, str(run)) for run in runs)):
                box.addItem(name, value)
            box.setCurrentIndex(max(0, box.findData(chosen)))
            box.blockSignals(False)
        self._show({})
        self._say_time()
        for status in self._session.jobs if self._session.is_open else ():
            self._follow(status)

    def config(self) -> ComparePretrainingConfig:
        """Return the settings as they stand.

        Raises
        ------
        ConfigError, ProjectError
            If nothing is pre-trained, or no project is open.
        """
        model, other = self.model.currentData(), self.other.currentData()
        if not model:
            raise ConfigError(_NOTHING_YET)
        others = (other,) if other and other != model else ()
        return self._session.compare_pretraining_config(
            model=model, others=others, minutes=self.minutes.value(), seeds=self.seeds.value()
        )

    def _start(self) -> None:
        try:
            self._session.start(_STAGE, self.config())
        except TokenUnifyError as error:
            show_error(str(error))

    def _say_time(self, _: object = None) -> None:
        """Say how long it will take, or why it cannot be done."""
        if self._is_at_work():
            return
        ready = self.model.count() > 0
        self.button.setEnabled(ready)
        starts = 2 + (self.other.currentIndex() > 0 and self.other.currentData() != self.model.currentData())
        minutes = starts * self.seeds.value() * self.minutes.value()
        self.words.setText(f"{starts * self.seeds.value()} trainings, {minutes:g} minutes." if ready else _NOTHING_YET)

    def _is_at_work(self) -> bool:
        jobs = self._session.jobs if self._session.is_open else ()
        return any(status.stage == _STAGE and not status.state.final for status in jobs)

    def _follow(self, status: JobStatus) -> None:
        """Show the table of a comparison that is done."""
        if status.stage != _STAGE:
            return
        self.button.setEnabled(status.state.final and self.model.count() > 0)
        if status.state is JobState.DONE and status.result:
            self._show(status.result)
        elif not status.state.final:
            self.words.setText(f"{status.name} is {status.state}...")
        elif status.state is not JobState.DONE:
            reason = f": {status.reason}" if status.reason else "."
            self.words.setText(f"{status.name} {status.state}{reason} It can be resumed in the list of jobs.")

    def _hear(self, status: JobStatus, event: Event) -> None:
        """Tell each result as it comes."""
        if status is not None and status.stage == _STAGE and isinstance(event, Message) and not status.state.final:
            self.words.setText(event.text)

    def _show(self, result: dict[str, Any]) -> None:
        """Show the table of a result, or none."""
        rows = result.get("rows", [])
        names = [name for name in _ROWS if any(name in row for row in rows)]
        self.table.setVisible(bool(rows))
        self.open.setVisible(bool(rows))
        if not rows:
            return
        self._file = result["table"]
        self.words.setText(f"<b>{result['verdict']}</b>")
        self.table.setRowCount(len(names))
        self.table.setColumnCount(len(rows))
        for number, name in enumerate(names):
            head = QTableWidgetItem(_ROWS[name][0])
            head.setToolTip(_ROWS[name][1])
            self.table.setVerticalHeaderItem(number, head)
        for column, row in enumerate(rows):
            head = QTableWidgetItem(row["start"].replace(" (", "\n("))
            head.setToolTip(
                f"{row['steps']:,} steps in {row['minutes']:.1f} minutes, learning rate {row['learning_rate']:g}"
            )
            self.table.setHorizontalHeaderItem(column, head)
            for number, name in enumerate(names):
                self.table.setItem(number, column, _cell(row, name))
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setFixedHeight(2 * header.fontMetrics().lineSpacing() + 8)
        self.table.resizeRowsToContents()
        height = header.height() + sum(self.table.rowHeight(number) for number in range(len(names)))
        self.table.setFixedHeight(height + 2 * self.table.frameWidth())


def _cell(row: dict[str, Any], name: str) -> QTableWidgetItem:
    """Return mean and spread of a score."""
    value, spread = row.get(name), row.get(f"{name}_spread")
    text = "" if value is None else f"{value:.3f}" + ("" if spread is None else f"\n± {spread:.3f}")
    item = QTableWidgetItem(text)
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    item.setToolTip(f"{row['start']}: mean and standard deviation over {row['seeds']} seeds")
    return item
