from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_tokenunify.jobs import Job
from tests.jobs.conftest import TOY_WORKER, wait_for, wait_until

Make = Callable[..., Job]


def _by_hand(job: Job, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, *(words or (str(TOY_WORKER),)), str(job.folder)]
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=TOY_WORKER.parents[2])


@pytest.mark.parametrize("module", ["jobs", "jobs.job", "jobs.worker", "jobs.verbs"])
def test_what_starts_and_drives_jobs_loads_neither_torch_nor_zarr(module: str):
    code = (
        f"import sys, napari_tokenunify.{module} as module; [getattr(module, name) for name in dir(module)]\n"
        "print([m for m in ('torch', 'zarr', 'napari', 'qtpy', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_started_by_hand_is_found_by_its_folder(make_job: Make):
    job = make_job(steps=5)
    with _by_hand(job) as worker:
        assert worker.wait(20) == 0
    status = job.poll()
    assert (status.state, status.pid) == ("done", worker.pid)
    assert [json.loads(line)["event"] for line in _lines(job)][:2] == ["Start", "State"]


def test_two_workers_do_not_drive_one_run(make_job: Make):
    job = make_job(steps=500)
    job.start()
    wait_for(job, "running")
    impatient = "import sys; from napari_tokenunify.jobs import worker; worker._LOCK_S = 0.1; sys.exit(worker.main())"
    with _by_hand(job, "-c", impatient) as second:
        assert second.wait(20) == 75
    assert "another worker is at it" in job.log_tail(1)[0]
    assert sum('"Start"' in line for line in _lines(job)) == 1
    assert job.poll().state == "running"


def test_ctrl_c_to_a_worker_started_by_hand_is_a_stop(make_job: Make):
    job = make_job(steps=500)
    with _by_hand(job) as worker:
        wait_until(job, lambda status: (status.step or 0) >= 1)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 0
    assert job.poll().state == "stopped"


def test_a_spec_that_cannot_be_understood_is_a_failure_with_a_sentence(make_job: Make):
    job = make_job()
    (job.folder / "spec.json").write_text('{"stage": "count", "config": {"out": "a", "stepz": 3}}')
    with _by_hand(job) as worker:
        assert worker.wait(20) == 1
    status = job.poll()
    assert status.state == "failed"
    assert "cannot be understood" in str(status.reason)


def test_a_wrong_usage_of_the_worker_is_said():
    words = [sys.executable, "-m", "napari_tokenunify.jobs.worker"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_relative_paths_start_where_the_job_was_made(tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    job = make_job(steps=500, out="run")
    monkeypatch.chdir("/")
    job.start()
    wait_until(job, lambda status: (status.step or 0) >= 1)
    job.stop()
    wait_for(job)
    assert (tmp_path / "run" / "checkpoint").exists()


def test_a_worker_says_now_and_then_that_it_lives(make_job: Make):
    job = make_job(steps=3)
    job.start()
    wait_for(job)
    beats = [json.loads(line) for line in _lines(job) if '"Heartbeat"' in line]
    assert beats
    assert beats[0]["memory_mb"] > 10


def _lines(job: Job) -> list[str]:
    return (job.folder / "events.jsonl").read_text().splitlines()


def test_beside_the_first_process_of_torchrun_others_work_and_leave_with_it(make_job: Make):
    job = make_job(steps=500)
    with _by_hand(job, RANK="1") as second:
        time.sleep(0.2)
        assert not (job.folder / "events.jsonl").exists()  # it waits, and says nothing
        with _by_hand(job, RANK="0") as first:
            status = wait_until(job, lambda status: (status.step or 0) >= 2)
            assert status.pid == first.pid
            assert second.poll() is None
            job.stop()
            assert first.wait(20) == 0
        assert second.wait(20) == 0
    assert sum('"Start"' in line for line in _lines(job)) == 1
    assert any(line.startswith("printed by the stage") for line in job.log_tail(50))
