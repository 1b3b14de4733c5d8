from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import Message, Metric, Progress
from napari_tokenunify.jobs import Job, JobSpec, LaunchConfig, endings, launchers, processes
from napari_tokenunify.jobs.processes import identity
from tests.jobs.conftest import TOY_WORKER, wait_for, wait_until

Make = Callable[..., Job]


def test_a_job_is_done_with_what_its_stage_returned(make_job: Make):
    job = make_job(steps=10)
    before = time.monotonic()
    job.start()
    assert time.monotonic() - before < 1.0
    status = wait_for(job)
    assert (status.state, status.reason) == ("done", None)
    assert status.result == {"out": str(job.folder), "counted": 10}
    assert status.progress == Progress(10, 10, "counting")
    assert (status.step, status.metrics) == (9, {"loss": 0.1})
    assert status.memory_mb is not None
    assert status.memory_mb > 10
    events = job.events()
    assert events[0] == Message("from step 0")
    assert [event.step for event in events if isinstance(event, Metric)] == list(range(10))
    assert job.events() == []
    assert "printed by the stage, from step 0" in job.log_tail()


def test_a_failure_is_told_in_the_sentence_of_its_error(make_job: Make):
    job = make_job(ends="fails")
    job.start()
    status = wait_for(job)
    assert status.state == "failed"
    assert status.reason == "The loss is not finite; use a smaller learning rate."


def test_an_unforeseen_failure_is_told_with_its_type_and_the_traceback_is_in_the_log(make_job: Make):
    job = make_job(ends="raises")
    job.start()
    status = wait_for(job)
    assert (status.state, status.reason) == ("failed", "ZeroDivisionError: by hand")
    assert any("toy_stages.py" in line for line in job.log_tail())
    (record,) = [json.loads(line) for line in _lines(job) if '"failed"' in line]
    assert record["type"] == "ZeroDivisionError"
    assert "Traceback" in record["traceback"]


def test_a_stopped_job_goes_on_from_its_checkpoint_and_nothing_old_is_read_as_new(make_job: Make):
    job = make_job(steps=40, seconds=0.02)
    job.start()
    wait_until(job, lambda status: (status.step or 0) >= 5)
    job.stop()
    stopped = wait_for(job)
    assert stopped.state == "stopped"
    done = int((job.folder / "checkpoint").read_text())
    assert 5 < done < 40
    job.events()
    job.resume()
    status = wait_for(job)
    assert status.state == "done"
    assert status.result is not None
    assert status.result["counted"] == 40 - done
    assert [event.text for event in job.events() if isinstance(event, Message)] == [f"from step {done}"]
    assert [event.text for event in _events_of(Job(job.folder)) if isinstance(event, Message)] == [f"from step {done}"]


def test_a_paused_job_stands_still_and_goes_on_in_the_same_process(make_job: Make):
    job = make_job(steps=60, seconds=0.01)
    job.start()
    wait_until(job, lambda status: (status.step or 0) >= 3)
    job.pause()
    paused = wait_for(job, "paused")
    time.sleep(0.15)
    assert job.poll().step == paused.step
    job.resume()
    status = wait_for(job)
    assert status.state == "done"
    assert status.pid == paused.pid
    assert status.result is not None
    assert status.result["counted"] == 60


def test_a_killed_worker_is_seen_and_told_with_the_end_of_the_log(make_job: Make):
    job = make_job(ends="killed")
    job.start()
    status = wait_for(job)
    assert status.state == "crashed"
    assert status.reason is not None
    assert "signal 9" in status.reason
    assert "memory" in status.reason
    assert "printed by the stage, from step 0" in status.log


def test_a_worker_that_is_killed_while_it_is_looked_for_has_its_signal_told(
    make_job: Make, monkeypatch: pytest.MonkeyPatch
):
    """Its exit code is there only after it was still found alive."""
    job = make_job(steps=10_000)
    job.start()
    wait_for(job, "running")

    def killed_just_now(process: dict[str, Any]) -> Any:
        monkeypatch.setattr(endings, "find", processes.find)
        os.kill(process["pid"], signal.SIGKILL)
        while processes.find(process) is not None:
            time.sleep(0.01)

    monkeypatch.setattr(endings, "find", killed_just_now)
    assert "signal 9" in str(wait_for(job).reason)


def test_a_segmentation_fault_is_named_and_its_trace_is_in_the_log(make_job: Make, monkeypatch: pytest.MonkeyPatch):
    job = make_job(ends="segfault")
    job.start()
    status = wait_for(job)
    assert status.state == "crashed"
    assert "segmentation fault" in str(status.reason)
    assert any("toy_stages.py" in line for line in job.log_tail())
    monkeypatch.setattr(launchers, "_STARTED", {})  # as in a process that did not start it
    assert "segmentation fault" in str(wait_for(Job(job.folder)).reason)


def test_an_exit_code_is_told(make_job: Make):
    job = make_job(ends="exits")
    job.start()
    assert "exit code 7" in str(wait_for(job).reason)


def test_a_full_disk_is_told_though_the_worker_can_write_no_more(make_job: Make):
    job = make_job(stage="fill", room=4000)
    job.start()
    status = wait_for(job)
    assert status.state in {"failed", "crashed"}
    assert "make room" in str(status.reason)
    assert job.folder.joinpath("events.jsonl").stat().st_size <= 4000
    assert (job.folder / "checkpoint").exists()  # the stage was closed, as by a stop


