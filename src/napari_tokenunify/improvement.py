"""Improvement: from edits to a better network and better segments, a chain of jobs that ends with the same edits.

1. proofread labels   what edits say, beside the user's own annotations, as labels
2. finetune           the network learns from them
3. predict            new affinities
4. segment            new segments, beside those that were edited; then the edits are carried over, see Session
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psygnal import Signal

from napari_tokenunify.config import ProofreadLabelsConfig
from napari_tokenunify.errors import ProofreadError, TokenUnifyError
from napari_tokenunify.jobs import JobState

if TYPE_CHECKING:
    from napari_tokenunify.jobs import JobStatus
    from napari_tokenunify.session import Session

LABELS: Final = "proofread labels"
STEPS: Final = {
    LABELS: "writing what your edits say as labels",
    "finetune": "training the network on them",
    "predict": "predicting new affinities",
    "segment": "making new segments",
}
"""The stages, and what they do in words."""


class Improvement:
    """Starts each job when the one before is done, also if napari was closed meanwhile.

    Attributes
    ----------
    changed : Signal()
        A step has begun, or the last one has ended.

    Parameters
    ----------
    session : Session
        Whose project.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        session.job_ended.connect(self._go_on)
        session.job_changed.connect(self._tell)
        session.project_opened.connect(self._tell)

    @property
    def job(self) -> JobStatus | None:
        """The job at work, or the one that the improvement waits for; None if nothing is being improved."""
        if not self._session.is_open or self._session.state.improving is None:
            return None
        name = self._session.state.improving
        return next((status for status in self._session.jobs if status.folder.name == name), None)

    def labels_config(self, **changes: Any) -> ProofreadLabelsConfig:
        """Return the settings of the first step: edits and the user's own annotations become labels.

        Raises
        ------
        ProofreadError
            If there is no segmentation.
        """
        session = self._session
        if session.segmentation is None:
            raise ProofreadError("There are no segments yet: make them in the step Segment.")
        state, folder = session.state, session.project.folder
        number = 1
        while (folder / f"edits-{number}.zarr").exists():
            number += 1
        own = state.annotations or (str(session.project.annotations) if session.project.annotations.exists() else None)
        known = {
            "segmentation": str(session.project.segmentation),
            "volume": state.volume,
            "out": str(folder / f"edits-{number}.zarr"),
            "threshold": session.shown_threshold,
            "annotations": own,
            "boundary_id": state.boundary_id,
            "zero_is_boundary": state.zero_is_boundary,
            "voxel_size": state.voxel_size,
        }
        return ProofreadLabelsConfig(**{**known, **changes})

    def begin(self) -> None:
        """Start the chain.

        Raises
        ------
        TokenUnifyError
            If there is nothing to learn from, a job of the chain is at work, or it cannot be started.
        """
        session = self._session
        for status in session.jobs:
            if status.stage in STEPS and not status.state.final:
                raise ProofreadError(f"{status.name} is {status.state}: wait until it is done, or stop it first.")
        self._start(LABELS, self.labels_config())

    def end(self) -> None:
        """Start no further job; one that is at work goes on."""
        self._session.change(improving=None)
        self.changed.emit()

    def _start(self, stage: str, config: Any) -> None:
        job = self._session.start(stage, config)
        self._session.change(improving=job.folder.name)
        self.changed.emit()

    def _go_on(self, status: JobStatus) -> None:
        """Start the next job once one is done; a failed one may be resumed, so it is waited for."""
        if status.folder.name != self._session.state.improving or status.state is not JobState.DONE:
            return
        session, result = self._session, status.result or {}
        try:
            if status.stage == LABELS:
                model = session.state.trained or session.state.model
                labels = {"annotations": result["out"], "boundary_id": result.get("boundary_id")}
                labels["zero_is_boundary"] = False  # there 0 is what nobody has seen
                self._start("finetune", session.finetune_config(model=model, **labels))
            elif status.stage == "finetune":
                self._start("predict", session.predict_config())
            elif status.stage == "predict":
                self._start("segment", session.segment_config())
            else:
                self.end()
        except TokenUnifyError as error:
            session.said.emit(str(error), "error")
            self.end()

    def _tell(self, _: object) -> None:
        self.changed.emit()
