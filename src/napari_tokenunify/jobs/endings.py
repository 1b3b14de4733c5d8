"""Has a worker that said nothing of its end ended, and why: told in one sentence."""

from __future__ import annotations

import shutil
import signal
import time
from typing import TYPE_CHECKING, Final

import psutil  # type: ignore[import-untyped]

from napari_tokenunify.jobs.launchers import exit_code, is_child
from napari_tokenunify.jobs.processes import find, this_host

if TYPE_CHECKING:
    from typing import Any

    from napari_tokenunify.jobs.run_folder import RunFolder
    from napari_tokenunify.jobs.story import Story

_NO_RECORD: Final = 74
_BUSY: Final = 75
_SILENCE_S: Final = 600.0  # without a sign of life from another machine; a worker gives one every ten seconds or step
_PATIENCE_S: Final = 60.0  # for a command that has ended well, before its worker says that it is there
_SIGNALS: Final = {
    "SIGKILL": "was killed (signal 9), most often because memory ran out; free some, or ask for less at once",
    "SIGSEGV": "crashed with a segmentation fault, a bug in one of the libraries or drivers; resume it, and if it "
    "happens again look at the log",
    "SIGTERM": "was told to end by another program (signal 15) before it could stop well; resume it",
}


def sentence_of_end(folder: RunFolder, launch: dict[str, Any], story: Story) -> str | None:
    """Return how a worker of this or another machine ended; None if it lives, as far as can be known.

    Parameters
    ----------
    folder : RunFolder
        The run.
    launch : dict
        How it was started.
    story : Story
        What it has said.
    """
    worker = folder.read_process()
    launcher_lives = launch.get("host") == this_host() and find(launch) is not None
    if worker:
        if worker.get("host") != this_host():
            return _silence(worker, story.last_sign or launch.get("time", 0.0))  # it may have said nothing yet
        if find(worker) is not None:
            return None
        code = exit_code(launch)  # asked for only now: before, it may still have lived
        if code is None and is_child(launch) and launch["pid"] == worker.get("pid"):
            return None  # its last threads are still ending
        return _why(folder, code, worker)
    if launcher_lives:
        return None
    if launch.get("host") != this_host():
        return _silence(launch, launch.get("time", 0.0))
    code = exit_code(launch)
    waited = time.time() - launch.get("time", 0.0)
    if launch.get("kind") == "command" and code in {0, None} and waited < _PATIENCE_S:
        return None
    return _why(folder, code, launch)


def _silence(process: dict[str, Any], last_sign: float) -> str | None:
    silent = time.time() - last_sign
    if silent < _SILENCE_S:
        return None
    return (
        f"Nothing was heard from {process.get('host')} for {silent / 60:.0f} minutes: the worker (process "
        f"{process.get('pid')}) or the machine has ended, or the folder is not shared any more; look there, resume."
    )


def _why(folder: RunFolder, code: int | None, process: dict[str, Any]) -> str:
    if code == _NO_RECORD or (code is None and _is_full(folder)):
        return "The worker ended as it could not write into the run folder, most often a full disk; make room, resume."
    if code == _BUSY:
        return f"{folder.folder}: another worker is at it; wait for it, or stop that one."
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"The worker {_SIGNALS.get(name, f'was ended by {name}; resume it')}."
    if code is not None:
        return f"The worker ended with exit code {code} and did not say why; the log may."
    if psutil.boot_time() > process.get("created", 0.0) + 2:
        return "The machine was started anew while the job ran; resume it."
    if any("Segmentation fault" in line for line in folder.log_tail(60)):
        return f"The worker {_SIGNALS['SIGSEGV']}."
    return "The worker ended and did not say why: it was killed, most often because memory ran out; the log may tell."


def _is_full(folder: RunFolder) -> bool:
    return shutil.disk_usage(folder.folder).free < 1e6
