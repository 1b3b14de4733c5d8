from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_tokenunify.errors import JobError
from napari_tokenunify.jobs import Job
from napari_tokenunify.jobs.lanes import Lane
from tests.jobs.conftest import wait_for, wait_until


def test_of_two_jobs_the_second_waits_until_the_first_has_ended(make_job: Callable[..., Job]):
    first = make_job("first", lane="gpu", steps=500)
    second = make_job("second", lane="gpu", steps=3)
    first.start()
    wait_for(first, "running")
    second.start()
    status = wait_until(second, lambda status: status.state == "queued")
    assert status.reason == f"Place 1 in line: {first.folder} is at work."
    first.stop()
    done = wait_for(second)
    assert done.state == "done"
    ended = wait_for(first).ended
    assert ended is not None
    assert done.ended is not None
    assert ended < done.ended


def test_a_job_that_waits_can_be_stopped_and_one_that_was_killed_makes_room(make_job: Callable[..., Job]):
    first = make_job("first", lane="gpu", steps=500)
    first.start()
    running = wait_for(first, "running")
    waiting = make_job("waiting", lane="gpu")
    waiting.start()
    wait_for(waiting, "queued")
    waiting.stop()
    assert wait_for(waiting).state == "stopped"
    waiting.resume()
    wait_for(waiting, "queued")
    os.kill(running.pid or 0, signal.SIGKILL)
    assert wait_for(waiting).state == "done"


def test_first_come_first_served():
    served = Lane("gpu")
    assert list(served.wait(1.0)) == []
    first, second = Lane("gpu"), Lane("gpu")
    early, late = first.wait(2.0), second.wait(3.0)
    assert (next(late), next(early), next(late)) == (1, 1, 2)
    served.leave()
    assert next(late) == 2  # though the lane is free
    assert list(early) == []
    assert next(late) == 1
    first.leave()
    assert list(late) == []
    second.leave()


def test_lanes_do_not_wait_for_each_other():
    one, other = Lane("gpu"), Lane("other")
    assert list(one.wait(1.0)) == list(other.wait(2.0)) == []
    one.leave()
    other.leave()


def test_a_state_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "file"))
    with pytest.raises(JobError, match="NAPARI_TOKENUNIFY_STATE"):
        next(iter(Lane("gpu").wait(1.0)))


def test_the_ticket_of_a_dead_process_is_removed(tmp_path: Path):
    held = Lane("gpu")
    assert list(held.wait(1.0)) == []
    code = (
        "import time; from napari_tokenunify.jobs.lanes import Lane\n"
        "for place in Lane('gpu').wait(2.0): print(place, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        mine = Lane("gpu").wait(3.0)
        assert next(mine) == 2
        child.kill()
    time.sleep(0.05)
    assert next(mine) == 1
    assert len(list(tmp_path.rglob("*.ticket"))) == 1
    mine.close()
    held.leave()
    assert list(tmp_path.rglob("*.ticket")) == []
