from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from napari_tokenunify.errors import JobError
from napari_tokenunify.jobs import Job, JobSpec, LaunchConfig
from napari_tokenunify.jobs.launchers import command
from napari_tokenunify.jobs.run_folder import RunFolder
from tests.jobs.conftest import wait_for


def _words(folder: Path, **launcher: object) -> list[str]:
    spec = JobSpec(stage="count", config={"out": str(folder)}, launcher=LaunchConfig(**launcher))
    return command(RunFolder(folder), spec)


def test_here_the_worker_is_started_by_the_same_python():
    assert _words(Path("/runs/a b")) == [sys.executable, "-m", "napari_tokenunify.jobs.worker", "/runs/a b"]


def test_several_gpus_are_driven_by_torchrun():
    words = _words(Path("/runs/a"), gpus=3)
    assert words[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    assert words[6:] == ["-m", "napari_tokenunify.jobs.worker", "/runs/a"]


def test_a_template_names_what_it_needs():
    words = _words(Path("/runs/a b"), kind="command", template="nice -n 5 {python} -m here {run}")
    assert words == ["nice", "-n", "5", sys.executable, "-m", "here", "/runs/a b"]


def test_over_ssh_the_worker_is_one_word_that_the_other_shell_takes_apart():
    words = _words(Path("/runs/a b"), kind="command", template="ssh gpu1 {worker}")
    assert words[:2] == ["ssh", "gpu1"]
    assert shlex.split(words[2]) == [sys.executable, "-m", "napari_tokenunify.jobs.worker", "/runs/a b"]


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        ({"kind": "command"}, "needs one"),
        ({"template": "ssh {worker}"}, "belongs to the kind 'command'"),
        ({"kind": "command", "template": "ssh gpu1"}, "has to name {run} or {worker}"),
        ({"kind": "command", "template": "ssh {host} {run}"}, "and nothing else"),
        ({"slurm": {"time": "1\n2"}}, "is one line"),
        ({"gpus": 0}, "greater than or equal to 1"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(launcher: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said):
        LaunchConfig(**launcher)


def test_a_program_that_is_not_there_is_named(tmp_path: Path):
    launcher = LaunchConfig(kind="command", template="no-such-program {run}")
    job = Job.create(tmp_path / "run", JobSpec(stage="count", config={"out": "a"}, launcher=launcher))
    with pytest.raises(JobError, match="there is no program 'no-such-program'"):
        job.start()


def test_a_command_that_fails_is_told_with_what_it_printed(tmp_path: Path):
    launcher = LaunchConfig(kind="command", template="sh -c 'echo no route to gpu1 >&2; exit 255' {run}")
    job = Job.create(tmp_path / "run", JobSpec(stage="count", config={"out": "a"}, launcher=launcher))
    job.start()
    status = wait_for(job)
    assert status.state == "crashed"
    assert "exit code 255" in str(status.reason)
    assert status.log == ("no route to gpu1",)
