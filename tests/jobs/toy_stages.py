"""Stages without a network: they count, fail, crash or fill the disk, and keep a checkpoint as a training does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

from napari_tokenunify.config import Config
from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Event, Message, Metric, Progress
from napari_tokenunify.pipeline import STAGES, Stage


class ToyConfig(Config):
    """Count to a number."""

    out: str
    """Folder of the run."""
    steps: int = 20
    """How far."""
    seconds: float = 0.01
    """How long a step takes."""
    ends: Literal["well", "fails", "raises", "killed", "segfault", "exits"] = "well"
    """What happens half way."""


class FullDiskConfig(Config):
    """Count on a disk that takes so many bytes more."""

    out: str
    """Folder of the run."""
    room: int
    """How many bytes a file may have."""


def count(config: ToyConfig) -> Generator[Event, None, dict[str, Any]]:
    checkpoint = Path(config.out) / "checkpoint"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    sys.stdout.write(f"printed by the stage, from step {first}\n")
    yield Message(f"from step {first}")
    step = first
    try:
        for step in range(first, config.steps):
            if step == config.steps // 2:
                _end(config.ends)
            time.sleep(config.seconds)
            yield Metric(step, {"loss": 1 / (step + 1)})
            yield Progress(step + 1, config.steps, "counting")
    except GeneratorExit:
        checkpoint.write_text(str(step + 1))
        raise
    return {"out": config.out, "counted": config.steps - first}


def _end(how: str) -> None:
    if how == "fails":
        raise TrainError("The loss is not finite; use a smaller learning rate.")
    if how == "raises":
        raise ZeroDivisionError("by hand")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exits":
        os._exit(7)


def fill_the_disk(config: FullDiskConfig) -> Generator[Event, None, dict[str, Any]]:
    import resource

    sys.dont_write_bytecode = True  # or half-written bytecode stays behind for all other processes
    resource.setrlimit(resource.RLIMIT_FSIZE, (config.room, config.room))
    try:
        for step in range(10_000):
            yield Metric(step, {"loss": 0.5})
    except GeneratorExit:
        (Path(config.out) / "checkpoint").write_text("small enough")
        raise
    return {}


STAGES["count"] = Stage("tests.jobs.toy_stages:count", ToyConfig, job=True)
STAGES["fill"] = Stage("tests.jobs.toy_stages:fill_the_disk", FullDiskConfig, job=True)