def test_a_worker_whose_folder_was_removed_ends(make_job: Make):
    job = make_job(steps=10**6)
    job.start()
    wait_until(job, lambda status: status.progress is not None)
    worker = job._files.read_process()
    shutil.rmtree(job.folder)
    limit = time.monotonic() + 20
    while processes.find(worker) is not None and time.monotonic() < limit:
        time.sleep(0.05)
    assert processes.find(worker) is None
    assert not job.folder.exists()


def test_a_job_that_was_never_started_waits_for_nothing(make_job: Make):
    job = make_job()
    assert (job.poll().state, job.poll().reason) == ("stopped", "It was never started; resume it to start it.")
    job.resume()
    assert wait_for(job).state == "done"


def test_a_crashed_job_can_be_resumed(make_job: Make):
    job = make_job(steps=500)
    job.start()
    status = wait_until(job, lambda status: (status.step or 0) >= 2)
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    assert wait_for(job, patience=2).state == "crashed"
    job.resume()
    assert wait_for(job, "running").pid != status.pid


def test_a_job_is_ended_at_once_with_all_its_processes(tmp_path: Path):
    launcher = LaunchConfig(kind="command", template=f"sh -c '{{python}} {TOY_WORKER} {{run}}; exit 0'")
    config = {"out": str(tmp_path), "steps": 3, "seconds": 60}
    job = Job.create(tmp_path / "run", JobSpec(stage="count", config=config, launcher=launcher))
    job.start()
    worker = psutil.Process(wait_for(job, "running").pid)
    shell = worker.parent()
    assert shell is not None
    assert shell.name() == "sh"
    job.kill()
    assert not [one for one in (worker, shell) if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    ended = job.poll()
    assert ended.state == "stopped"
    assert "at once" in str(ended.reason)
    job.kill()  # of no consequence


def test_a_signal_to_end_is_a_stop_with_a_checkpoint(make_job: Make):
    job = make_job(steps=500)
    job.start()
    status = wait_until(job, lambda status: (status.step or 0) >= 2)
    os.kill(status.pid or 0, signal.SIGTERM)
    assert wait_for(job).state == "stopped"
    assert (job.folder / "checkpoint").exists()


def test_a_job_outlives_the_process_that_started_it_and_is_found_by_its_folder(make_job: Make):
    folder = make_job(steps=300, seconds=0.01).folder
    code = (
        f"import sys; sys.path.insert(0, {str(TOY_WORKER.parents[2])!r}); import tests.jobs.toy_stages\n"
        f"from pathlib import Path; from napari_tokenunify.jobs import Job; Job(Path({str(folder)!r})).start()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TOY_WORKER.parents[2])
    job = Job(folder)
    wait_until(job, lambda status: (status.step or 0) >= 5)
    with pytest.raises(JobError, match="is running already"):
        job.start()
    os.kill(job.poll().pid or 0, signal.SIGKILL)
    crashed = wait_for(job, patience=2)
    assert crashed.state == "crashed"
    assert "did not say why" in str(crashed.reason)


def test_a_number_that_another_process_has_got_is_not_taken_for_the_worker(make_job: Make):
    job = make_job()
    job.folder.joinpath("events.jsonl").write_text('{"event": "State", "time": 1.0, "state": "running"}\n')
    another = {**identity(), "created": identity()["created"] - 100}
    job.folder.joinpath("process.json").write_text(json.dumps(another))
    job.folder.joinpath("launch.json").write_text(json.dumps({**another, "kind": "local", "time": 1.0, "offset": 0}))
    status = Job(job.folder).poll()
    assert status.state == "crashed"
    Job(job.folder).kill()  # this process, for one, goes on


def test_a_worker_of_another_machine_lives_as_long_as_it_gives_signs(make_job: Make):
    job = make_job()
    process = {"pid": 1, "created": 1.0, "host": "another"}
    launch = {**identity(), "kind": "command", "time": time.time(), "offset": 0}
    job.folder.joinpath("process.json").write_text(json.dumps(process))
    job.folder.joinpath("launch.json").write_text(json.dumps(launch))
    start = {"event": "Start", "time": time.time(), **process}
    running = {"event": "State", "time": time.time(), "state": "running"}
    assert Job(job.folder).poll().state == "starting", "on a shared folder its first words may come after its number"
    events = job.folder / "events.jsonl"
    events.write_text(f"{json.dumps(start)}\n{json.dumps(running)}\n")
    assert Job(job.folder).poll().state == "running"
    events.write_text(f"{json.dumps(start)}\n{json.dumps({**running, 'time': time.time() - 3600})}\n")
    status = Job(job.folder).poll()
    assert status.state == "crashed"
    assert "another for 60 minutes" in str(status.reason)


@pytest.mark.parametrize(("verb", "said"), [("pause", "only what runs"), ("resume", "nothing to resume")])
def test_what_a_job_that_is_done_cannot_do_is_said(make_job: Make, verb: str, said: str):
    job = make_job(steps=2)
    job.start()
    wait_for(job)
    with pytest.raises(JobError, match=said):
        getattr(job, verb)()
    job.stop()
    assert job.poll().state == "done"


def test_a_folder_without_a_job_is_said(tmp_path: Path):
    with pytest.raises(JobError, match="there is no job here"):
        Job(tmp_path)


def test_a_job_is_not_made_over_another(make_job: Make):
    make_job()
    with pytest.raises(JobError, match="there is a job already"):
        make_job()


def _lines(job: Job) -> list[str]:
    return job.folder.joinpath("events.jsonl").read_text().splitlines()


def _events_of(job: Job) -> list[object]:
    job.poll()
    return list(job.events())
