"""Where each artefact of a run lies on disk; nothing else builds these paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files of a run folder: what was asked, what happened, what it made.

    Parameters
    ----------
    folder : Path
        The run folder; made by whoever writes into it first.
    """

    folder: Path

    @property
    def spec(self) -> Path:
        """What was asked of the job; JSON."""
        return self.folder / "spec.json"

    @property
    def events(self) -> Path:
        """What the job said, one JSON object a line."""
        return self.folder / "events.jsonl"

    @property
    def control(self) -> Path:
        """What the job is told: run, pause or stop."""
        return self.folder / "control"

    @property
    def process(self) -> Path:
        """Which process works here; JSON."""
        return self.folder / "process.json"

    @property
    def log(self) -> Path:
        """Everything else that the process printed."""
        return self.folder / "log.txt"

    @property
    def settings(self) -> Path:
        """What the training settled on: Config, crop, batch, precision, versions, data with their hashes; JSON."""
        return self.folder / "training.json"

    @property
    def best(self) -> Path:
        """Weights that were best on the annotations held out."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last checkpoint."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that a training needs to go on as if it had never stopped."""
        return self.folder / "state.safetensors"

    @property
    def previous_state(self) -> Path:
        """The state before that, should the last be damaged."""
        return self.folder / "state.previous.safetensors"

    @property
    def previews(self) -> Path:
        """Folder of the predictions of the preview region."""
        return self.folder / "previews"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.folder / "tensorboard"

    @property
    def summary(self) -> Path:
        """The run in words, tables and curves; Markdown."""
        return self.folder / "summary.md"
