"""Against programs that do as Slurm's do: sbatch starts the script or keeps it waiting, squeue and sacct answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_tokenunify.jobs import Job, JobSpec, LaunchConfig, slurm
from tests.jobs.conftest import TOY_WORKER, wait_for, wait_until

SBATCH = """#!/bin/sh
cd "$(dirname "$0")"
[ "$1" = --parsable ] || exit 2
[ -e refuse ] && { echo "sbatch: error: invalid partition" >&2; exit 1; }
[ -e hold ] || { sh "$2" & echo $! > pid; }
echo "42;cluster"
"""
SQUEUE = """#!/bin/sh
cd "$(dirname "$0")"
[ -e down ] && { echo "slurm_load_jobs error: Unable to contact slurm controller"; exit 1; }
[ -e cancelled ] && { echo "slurm_load_jobs error: Invalid job id specified"; exit 1; }
[ -e hold ] && echo PENDING && exit
kill -0 "$(cat pid)" 2>/dev/null && echo RUNNING
exit 0
"""
SACCT = """#!/bin/sh
cd "$(dirname "$0")"
cat account
"""
SCANCEL = """#!/bin/sh
cd "$(dirname "$0")"
[ "$1" = 42 ] || exit 1
touch cancelled
[ -e pid ] && kill -9 "$(cat pid)"
exit 0
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("sacct", SACCT), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "account").write_text("CANCELLED by 1000\n")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(slurm, "_ASK_EVERY_S", 0.05)
    return folder


@pytest.fixture
def make_slurm_job(tmp_path: Path, cluster: Path) -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def make(steps: int) -> Job:
        launcher = LaunchConfig(kind="slurm", gpus=1, slurm={"partition": "gpu", "time": "1:00"})
        spec = JobSpec(stage="count", config={"out": str(tmp_path / "run"), "steps": steps}, launcher=launcher)
        made.append(Job.create(tmp_path / "run", spec))
        return made[-1]

    yield make
    for job in made:
        job.kill()
        wait_for(job)


@pytest.fixture
def _toy_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script start the worker that knows the toy stages."""
    monkeypatch.setattr("napari_tokenunify.jobs.launchers._WORKER", "tests.jobs.toy_worker")
    monkeypatch.setenv("PYTHONPATH", str(TOY_WORKER.parents[2]))


@pytest.mark.usefixtures("_toy_worker")
def test_a_job_runs_to_its_end_and_its_script_says_what_was_asked(make_slurm_job: Callable[..., Job]):
    job = make_slurm_job(steps=5)
    job.start()
    assert wait_for(job).state == "done"
    script = (job.folder / "slurm.sh").read_text()
    assert "#SBATCH --partition=gpu\n" in script
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "#SBATCH --signal=B:TERM@120\n" in script
    assert script.splitlines()[-1].startswith(f"exec {sys.executable} -m ")
    assert (job.folder / "slurm.id").read_text() == "42;cluster\n"


@pytest.mark.usefixtures("_toy_worker")
def test_a_job_that_needs_too_much_is_told_what_to_ask_for(make_slurm_job: Callable[..., Job], cluster: Path):
    job = make_slurm_job(steps=500)
    (cluster / "account").write_text("OUT_OF_MEMORY\n")
    job.start()
    wait_for(job, "running")
    (cluster / "cancelled").touch()
    status = wait_for(job)
    assert status.state == "crashed"
    assert status.reason is not None
    assert status.reason.startswith("Slurm job 42 ended: it needed more memory")
    with (cluster / "pid").open() as pid:
        assert pid.read().strip() == str(status.pid)  # exec: the signal before the end of time reaches the worker
    job._slurm.cancel()


@pytest.mark.usefixtures("_toy_worker")
def test_a_job_is_cancelled_by_its_number(make_slurm_job: Callable[..., Job], cluster: Path):
    job = make_slurm_job(steps=500)
    job.start()
    wait_for(job, "running")
    job.kill()
    assert wait_for(job).state == "stopped"
    assert (cluster / "cancelled").exists()


def test_a_job_that_waits_is_queued_and_can_be_stopped(make_slurm_job: Callable[..., Job], cluster: Path):
    (cluster / "hold").touch()
    job = make_slurm_job(steps=5)
    job.start()
    status = wait_until(job, lambda status: status.state == "queued")
    assert status.reason == "Slurm job 42 waits its turn."
    job.stop()
    assert wait_for(job).state == "stopped"
    assert (cluster / "cancelled").exists()


def test_a_job_that_waits_is_stopped_by_one_who_opens_its_folder_later(
    make_slurm_job: Callable[..., Job], cluster: Path
):
    (cluster / "hold").touch()
    job = make_slurm_job(steps=5)
    job.start()
    wait_for(job, "queued")
    Job(job.folder).stop()  # as a command does, which has asked Slurm nothing before
    assert (cluster / "cancelled").exists()
    assert wait_for(job).state == "stopped"


def test_an_sbatch_that_failed_while_nobody_looked_is_told_and_the_job_can_be_resumed(
    make_slurm_job: Callable[..., Job], cluster: Path, monkeypatch: pytest.MonkeyPatch
):
    (cluster / "refuse").touch()
    job = make_slurm_job(steps=5)
    job.start()
    wait_for(job)
    monkeypatch.setattr("napari_tokenunify.jobs.job.exit_code", lambda _: None)  # known to its starter alone
    later = Job(job.folder)
    status = later.poll()
    assert (status.state, status.reason) == (
        "crashed",
        "sbatch has ended without a job number; the log says why. Resume to submit it again.",
    )
    (cluster / "refuse").unlink()
    (cluster / "hold").touch()
    later.resume()
    wait_for(later, "queued")


def test_a_slurm_that_does_not_answer_is_asked_again(make_slurm_job: Callable[..., Job], cluster: Path):
    (cluster / "hold").touch()
    (cluster / "down").touch()
    job = make_slurm_job(steps=5)
    job.start()
    wait_until(job, lambda _: job._slurm.number is not None and job._slurm._asked_at > 0)
    job.poll()
    assert job.poll().state == "starting"
    (cluster / "down").unlink()
    wait_for(job, "queued")


def test_what_sbatch_refuses_is_told_with_its_words(make_slurm_job: Callable[..., Job], cluster: Path):
    (cluster / "refuse").touch()
    job = make_slurm_job(steps=5)
    job.start()
    status = wait_for(job)
    assert status.state == "crashed"
    assert status.log == ("sbatch: error: invalid partition",)
