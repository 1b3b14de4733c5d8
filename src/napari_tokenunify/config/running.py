"""Jobs and what they are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import CliPositionalArg

from napari_tokenunify.config.base import Config


class JobConfig(Config):
    """What every verb about one job has to know."""

    run: CliPositionalArg[str]
    """The folder of the run."""


class JobsListConfig(Config):
    """List the jobs that were started here, the last one first, and how they stand."""

    running: bool = False
    """Only those that have not ended."""


class JobsShowConfig(JobConfig):
    """Show how a job stands: state, progress, last metrics, memory, settings, the end of its log."""


class JobsWatchConfig(JobConfig):
    """Watch a job until it ends; Ctrl-C leaves off watching, and the job goes on."""


class JobsPauseConfig(JobConfig):
    """Let a job wait after its step, with all it has in memory; `jobs resume` lets it go on."""


class JobsStopConfig(JobConfig):
    """End a job after its step, with a checkpoint; `jobs resume` goes on from there."""

    now: bool = False
    """End it at once; what it did since its last checkpoint is lost."""


class JobsResumeConfig(JobConfig):
    """Let a job go on that is paused, was stopped, failed or crashed."""


class JobsLogConfig(JobConfig):
    """Show the end of what a job and its libraries printed."""

    lines: Annotated[int, Field(ge=1)] = 40
    """How many lines; a larger value goes further back."""


class JobsCompareConfig(Config):
    """Put runs side by side: settings that differ, the last and the best of what was measured."""

    runs: CliPositionalArg[tuple[str, ...]]
    """The folders of two runs or more."""
