"""The job panel: a row for each job with bar, time left and buttons, and curves, numbers and log of the chosen one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from napari.utils.notifications import show_warning
from qtpy.QtCore import QSize, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.gui.curve_plots import OBJECTIVES, CurvePlots
from napari_tokenunify.gui.job_watch import JobWatch
from napari_tokenunify.jobs import Job, JobState, known_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_tokenunify.jobs import JobStatus

_MOST: Final = 30  # jobs that are listed
_TOLD: Final = ("loss", "validation_loss", "voi", "affinity_f1")
_PAUSABLE: Final = {JobState.STARTING, JobState.RUNNING}
_RESUMABLE: Final = {JobState.PAUSED, JobState.STOPPED, JobState.FAILED, JobState.CRASHED}
_LOG_LINES: Final = 200


class JobPanel(QWidget):
    """All jobs, the last started first.

    Parameters
    ----------
    watch : JobWatch, optional
        Looks after the jobs that are listed, as long as its owner lets it; by default all jobs this user has started
        are listed, and looked after while somebody looks at the panel.
    """

    def __init__(self, watch: JobWatch | None = None) -> None:
        super().__init__()
        self.setObjectName("TokenUnify jobs")
        self._rows: dict[Path, tuple[QListWidgetItem, _Row]] = {}
        self.list = QListWidget()
        self.list.setToolTip("The jobs that were started, the last one first. They go on when napari is closed.")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.currentItemChanged.connect(self._choose)
        self.empty = QLabel("No job was started yet.")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.details = _Details()
        self.details.hide()
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.addWidget(self.list)
        self.splitter.addWidget(self.details)
        self.splitter.setStretchFactor(1, 2)
        self.splitter.hide()
        layout = QVBoxLayout(self)
        layout.addWidget(self.empty)
        layout.addWidget(self.splitter)
        self._own = watch is None
        self.watch = watch or JobWatch(lambda: known_jobs()[:_MOST], self)
        self.watch.updated.connect(self._show)
        self.watch.measured.connect(self.details.draw)
        self.watch.problem.connect(show_warning)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look at the jobs only while somebody looks at the panel."""
        super().showEvent(event)
        if self._own:
            self.watch.start()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Rest."""
        if self._own:
            self.watch.stop()
        super().hideEvent(event)

    @property
    def chosen(self) -> Path | None:
        """The run folder of the job whose details are shown."""
        item = self.list.currentItem()
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    def _choose(self) -> None:
        self.watch.look_at(self.chosen)

    def _show(self, statuses: list[JobStatus]) -> None:
        """Bring the rows to where the jobs stand."""
        folders = [status.folder for status in statuses]
        if folders != list(self._rows):
            self._make_rows(statuses)
        self.empty.setVisible(not statuses)
        self.splitter.setVisible(bool(statuses))
        for status in statuses:
            self._rows[status.folder][1].show_status(status)
            if status.folder == self.chosen:
                self.details.show_status(status)
        self.details.setVisible(self.chosen is not None)

    def _make_rows(self, statuses: list[JobStatus]) -> None:
        known, chosen = set(self._rows), self.chosen
        self.list.clear()
        self._rows = {}
        for status in statuses:
            item, row = QListWidgetItem(), _Row(status.folder, self.watch)
            item.setData(Qt.ItemDataRole.UserRole, status.folder)
            item.setSizeHint(QSize(0, row.sizeHint().height()))  # as wide as the list is
            self.list.addItem(item)
            self.list.setItemWidget(item, row)
            self._rows[status.folder] = (item, row)
        newest = next(iter(self._rows), None)
        if newest is not None:  # a new job is what the user waits for
            wanted = chosen if chosen in self._rows and newest in known else newest
            self.list.setCurrentItem(self._rows[wanted][0])


class _Row(QWidget):
    """One job in the list."""

    def __init__(self, folder: Path, watch: JobWatch) -> None:
        super().__init__()
        self._folder, self._watch = folder, watch
        self.title, self.bar = QLabel(), QProgressBar()
        self.bar.setTextVisible(True)
        self.pause = _button("Pause", "Wait after this step, with everything in memory.", self._pause)
        self.resume = _button("Resume", "Go on where it was.", self._resume)
        self.stop = _button("Stop", "End after this step, with a checkpoint; it can be resumed.", self._stop)
        top, below = QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.title, 1)
        for button in (self.pause, self.resume, self.stop):
            top.addWidget(button)
        below.addWidget(self.bar)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(top)
        layout.addLayout(below)

    def show_status(self, status: JobStatus) -> None:
        """Show where the job stands."""
        self.title.setText(f"<b>{status.name}</b>  {status.state}")
        self.title.setToolTip(str(status.folder))
        self.pause.setVisible(status.state in _PAUSABLE)
        self.resume.setVisible(status.state in _RESUMABLE)
        self.stop.setVisible(not status.state.final)
        progress = status.progress
        self.bar.setRange(0, max(1, progress.total) if progress else 1)
        self.bar.setValue(progress.done if progress else 0)
        if status.state is JobState.DONE:
            self.bar.setValue(self.bar.maximum())
        self.bar.setFormat(_on_the_way(status))

    def _pause(self) -> None:
        self._watch.order(self._folder, "pause")

    def _resume(self) -> None:
        self._watch.order(self._folder, "resume")

    def _stop(self) -> None:
        self._watch.order(self._folder, "stop")


class _Details(QWidget):
    """The chosen job: how it stands in words, its curves, its log."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: Path | None = None
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.curves = CurvePlots()
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setPlaceholderText("The job has printed nothing.")
        self.log.hide()
        self.show_log = _button("Log", "Show what the job and its libraries have printed.", self._toggle_log)
        self.show_log.setCheckable(True)
        self.open = _button("Open folder", "Show the run folder: checkpoints, summary, previews.", self._open_folder)
        buttons = QHBoxLayout()
        buttons.addWidget(self.show_log)
        buttons.addWidget(self.open)
        buttons.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.words)
        layout.addWidget(self.curves, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.log, 1)

    def show_status(self, status: JobStatus) -> None:
        """Say how the job stands."""
        self._folder = status.folder
        self.words.setText("<br>".join(_sentences(status)))
        if self.log.isVisible():
            self._read_log()

    def draw(self, folder: Path, measured: dict[str, dict[int, float]]) -> None:
        """Draw the curves of a run."""
        self.curves.draw(measured)

    def _toggle_log(self) -> None:
        self.log.setVisible(self.show_log.isChecked())
        self._read_log()

    def _read_log(self) -> None:
        if self._folder is not None and self.show_log.isChecked():
            text = "\n".join(Job(self._folder).log_tail(_LOG_LINES))
            if text != self.log.toPlainText():
                self.log.setPlainText(text)
                bar = self.log.verticalScrollBar()
                if bar is not None:
                    bar.setValue(bar.maximum())

    def _open_folder(self) -> None:
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))


