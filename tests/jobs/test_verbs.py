from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from napari_tokenunify.cli import main
from napari_tokenunify.errors import JobError
from napari_tokenunify.jobs import Job
from tests.jobs.conftest import wait_for, wait_until

Make = Callable[..., Job]


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_job_is_listed_shown_paused_resumed_stopped_and_its_log_read(
    make_job: Make, capsys: pytest.CaptureFixture[str]
):
    job = make_job(steps=2000)
    assert _json(capsys, "jobs", "list") == {"jobs": []}
    job.start()
    folder = str(job.folder)
    wait_until(job, lambda status: (status.step or 0) >= 2)
    (listed,) = _json(capsys, "jobs", "list", "--running")["jobs"]
    assert (listed["folder"], listed["state"], listed["stage"]) == (folder, "running", "count")
    assert main(["jobs", "list"]) == 0
    assert "run: count, running, started 20" in capsys.readouterr().out
    shown = _json(capsys, "jobs", "show", folder)
    assert shown["settings"]["steps"] == 2000
    assert shown["progress"]["total"] == 2000
    assert datetime.fromisoformat(shown["started"]).tzinfo is not None
    assert shown["log"] == ["printed by the stage, from step 0"]
    assert main(["jobs", "show", folder]) == 0
    assert "running" in capsys.readouterr().out
    assert main(["jobs", "pause", folder]) == 0
    wait_for(job, "paused")
    assert main(["jobs", "resume", folder]) == 0
    wait_for(job, "running")
    assert main(["jobs", "stop", folder]) == 0
    wait_for(job, "stopped")
    assert main(["jobs", "stop", folder]) == 0
    assert "It has ended already." in capsys.readouterr().err
    assert _json(capsys, "jobs", "log", folder, "--lines", "1")["log"] == ["printed by the stage, from step 0"]
    assert _json(capsys, "jobs", "list", "--running") == {"jobs": []}


def test_a_job_can_be_ended_now(make_job: Make, capsys: pytest.CaptureFixture[str]):
    job = make_job(steps=3, seconds=60)
    job.start()
    wait_for(job, "running")
    assert _json(capsys, "jobs", "stop", str(job.folder), "--now")["state"] == "stopped"


def test_the_last_started_comes_first_and_what_was_removed_is_forgotten(
    make_job: Make, capsys: pytest.CaptureFixture[str]
):
    jobs = [make_job(name, steps=2) for name in ("first", "second", "third")]
    for job in jobs:
        job.start()
    for job in jobs:
        wait_for(job)
    names = [job["name"] for job in _json(capsys, "jobs", "list")["jobs"]]
    assert names == ["third", "second", "first"]
    shutil.rmtree(jobs[1].folder)
    with pytest.raises(JobError, match="was removed"):
        jobs[1].poll()
    names = [job["name"] for job in _json(capsys, "jobs", "list")["jobs"]]
    assert names == ["third", "first"]


def test_runs_are_put_side_by_side(tmp_path: Path, make_job: Make, capsys: pytest.CaptureFixture[str]):
    jobs = [make_job("short", steps=2), make_job("long", steps=10)]
    for job, losses in zip(jobs, ([0.5, 0.25], [0.5, 0.1, float("nan"), 0.2]), strict=True):
        lines = [
            {"event": "Metric", "time": 1.0, "step": step, "values": {"loss": loss, "seconds": 1.0 * step}}
            for step, loss in enumerate(losses)
        ]
        (job.folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folders = [str(job.folder) for job in jobs]
    rows = {row["name"]: row["values"] for row in _json(capsys, "jobs", "compare", *folders)["rows"]}
    assert rows == {
        "steps": [2, 10],
        "loss, last": [0.25, 0.2],
        "loss, best": [0.25, 0.1],
        "seconds, last": [1.0, 3.0],
    }
    assert main(["jobs", "compare", *folders]) == 0
    out = capsys.readouterr().out
    assert "loss, best" in out
    assert "0.1" in out


def test_a_step_that_was_done_twice_counts_as_it_was_the_last_time(make_job: Make):
    from napari_tokenunify.jobs.history import Curves

    job = make_job()
    metrics = [(1, 0.9), (2, 0.8), (2, 0.7), (3, 0.6)]
    lines = [{"event": "Metric", "time": 1.0, "step": step, "values": {"loss": loss}} for step, loss in metrics]
    (job.folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Curves(job.folder).read() == {"loss": {1: 0.9, 2: 0.7, 3: 0.6}}


@pytest.mark.parametrize("verb", ["show", "watch", "pause", "stop", "resume", "log", "compare"])
def test_a_folder_without_a_job_is_one_sentence(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["jobs", verb, str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "there is no job here" in err
    assert err.count("\n") == 1
