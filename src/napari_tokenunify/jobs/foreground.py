"""Jobs in front of a person: a generator to drive like a stage, that starts a job or takes it up, and watches it."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.jobs.job import Job
from napari_tokenunify.jobs.run_folder import RunFolder
from napari_tokenunify.jobs.spec import JobState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs.spec import JobSpec, JobStatus

_LOOK_EVERY_S: Final = 0.1


class JobStopped(JobError):
    """A job that was watched has stopped; it can be resumed."""


def run_job(folder: Path, spec: JobSpec, *, detach: bool = False) -> Generator[Event, None, dict[str, Any]]:
    """Start a job, or go on with it if it was stopped, and watch it to its end.

    Ctrl-C asks it to stop with a checkpoint, a second one ends it at once. If this process dies, the job goes on.

    Parameters
    ----------
    folder : Path
        The run folder.
    spec : JobSpec
        What is to be done.
    detach : bool
        Leave it when it has started.

    Yields
    ------
    Event
        What the job says.

    Returns
    -------
    dict
        What its stage returned; for a job left running, `out` (its folder) and `state`.

    Raises
    ------
    JobError
        If the folder holds a job of other settings or one that is at work, or if the job fails or crashes.
    JobStopped
        If it was stopped.
    """
    with _interrupts() as presses:
        job = yield from _begin(folder, spec)
        if detach:
            yield Message(f"It works behind. To see how it goes: napari-tokenunify jobs watch {folder}")
            return {"out": str(folder), "state": str(job.poll().state)}
        heard = 0
        for event in _until_its_end(job):
            yield event
            if len(presses) > heard:
                heard = len(presses)
                yield _heed(job, heard)
    return _settle(job.poll())


def _begin(folder: Path, spec: JobSpec) -> Generator[Event, None, Job]:
    """Start a job in a folder, or go on with the one that is there if it does the same; one that is done stays so.

    Raises
    ------
    JobError
        If the folder holds a job of other settings, or one that is at work.
    """
    if not RunFolder(folder).spec.exists():
        job = Job.create(folder, spec)
        job.start()
        return job
    job = Job(folder)
    if job.spec.grown_into(spec):
        yield Message(f"Adding to the job in {folder}: {_difference(job.spec, spec)}.")
        job.grow(spec)
        job.start()
        return job
    if not job.spec.same_work(spec):
        raise JobError(
            f"{folder}: holds a job of other settings ({_difference(job.spec, spec)}); choose another folder with "
            f"--out, or go on with that one: napari-tokenunify jobs resume {folder}"
        )
    state = job.poll().state
    job.events()  # old ones
    if state is JobState.DONE:
        yield Message(f"{folder} is done already.")
        return job
    if state.final:
        yield Message(f"Going on with the job in {folder}, which {_HAS_ENDED[state]}.")
    job.start()
    return job


def watch(job: Job) -> Generator[Event, None, dict[str, Any]]:
    """Watch a job to its end; whoever stops watching leaves it as it is.

    Yields
    ------
    Event
        What the job says; its progress also tells loss, memory and the time left.

    Returns
    -------
    dict
        What its stage returned.

    Raises
    ------
    JobError
        If it fails or crashes.
    JobStopped
        If it was stopped.
    """
    yield from _until_its_end(job)
    return _settle(job.poll())


_HAS_ENDED: Final = {JobState.STOPPED: "was stopped", JobState.FAILED: "failed", JobState.CRASHED: "crashed"}
_WAITING: Final = {JobState.QUEUED, JobState.PAUSED}


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Count Ctrl-C instead of falling out of whatever is being done; only a main thread hears it."""
    presses: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield presses
        return
    before = signal.signal(signal.SIGINT, lambda number, _: presses.append(number))
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)


def _heed(job: Job, presses: int) -> Message:
    if presses == 1:
        job.stop()
        return Message("Stopping after this step, with a checkpoint ... Ctrl-C again to end it now.", "warning")
    job.kill()
    return Message("Ending it now.", "warning")


def _until_its_end(job: Job) -> Iterator[Event]:
    told: str | None = None
    while True:
        status = job.poll()
        yield from (event for event in job.events() if not isinstance(event, Progress))
        if status.state in _WAITING and told != str(status.reason):
            told = str(status.reason)
            yield Message(f"The job is {status.state}. {status.reason or ''}".strip())
        yield _live_line(status)
        if status.state.final:
            return
        time.sleep(_LOOK_EVERY_S)


def _live_line(status: JobStatus) -> Progress:
    running = status.progress is not None and status.state is JobState.RUNNING
    words = [status.progress.what if running and status.progress else str(status.state)]
    words += [f"{name} {value:.4g}" for name, value in (status.metrics or {}).items() if name == "loss"]
    if status.memory_mb is not None:
        words.append(f"{status.memory_mb:.0f} MB")
    if status.gpu_memory_mb is not None:
        words.append(f"GPU {status.gpu_memory_mb:.0f} MB")
    if status.eta_seconds is not None:
        words.append(f"{_duration(status.eta_seconds)} left")
    done, total = (status.progress.done, status.progress.total) if status.progress else (0, 1)
    return Progress(done, total, ", ".join(words))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _difference(old: JobSpec, new: JobSpec) -> str:
    if old.stage != new.stage:
        return f"{old.stage}, not {new.stage}"
    names = [name for name in new.config if new.config[name] != old.config.get(name)]
    return ", ".join(f"{name} {old.config.get(name)}, not {new.config[name]}" for name in names[:3])


def _settle(status: JobStatus) -> dict[str, Any]:
    """Return the result of a job that is done, or raise what its end means."""
    if status.state is JobState.DONE:
        return status.result or {}
    if status.state is JobState.STOPPED:
        raise JobStopped(f"Stopped. To go on: napari-tokenunify jobs resume {status.folder}")
    log = "".join(f"\n  {line}" for line in status.log)
    raise JobError((status.reason or "The job failed.") + (f" The log ends:{log}" if log else ""))
