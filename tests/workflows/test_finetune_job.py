"""Fine-tuning as a job: a real child process trains, is killed, runs out of disk, is stopped, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.jobs import Job, JobSpec, JobState
from napari_tokenunify.jobs.spec import LaunchConfig
from napari_tokenunify.network.installed import find_model
from tests.train.test_finetuning import config, data  # noqa: F401 - a fixture

PATIENCE = 90.0


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


def job_of(settings: FinetuneConfig, launch: LaunchConfig | None = None) -> Job:
    spec = JobSpec(stage="finetune", config=settings.model_dump(mode="json"), launcher=launch or LaunchConfig())
    return Job.create(Path(settings.out).resolve(), spec)


def wait(job, wanted):
    """Poll until `wanted(status)`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = job.poll()
        if wanted(status):
            return status
        assert not status.state.final, status
        time.sleep(0.05)
    raise AssertionError(job.log_tail(20))


def test_a_training_that_is_killed_is_seen_and_goes_on(data):  # noqa: F811
    job = job_of(config(data, steps=400, preview="0:8,0:32,0:32"))
    job.start()
    wait(job, lambda status: "loss" in status.metrics)
    os.kill(job.poll().pid, signal.SIGKILL)
    killed = time.monotonic()
    status = wait(job, lambda status: status.state == JobState.CRASHED)
    assert time.monotonic() - killed < 2
    assert "memory" in status.reason
    again = Job(job.folder)
    again.resume()
    wait(again, lambda status: "loss" in status.metrics)
    again.stop()
    wait(again, lambda status: status.state == JobState.STOPPED)
    assert find_model(job.folder).exists()


def test_a_full_disk_is_told_in_one_sentence_and_what_was_there_stays(data):  # noqa: F811
    limited = LaunchConfig(kind="command", template="bash -c 'ulimit -f 120; exec {worker}'")
    job = job_of(config(data, steps=2), limited)
    job.start()
    status = wait(job, lambda status: status.state.final)
    assert status.state == JobState.FAILED
    assert "cannot be written" in status.reason
    assert "Traceback" not in status.reason


def test_the_command_line_prints_the_result_and_knows_a_run_that_is_done(data):  # noqa: F811
    settings = config(data, steps=2).model_dump(mode="json", exclude_defaults=True)
    words = [sys.executable, "-m", "napari_tokenunify", "finetune", "--json"]
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        words += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    for _ in range(2):
        told = subprocess.run(words, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        result = json.loads(told.stdout)
        assert result["steps"] == 2
        assert result["model"] == str(find_model(data / "run"))
