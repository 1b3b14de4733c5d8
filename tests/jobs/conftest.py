from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_tokenunify.jobs import Job, JobSpec, JobStatus, LaunchConfig
from napari_tokenunify.jobs.processes import find
from napari_tokenunify.pipeline import STAGES

TOY_WORKER = Path(__file__).with_name("toy_worker.py")
TEMPLATE = f"{{python}} '{TOY_WORKER}' {{run}}"
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _toys_and_a_state_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))
    before = dict(STAGES)
    from tests.jobs import toy_stages

    STAGES["count"] = toy_stages.Stage("tests.jobs.toy_stages:count", toy_stages.ToyConfig, job=True)
    STAGES["fill"] = toy_stages.Stage("tests.jobs.toy_stages:fill_the_disk", toy_stages.FullDiskConfig, job=True)
    yield
    STAGES.clear()
    STAGES.update(before)


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Make a job of a toy stage; what is left of it at the end of the test is ended."""
    made: list[Job] = []

    def make(folder: str = "run", stage: str = "count", lane: str | None = None, **config: Any) -> Job:
        out = tmp_path / folder
        launcher = LaunchConfig(kind="command", template=TEMPLATE)
        spec = JobSpec(stage=stage, config={"out": str(out), **config}, lane=lane, launcher=launcher)
        made.append(Job.create(out, spec))
        return made[-1]

    yield make
    for job in made:
        if not job.folder.exists():
            continue
        job.kill()
        while find(job._files.read_process()) is not None:
            time.sleep(0.01)


def wait_for(job: Job, *states: str, patience: float = PATIENCE_S) -> JobStatus:
    """Poll until a job is in one of these states, by default an end."""
    return wait_until(job, lambda status: status.state in states if states else status.state.final, patience)


def wait_until(job: Job, met: Callable[[JobStatus], bool], patience: float = PATIENCE_S) -> JobStatus:
    limit = time.monotonic() + patience
    while not met(status := job.poll()):
        if time.monotonic() > limit:
            raise AssertionError(f"{status}\n" + "\n".join(job.log_tail()))
        time.sleep(0.02)
    return status
