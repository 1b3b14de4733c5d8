"""What a job is, and how one stands."""

from __future__ import annotations

import os
import string
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from napari_tokenunify.config import Config
from napari_tokenunify.pipeline import STAGES

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokenunify.events import Progress

_PLACEHOLDERS: Final = {"python", "run", "worker"}


class LaunchConfig(Config):
    """Where and how the process of a job is started."""

    kind: Literal["local", "command", "slurm"] = "local"
    """This machine, a command of your own (ssh, a container, another queue), or Slurm; all need the same run folder."""
    template: str | None = None
    """The command, e.g. "ssh gpu1 {worker}"; {python} and {run} stand for this Python and the run folder."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """Processes with one GPU each, started with torchrun; more see more crops a second."""
    slurm: dict[str, str] = Field({})
    """What sbatch is to be told, by name: partition=gpu, time=4:00:00; a longer time may wait longer for its start."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "command") != (self.template is not None):
            raise ValueError("a template belongs to the kind 'command', and that kind needs one")
        if self.template is not None:
            names = {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}
            if not names & {"run", "worker"} or names - _PLACEHOLDERS:
                raise ValueError("the template has to name {run} or {worker}, may name {python}, and nothing else")
        if any("\n" in text for text in (*self.slurm, *self.slurm.values())):
            raise ValueError("an option of Slurm is one line")
        return self


class JobSpec(Config):
    """All that a worker has to know; saved as `spec.json` in the run folder."""

    stage: str
    """Name of a stage in `pipeline.STAGES`."""
    config: dict[str, Any]
    """The stage's settings, as plain values."""
    name: str = ""
    """What people call the job; by default the name of its run folder."""
    created: str = Field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    """When it was made, ISO 8601."""
    lane: str | None = "compute"
    """Jobs of one lane run one after the other on a machine; None starts at once, and may share a GPU with others."""
    launcher: LaunchConfig = LaunchConfig()
    """Where and how the process is started."""
    working_folder: str = Field(default_factory=os.getcwd)
    """What relative paths in the settings start from."""

    @model_validator(mode="before")
    @classmethod
    def _settings_are_those_of_the_stage(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults, so that a run says all it was told and two can be compared."""
        stage = STAGES.get(str(values.get("stage")))
        if stage is None:
            raise ValueError(f"there is no stage {values.get('stage')!r}; there are {', '.join(STAGES)}")
        return {**values, "config": stage.config(**values.get("config", {})).model_dump(mode="json")}

    def same_work(self, other: JobSpec) -> bool:
        """Whether two jobs do the same, wherever and whenever they run."""
        return (self.stage, self.config) == (other.stage, other.config)

    def grown_into(self, other: JobSpec) -> bool:
        """Whether another job does the same and more, so that it can go on in the folder of this one."""
        stage = STAGES[self.stage]
        changed = {name for name in other.config if other.config[name] != self.config.get(name)}
        if self.stage != other.stage or not changed or not changed <= set(stage.grows):
            return False
        if stage.grows_with is not None and not self.config[stage.grows_with]:
            return False
        return all(_is_more(other.config[name], self.config[name]) for name in changed)


def _is_more(value: Any, before: Any) -> bool:
    """Compare two numbers, or two lists of which the first has to hold all of the second."""
    if isinstance(before, list):
        return set(before) < set(value)
    return bool(value > before)


class JobState(StrEnum):
    """How a job stands; `docs/jobs.md` has the diagram."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"
    CRASHED = "crashed"

    @property
    def final(self) -> bool:
        """Whether no process works for the job any more."""
        return self in {JobState.STOPPED, JobState.DONE, JobState.FAILED, JobState.CRASHED}


@dataclass(frozen=True)
class JobStatus:
    """What is known of a job at one moment.

    Attributes
    ----------
    state : JobState
        Who said so is in the name: the worker says all but `crashed`, which means that it ended and said nothing.
    stage, name : str
        What runs, and what people call it.
    folder : Path
        The run folder.
    progress : Progress or None
        The last one; None before the first.
    metrics : dict of str to float
        The last value of each that was measured.
    step : int or None
        After how many steps the last of them was measured.
    eta_seconds : float or None
        How long the present phase will take still; None if nothing can be said.
    memory_mb, gpu_memory_mb : float or None
        Resident memory of the worker now, and the most it has used on its GPU, in 10**6 bytes.
    reason : str or None
        One sentence: why it waits, failed or crashed, and what to do.
    log : tuple of str
        For a crash, the last lines of what the worker printed.
    started, ended : float or None
        When this start began and ended, seconds since 1970.
    result : dict or None
        What the stage returned, once it is done.
    pid : int or None
        The worker's process; it may be one of another machine, see `host`.
    host : str or None
        The machine that it runs on.
    """

    state: JobState
    stage: str
    name: str
    folder: Path
    progress: Progress | None = None
    metrics: dict[str, float] | None = None
    step: int | None = None
    eta_seconds: float | None = None
    memory_mb: float | None = None
    gpu_memory_mb: float | None = None
    reason: str | None = None
    log: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None
    result: dict[str, Any] | None = None
    pid: int | None = None
    host: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the times as ISO 8601 of this machine's time zone."""
        plain = {"state": str(self.state), "folder": str(self.folder), "log": list(self.log)}
        return {**asdict(self), **plain, "started": _iso(self.started), "ended": _iso(self.ended)}


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