def _button(text: str, tip: str, pressed: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(pressed)
    return button


def _on_the_way(status: JobStatus) -> str:
    """Return what stands in the bar."""
    if status.state.final:
        return str(status.state)
    words = [status.progress.what if status.progress else str(status.state)]
    if status.eta_seconds is not None:
        words.append(f"{timedelta(seconds=round(status.eta_seconds))} left")
    return ", ".join(words)


def _sentences(status: JobStatus) -> list[str]:
    """Say in a few lines how a job stands."""
    lines = [status.reason] if status.reason else []
    metrics = status.metrics or {}
    numbers = [f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in _TOLD if name in metrics]
    if status.memory_mb is not None and not status.state.final:
        numbers.append(f"memory {status.memory_mb:,.0f} MB")
    if status.gpu_memory_mb:
        numbers.append(f"GPU {status.gpu_memory_mb:,.0f} MB")
    if numbers:
        lines.append(" · ".join(numbers))
    shares = {legend: metrics.get(f"{name}_against_inpainting") for name, legend in OBJECTIVES.items()}
    if told := [f"{legend} {share:.2f}" for legend, share in shares.items() if share is not None]:
        lines.append(f"loss as a share of plain inpainting's: {', '.join(told)}")
    return [line for line in lines if line] or [str(status.state)]
