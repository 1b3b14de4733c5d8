"""`python -m napari_tokenunify.jobs.worker RUN`: the child process that runs a job's stage and says how it goes."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from napari_tokenunify.errors import JobError, TokenUnifyError
from napari_tokenunify.jobs.followers import follow, rank
from napari_tokenunify.jobs.lanes import Lane
from napari_tokenunify.jobs.processes import identity
from napari_tokenunify.jobs.records import Recorder
from napari_tokenunify.jobs.run_folder import RunFolder
from napari_tokenunify.jobs.spec import JobState
from napari_tokenunify.pipeline import STAGES

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_tokenunify.events import Event
    from napari_tokenunify.jobs.spec import JobSpec

WELL, FAILED, NO_RECORD, BUSY = 0, 1, 74, 75
_LOOK_EVERY_S: Final = 0.1
_HEARTBEAT_EVERY_S: Final = 10.0
_LOCK_S: Final = 10.0  # a loader's process outlives a killed worker by some seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive the run in a folder to its end.

    Parameters
    ----------
    arguments : sequence of str, optional
        The run folder; by default from the command line.

    Returns
    -------
    int
        0 done or stopped, 1 failed, 74 failed and could not even say so in `events.jsonl`, 75 another worker is at it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1:
        sys.stderr.write("usage: python -m napari_tokenunify.jobs.worker RUN\n")
        return 2
    folder = RunFolder(Path(words[0]).resolve())
    _keep_output(folder)
    # OpenMP threads that spin while they wait take the cores from those that work; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if rank() > 0:
        return follow(folder)
    try:
        with FileLock(folder.lock, timeout=_LOCK_S), closing(Recorder(folder.events)) as recorder:
            return _Worker(folder, recorder).run()
    except Timeout:
        sys.stderr.write(f"{folder.folder}: another worker is at it.\n")
        return BUSY
    except JobError as error:
        sys.stderr.write(f"{error}\n")
        return NO_RECORD


def _keep_output(folder: RunFolder) -> None:
    """Send what this process, its libraries and its crashes print to the end of the log."""
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, number)
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    os.close(log)
    faulthandler.enable()


class _Worker:
    """One start of a job: from its first record to its last."""

    def __init__(self, folder: RunFolder, recorder: Recorder) -> None:
        self._folder = folder
        self._recorder = recorder
        self._told_to_end = False
        self._heartbeat = 0.0
        self._process = psutil.Process()

    def run(self) -> int:
        """Say who works here, work, and say how it ended."""
        signal.signal(signal.SIGTERM, self._end_soon)
        signal.signal(signal.SIGINT, self._end_soon)
        if hasattr(os, "register_at_fork"):  # a loader's process is not to survive a SIGTERM
            os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        me = identity()
        self._folder.write_process(me)
        self._recorder.word("Start", **me)
        try:
            self._work(self._folder.read_spec())
        except TokenUnifyError as error:
            return self._failed(str(error), error)
        except Exception as error:  # noqa: BLE001 - whatever a stage raises has to reach the user
            return self._failed(f"{type(error).__name__}: {error}", error)
        except SystemExit:
            self._state(JobState.STOPPED)
        return WELL

    def _end_soon(self, *_: object) -> None:
        """Stop at the next event: an exception here would fall into the middle of a step."""
        self._told_to_end = True

    def _work(self, spec: JobSpec) -> None:
        if Path(spec.working_folder).is_dir():
            os.chdir(spec.working_folder)
        # Slurm has a queue of its own, and gives each job its own part of a machine
        lane = None
        if spec.lane is not None and spec.launcher.kind != "slurm":
            lane = Lane(spec.lane, str(self._folder.folder))
        if lane is not None and not self._has_turn(lane):
            self._state(JobState.STOPPED)
            return
        self._state(JobState.STARTING)
        stage = STAGES[spec.stage]
        self._drive(stage.run(stage.config(**spec.config)))

    def _has_turn(self, lane: Lane) -> bool:
        """Wait for the lane; return whether it is ours, or we were told to stop."""
        told = (0, "")
        with closing(lane.wait(self._folder.read_launch().get("time", time.time()))) as line:  # type: ignore[type-var]
            for place in line:
                now = place, lane.at_work
                if now != told:
                    told = now
                    self._state(JobState.QUEUED, place=place, at_work=now[1])
                if self._asked() == "stop":
                    return False
                self._beat()
                time.sleep(_LOOK_EVERY_S)
        return True

    def _drive(self, generator: Generator[Event, None, dict[str, Any]]) -> None:
        self._state(JobState.RUNNING)
        with closing(generator):  # whatever happens, the stage gets to write its checkpoint
            while True:
                try:
                    event = next(generator)
                except StopIteration as end:
                    self._state(JobState.DONE, result=end.value)
                    return
                self._recorder.event(event)
                if self._must_stop():
                    self._state(JobState.STOPPING)
                    generator.close()
                    self._state(JobState.STOPPED)
                    return
                self._beat()

    def _must_stop(self) -> bool:
        """Return whether to stop, after the pause if there is to be one."""
        asked = self._asked()
        if asked == "pause":
            self._state(JobState.PAUSED)
            while (asked := self._asked()) == "pause":
                self._beat()
                time.sleep(_LOOK_EVERY_S)
            self._recorder.forget_time()
            if asked == "run":
                self._state(JobState.RUNNING)
        return asked == "stop"

    def _asked(self) -> str:
        if not self._folder.spec.exists():  # removed by somebody; a last checkpoint would bring half of it back
            os._exit(NO_RECORD)
        word = self._folder.read_control()
        return "stop" if self._told_to_end or word == "kill" else word

    def _beat(self) -> None:
        """Say now and then that we live, and what we use."""
        now = time.monotonic()
        if now - self._heartbeat < _HEARTBEAT_EVERY_S and self._heartbeat:
            return
        self._heartbeat = now
        self._recorder.word("Heartbeat", **self._memory())

    def _memory(self) -> dict[str, float]:
        used = {"memory_mb": round(self._process.memory_info().rss / 1e6, 1)}
        cuda = getattr(sys.modules.get("torch"), "cuda", None)  # never loaded for this
        if cuda is not None and cuda.is_initialized():
            used["gpu_memory_mb"] = round(cuda.max_memory_allocated() / 1e6, 1)
        return used

    def _state(self, state: JobState, **values: Any) -> None:
        memory = {} if state is JobState.QUEUED else self._memory()
        self._recorder.word("State", state=str(state), **memory, **values)

    def _failed(self, sentence: str, error: Exception) -> int:
        trace = "".join(traceback.format_exception(error))
        try:
            self._state(JobState.FAILED, reason=sentence, type=type(error).__name__, traceback=trace)
        except JobError:
            sys.stderr.write(f"{sentence}\n")  # the log may be on another disk
            return NO_RECORD
        finally:
            sys.stderr.write(trace)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
