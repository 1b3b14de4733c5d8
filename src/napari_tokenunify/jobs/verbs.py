"""The stages `jobs ...`: what the command line does with jobs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import Message
from napari_tokenunify.jobs.foreground import watch
from napari_tokenunify.jobs.history import compare, known_jobs
from napari_tokenunify.jobs.job import Job

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import (
        JobConfig,
        JobsCompareConfig,
        JobsListConfig,
        JobsLogConfig,
        JobsStopConfig,
    )
    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs.spec import JobStatus

    Run = Generator[Event, None, dict[str, Any]]


def list_jobs(config: JobsListConfig) -> Run:
    """Return `jobs`: a dict each, with all of `jobs show`, and a `message` for people; the last started first."""
    yield from ()
    jobs = []
    for folder in known_jobs():
        try:
            status = Job(folder).poll()
        except JobError as error:
            yield Message(str(error), "warning")
            continue
        if not (config.running and status.state.final):
            jobs.append({**status.as_dict(), "message": _line(status)})
    return {"jobs": jobs}


def show_job(config: JobConfig) -> Run:
    """Return how a job stands: the fields of `JobStatus`, its `settings`, and the last lines of its log."""
    yield from ()
    job = Job(Path(config.run))
    return {**job.poll().as_dict(), "settings": job.spec.config, "log": list(job.log_tail())}


def watch_job(config: JobConfig) -> Run:
    """Return what the job's stage returned, once it is done."""
    job = Job(Path(config.run))
    state = job.poll().state
    job.events()  # what was said before
    if not state.final:
        yield Message(f"The job is {state}. Ctrl-C leaves off watching, and the job goes on.")
    return (yield from watch(job))


def pause_job(config: JobConfig) -> Run:
    """Return `folder` and `state` as it is now; the pause begins after the step in work."""
    job = Job(Path(config.run))
    job.pause()
    yield Message("It pauses after the step in work, and keeps its memory and its place in line.")
    return _brief(job)


def stop_job(config: JobsStopConfig) -> Run:
    """Return `folder` and `state` as it is now; the job ends after the step in work, or now."""
    job = Job(Path(config.run))
    if job.poll().state.final:
        yield Message("It has ended already.")
    elif config.now:
        job.kill()
    else:
        job.stop()
        yield Message("It stops after the step in work, with a checkpoint.")
    return _brief(job)


def resume_job(config: JobConfig) -> Run:
    """Return `folder` and `state` as it is now; the job goes on behind, and `jobs watch` shows how."""
    job = Job(Path(config.run))
    job.resume()
    yield Message(f"It goes on. To see how: napari-tokenunify jobs watch {config.run}")
    return _brief(job)


def compare_jobs(config: JobsCompareConfig) -> Run:
    """Return `runs` (their folders) and `rows`, those of `compare`, each with a `message` for people."""
    yield from ()
    rows = compare([Path(run) for run in config.runs])
    heads = ["", *(Path(run).resolve().name for run in config.runs)]
    table = [heads, *([row["name"], *map(_short, row["values"])] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    messages = [{**row, "message": line} for row, line in zip(rows, lines[1:], strict=True)]
    return {"runs": {"folders": list(config.runs), "message": lines[0]}, "rows": messages}


def show_log(config: JobsLogConfig) -> Run:
    """Return `log`, the last lines that the worker and its libraries printed."""
    yield from ()
    return {"log": list(Job(Path(config.run)).log_tail(config.lines))}


def _brief(job: Job) -> dict[str, Any]:
    return {"folder": str(job.folder), "state": str(job.poll().state)}


def _line(status: JobStatus) -> str:
    """Say in a line how a job stands."""
    words = [f"{status.name}: {status.stage}, {status.state}"]
    if status.started is not None:
        words.append(f"started {datetime.fromtimestamp(status.started):%Y-%m-%d %H:%M}")
    if status.progress is not None and not status.state.final:
        words.append(f"{status.progress.what} {status.progress.done} of {status.progress.total}")
    return ", ".join([*words, str(status.folder)])


def _short(value: object) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
