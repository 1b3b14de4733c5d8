"""The command line with jobs, as a program of its own: what a person at a terminal does with a long verb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_tokenunify.cli import main
from napari_tokenunify.jobs import Job, JobSpec
from napari_tokenunify.pipeline import STAGES
from tests.jobs.conftest import TEMPLATE, TOY_WORKER, wait_for, wait_until

Make = Callable[..., Job]
LAUNCH = ["--launch.kind", "command", "--launch.template", TEMPLATE]


def _hear_ctrl_c() -> None:
    """A shell without a terminal starts what runs in its background deaf to it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a child."""
    children: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        children.append(
            subprocess.Popen(
                [sys.executable, str(TOY_WORKER), "cli", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                preexec_fn=_hear_ctrl_c,
            )
        )
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def _job_of(folder: Path) -> Job:
    limit = time.monotonic() + 20
    while not (folder / "spec.json").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    return Job(folder)


def test_a_long_verb_runs_as_a_job_and_prints_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "run")
    assert main(["count", "--out", out, "--steps", "5", "--json", *LAUNCH]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"out": out, "counted": 5}
    assert captured.err == ""
    assert main(["count", "--out", out, "--steps", "5", *LAUNCH]) == 0
    captured = capsys.readouterr()
    assert "is done already" in captured.err
    assert "counted  5" in captured.out
    assert main(["count", "--out", out, "--steps", "6", *LAUNCH]) == 1
    assert "holds a job of other settings (steps 5, not 6)" in capsys.readouterr().err


def test_a_job_that_is_done_takes_more_where_its_stage_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(STAGES, "count", replace(STAGES["count"], grows=("steps",)))
    out = str(tmp_path / "run")
    assert main(["count", "--out", out, "--steps", "5", *LAUNCH]) == 0
    assert main(["count", "--out", out, "--steps", "4", *LAUNCH]) == 1
    capsys.readouterr()
    assert main(["count", "--out", out, "--steps", "7", *LAUNCH]) == 0
    captured = capsys.readouterr()
    assert "Adding to the job" in captured.err
    assert "steps 5, not 7" in captured.err
    assert "counted  7" in captured.out


def test_a_sweep_grows_by_more_sizes_and_a_plain_pretraining_never_becomes_one():
    def spec(**config: Any) -> JobSpec:
        return JobSpec(stage="pretrain", config={"volumes": ["raw.npy"], "out": "run", **config})

    assert spec(sweep=["tiny"]).grown_into(spec(sweep=["tiny", "small"]))
    assert not spec(sweep=["tiny"]).grown_into(spec(sweep=["small"]))
    assert not spec().grown_into(spec(sweep=["tiny"]))
    assert not spec().grown_into(spec(seeds=5))
    assert not spec(sweep=["tiny"]).grown_into(spec(sweep=["tiny", "small"], minutes=2))
    assert not spec(sweep=["tiny"]).grown_into(spec(sweep=["tiny"]))


def test_a_comparison_with_scratch_alone_takes_its_first_other_start():
    def spec(**config: Any) -> JobSpec:
        config = {"volume": "raw.npy", "annotations": "ids.npy", "model": "m", "out": "run", **config}
        return JobSpec(stage="compare-pretraining", config=config)

    assert spec().grown_into(spec(others=["mae"]))
    assert spec(others=["mae"]).grown_into(spec(others=["mae", "next"], seeds=4))
    assert not spec(others=["mae"]).grown_into(spec())


def test_a_failure_is_exit_code_1_and_its_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["count", "--out", str(tmp_path / "run"), "--ends", "fails", *LAUNCH]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("napari-tokenunify: The loss is not finite; use a smaller learning rate.\n")


def test_a_crash_is_exit_code_1_with_the_end_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["count", "--out", str(tmp_path / "run"), "--ends", "killed", *LAUNCH]) == 1
    err = capsys.readouterr().err
    assert "signal 9" in err
    assert "The log ends:\n  printed by the stage, from step 0\n" in err


def test_ctrl_c_stops_with_a_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]]
):
    words = ["count", "--out", "run", "--steps", "60", "--seconds", "0.02", *LAUNCH]
    child = run(*words)
    job = _job_of(tmp_path / "run")
    wait_until(job, lambda status: (status.step or 0) >= 3)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert "Stopping after this step, with a checkpoint ... Ctrl-C again to end it now." in err
    assert err.endswith(f"Stopped. To go on: napari-tokenunify jobs resume {tmp_path / 'run'}\n")
    done = int((tmp_path / "run" / "checkpoint").read_text())
    again = run(*words)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "Going on with the job in run, which was stopped." in err
    assert f"counted  {60 - done}" in out


def test_a_second_ctrl_c_ends_the_job_at_once(tmp_path: Path, run: Callable[..., subprocess.Popen[str]]):
    child = run("count", "--out", "run", "--steps", "3", "--seconds", "30", *LAUNCH)
    job = _job_of(tmp_path / "run")
    status = wait_for(job, "running")
    child.send_signal(signal.SIGINT)
    wait_until(job, lambda _: job._files.read_control() == "stop")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Ending it now." in err
    assert job.poll().state == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(status.pid or 0, 0)


def test_what_watches_may_die_and_the_job_goes_on(tmp_path: Path, run: Callable[..., subprocess.Popen[str]]):
    child = run("count", "--out", "run", "--steps", "40", "--seconds", "0.02", *LAUNCH)
    job = _job_of(tmp_path / "run")
    wait_for(job, "running")
    child.kill()
    assert wait_for(job).state == "done"


def test_ctrl_c_only_leaves_off_watching(tmp_path: Path, make_job: Make, run: Callable[..., subprocess.Popen[str]]):
    job = make_job(steps=1000)
    job.start()
    wait_for(job, "running")
    child = run("jobs", "watch", "run")
    assert child.stderr is not None
    assert child.stderr.readline() == "The job is running. Ctrl-C leaves off watching, and the job goes on.\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "the job goes on. To stop it: napari-tokenunify jobs stop run" in err
    assert job.poll().state == "running"


def test_a_job_can_be_left_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "run")
    words = ["count", "--out", out, "--steps", "30", "--seconds", "0.1", *LAUNCH]  # still at work when it is asked
    assert main([*words, "--detach", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == out
    assert main(words) == 1
    assert "already; `napari-tokenunify jobs watch" in capsys.readouterr().err
    assert main(["jobs", "watch", out]) == 0
    assert "counted  30" in capsys.readouterr().out
