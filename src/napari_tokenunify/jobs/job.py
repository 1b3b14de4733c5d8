"""Job: the handle on a run folder, for whoever wants to start, watch or end it; see `docs/jobs.md`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import from_json
from napari_tokenunify.jobs.endings import sentence_of_end
from napari_tokenunify.jobs.history import register
from napari_tokenunify.jobs.launchers import exit_code, launch
from napari_tokenunify.jobs.processes import end, find, this_host
from napari_tokenunify.jobs.records import RecordReader
from napari_tokenunify.jobs.run_folder import RunFolder
from napari_tokenunify.jobs.slurm import SlurmJob
from napari_tokenunify.jobs.spec import JobSpec, JobState, JobStatus
from napari_tokenunify.jobs.story import Story

if TYPE_CHECKING:
    from napari_tokenunify.events import Event

_LOG_LINES = 8
_WAIT_FOR_DEATH_S = 5.0


class Job:
    """A job, found by its folder: the same in the process that started it and in any other, at any time.

    Nothing is known but what the folder says, so a job outlives the program that started it. Call `poll` from a timer
    or a loop; nothing here waits, but for `kill`.

    Parameters
    ----------
    folder : Path
        The run folder.

    Raises
    ------
    JobError
        If there is no job in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self._files = RunFolder(self.folder)
        self.spec = self._files.read_spec()
        self._reader = RecordReader(self._files.events)
        self._launch: dict[str, Any] = {}
        self._story = Story()
        self._slurm = SlurmJob(self._files)

    @classmethod
    def create(cls, folder: Path, spec: JobSpec) -> Self:
        """Make a job in a folder; it does not start yet.

        Raises
        ------
        JobError
            If there is one already, or the folder cannot be written.
        """
        files = RunFolder(Path(folder).resolve())
        if files.spec.exists():
            raise JobError(f"{folder}: there is a job already; choose another folder, or resume that one.")
        try:
            files.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(f"{folder}: cannot be made ({error.strerror or error}).") from error
        files.write_spec(spec)
        return cls(files.folder)

    def grow(self, spec: JobSpec) -> None:
        """Take other settings for the next start.

        Raises
        ------
        JobError
            If it is at work, or the settings are of another job.
        """
        if not self.poll().state.final:
            raise JobError(f"{self.folder}: is at work; stop it first: napari-tokenunify jobs stop {self.folder}")
        if not self.spec.grown_into(spec):
            raise JobError(f"{self.folder}: holds a job of other settings; choose another folder.")
        self._files.write_spec(spec)
        self.spec = spec

    def start(self) -> None:
        """Start a worker and return at once.

        Raises
        ------
        JobError
            If one works here already, or none can be started.
        """
        state = self.poll().state
        if self._launch and not state.final:
            raise JobError(f"{self.folder}: is {state} already; `napari-tokenunify jobs watch` shows how it goes.")
        self._files.forget_process()
        self._files.write_control("run")
        offset = self._files.events.stat().st_size if self._files.events.exists() else 0
        started = {"kind": self.spec.launcher.kind, "time": time.time(), "offset": offset}
        self._files.write_launch(started | launch(self._files, self.spec))
        register(self.folder)
        self._begin(self._files.read_launch())

    def pause(self) -> None:
        """Ask the worker to wait after its step, with all it has in memory.

        Raises
        ------
        JobError
            If it does not work, or works on several GPUs.
        """
        state = self.poll().state
        if state not in {JobState.STARTING, JobState.RUNNING, JobState.PAUSED}:
            raise JobError(f"{self.folder}: is {state}; only what runs can be paused.")
        if self.spec.launcher.gpus > 1:  # the others would wait in the middle of a step, and give up after minutes
            raise JobError(
                f"{self.folder}: runs on several GPUs, and these cannot pause; stop it, and resume it later."
            )
        self._files.write_control("pause")

    def resume(self) -> None:
        """Go on: at once after a pause, in a new process after a stop, a failure or a crash.

        Raises
        ------
        JobError
            If it is done, or at work.
        """
        state = self.poll().state
        if state is JobState.DONE:
            raise JobError(f"{self.folder}: is done; there is nothing to resume.")
        if state is JobState.PAUSED or (not state.final and self._files.read_control() == "pause"):
            self._files.write_control("run")
        else:
            self.start()

    def stop(self) -> None:
        """Ask the worker to end after its step, with a checkpoint; does nothing if it has ended."""
        if self.poll().state.final:
            return
        self._files.write_control("stop")
        self._slurm.wait()  # `poll` has asked it: a job that waits there has no worker that could hear of this
        if self._slurm.state == "PENDING":
            self._slurm.cancel()

    def kill(self) -> None:
        """End the worker now; what it did since its last checkpoint is lost. Does nothing if it has ended.

        Raises
        ------
        JobError
            If it runs on another machine, where this one cannot reach it.
        """
        if self.poll().state.final:
            return
        self._files.write_control("kill")
        worker = self._files.read_process()
        if self.spec.launcher.kind == "slurm":
            self._slurm.cancel()
            return
        mine = [process for process in (self._launch, worker) if process.get("host") == this_host()]
        ended = [process for process in mine if end(process)]
        if worker and worker not in mine:
            raise JobError(
                f"{self.folder}: runs on {worker['host']} as process {worker['pid']}, out of reach from here; "
                "it was asked to stop after its step."
            )
        limit = time.monotonic() + _WAIT_FOR_DEATH_S
        while any(map(find, ended)) and time.monotonic() < limit:
            time.sleep(0.01)

    def poll(self) -> JobStatus:
        """Read what is new in the folder, look whether the process lives, and return how the job stands.

        Raises
        ------
        JobError
            If the folder was removed.
        """
        if not self._files.spec.exists():
            raise JobError(f"{self.folder}: the job was removed, or its disk is not there now.")
        known = self._files.read_launch()
        if known != self._launch:
            self._begin(known)
        self._read()
        if (self._launch or self._story.worker) and not self._story.state.final:
            self._look_for_its_end()
        return self._status()

    def events(self) -> list[Event]:
        """Return the events that the last polls found; each once; of much progress only the last."""
        news, self._story.news = self._story.news, []
        return [event for event in map(from_json, news) if event is not None]

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines that the worker and its libraries printed."""
        return self._files.log_tail(lines)

    def _begin(self, launch: dict[str, Any]) -> None:
        """Forget the former start: nothing of it is read as new."""
        self._launch = launch
        self._story = Story(started=launch.get("time"), state=JobState.STARTING)
        self._slurm = SlurmJob(self._files)

    def _read(self) -> None:
        for record in self._reader.read(self._launch.get("offset", 0)):
            if record["event"] == "Start" and self._story.worker:  # one that was started by hand
                self._story = Story(started=record.get("time"))
            self._story.take(record)

    def _look_for_its_end(self) -> None:
        if self.spec.launcher.kind == "slurm":
            sentence = self._ask_slurm()
        else:
            sentence = sentence_of_end(self._files, self._launch, self._story)
        if sentence is None:
            return
        self._read()  # its last words may have come meanwhile
        if self._story.state.final:
            return
        asked = self._files.read_control()
        if asked == "kill" or (asked == "stop" and not self._story.worker):
            self._story.conclude(JobState.STOPPED, "It was ended at once, and goes on from its last checkpoint.")
        else:
            self._story.conclude(JobState.CRASHED, sentence, self.log_tail(_LOG_LINES))

    def _ask_slurm(self) -> str | None:
        if self._slurm.number is None:
            code = exit_code(self._launch)
            if code:
                return f"sbatch failed (exit code {code}); the log says why."
            is_gone = self._launch.get("host") == this_host() and find(self._launch) is None
            if is_gone and self._slurm.number is None:  # looked at again: it may have been told just now
                return "sbatch has ended without a job number; the log says why. Resume to submit it again."
            return None
        self._slurm.ask()
        if self._slurm.state == "PENDING":
            self._story.state, self._story.reason = JobState.QUEUED, f"Slurm job {self._slurm.number} waits its turn."
        elif not self._story.worker:
            self._story.state, self._story.reason = JobState.STARTING, None
        return f"Slurm job {self._slurm.number} ended: {self._slurm.meaning}." if self._slurm.over else None

    def _status(self) -> JobStatus:
        story, is_begun = self._story, bool(self._launch or self._story.worker)
        return JobStatus(
            state=story.state if is_begun else JobState.STOPPED,  # so that it can be resumed, and holds up nobody
            stage=self.spec.stage,
            name=self.spec.name or self.folder.name,
            folder=self.folder,
            progress=story.progress,
            metrics=dict(story.metrics),
            step=story.step,
            eta_seconds=story.seconds_left(),
            memory_mb=story.memory_mb,
            gpu_memory_mb=story.gpu_memory_mb,
            reason=story.reason if is_begun else "It was never started; resume it to start it.",
            log=story.log,
            started=story.started,
            ended=story.ended,
            result=story.result,
            pid=story.worker.get("pid"),
            host=story.worker.get("host"),
        )
