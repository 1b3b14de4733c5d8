"""Comparing the segments with labels: the scores of the field, and the worst neurons, each with a place to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.data import Finding
from napari_tokenunify.errors import ProjectError, TokenUnifyError
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.finding_list import FindingList, go_to
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.jobs import JobState

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer

    from napari_tokenunify.config import EvaluateConfig
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session

_MEANING: Final = "Lower is better: VOI split counts what is cut apart, VOI merge what is joined wrongly."
_SCORES: Final = {
    "voi_split": "VOI split",
    "voi_merge": "VOI merge",
    "voi": "VOI",
    "adapted_rand_error": "adapted Rand error",
}


class ComparePanel(QWidget):
    """How good the segments are where labels say what is true.

    Parameters
    ----------
    viewer : Viewer
        Where the worst neurons are looked at.
    session : Session
        Whose segments, and who starts the job.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._run: Path | None = None
        self.labels, self.browse = QLineEdit(), QPushButton("Browse...")
        self.labels.setPlaceholderText("the project's annotations")
        self.labels.setToolTip("What is true: a label volume, or a CSV or SWC file. Sparse labels will do.")
        self.browse.setToolTip("Choose a file of labels.")
        self.widen = QCheckBox("leave out borders")
        self.widen.setToolTip("Ignore labelled voxels that touch another neuron; gives lower, kinder errors.")
        self.button = QPushButton("Compare")
        self.button.setToolTip("Score the segments at the threshold that is shown, in the background.")
        self.scores = QLabel(_MEANING)
        self.scores.setWordWrap(True)
        self.worst = FindingList()
        place, rows, layout = QHBoxLayout(), QFormLayout(), QVBoxLayout(self)
        place.addWidget(self.labels, 1)
        place.addWidget(self.browse)
        rows.addRow("labels", place)
        rows.addRow("", self.widen)
        layout.addLayout(rows)
        layout.addWidget(self.button)
        layout.addWidget(CopyButtons("evaluate", self.config))
        layout.addWidget(self.scores)
        layout.addWidget(self.worst)
        layout.addStretch()
        self.browse.clicked.connect(self._browse)
        self.button.clicked.connect(self._compare)
        self.worst.go_to.connect(lambda target: go_to(self._viewer, self._session.volume, target))
        listen(session.job_changed, self._follow)
        listen(session.project_opened, self._opened)

    def config(self) -> EvaluateConfig:
        """Return what the next comparison would do.

        Raises
        ------
        ProjectError
            If no project is open, or there are no segments yet.
        """
        if self._session.segmentation is None:
            raise ProjectError("There are no segments yet: make them in the step Segment.")
        given = {"labels": self.labels.text().strip()} if self.labels.text().strip() else {}
        if not given and self._session.state.annotations is None and not self._session.project.annotations.exists():
            raise ProjectError("Nothing is annotated in this project yet: choose a file of labels to compare with.")
        return self._session.evaluate_config(widen_borders=self.widen.isChecked(), **given)

    def _browse(self, _: object = None) -> None:
        chosen, _filter = QFileDialog.getOpenFileName(self, "Labels that say what is true")
        if chosen:
            self.labels.setText(chosen)

    def _compare(self, _: object = None) -> None:
        try:
            self._run = self._session.start("evaluate", self.config()).folder
        except TokenUnifyError as error:
            show_error(str(error))

    def _opened(self, _: object) -> None:
        """Forget what was found in another project."""
        self._run = None
        self.labels.clear()
        self.scores.setText(_MEANING)
        self.worst.show_findings(())

    def _follow(self, status: JobStatus) -> None:
        """Show what the job has found."""
        if status.folder != self._run:
            return
        if status.state is not JobState.DONE:
            self.scores.setText((status.reason or "") if status.state.final else "Comparing...")
            self.worst.show_findings(())
            return
        found: dict[str, Any] = status.result or {}
        lines = [f"<b>{name}</b> {found[key]:.3f}" for key, name in _SCORES.items()]
        lines.append(f"{found['neurons']} neurons, {found['segments']} segments, {found['voxels']:,} voxels compared.")
        if "edits" in found:
            lines.append(f"{found['edits']['merges']} merges and {found['edits']['cuts']} cuts would mend all.")
        self.scores.setText("<br>".join(lines))
        self.worst.show_findings([_as_finding(neuron) for neuron in found["worst"]])


def _as_finding(neuron: dict[str, Any]) -> Finding:
    """Return a bad neuron as something to go to."""
    wrong = [f"{neuron['pieces']} pieces, the largest {neuron['largest_share']:.0%} of it"]
    if neuron["merged_with"]:
        wrong.append("merged with " + ", ".join(map(str, neuron["merged_with"][:3])))
    message = f"neuron {neuron['neuron']}: {'; '.join(wrong)} (VOI {neuron['voi_split'] + neuron['voi_merge']:.3f})"
    return Finding("worst-neuron", "warning", message, places=tuple((*place["at"],) for place in neuron["places"]))
