"""How a worker is started: here, by a command of the user's, or by Slurm. Files and states are the same for all."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from napari_tokenunify.errors import JobError
from napari_tokenunify.jobs.processes import identity
from napari_tokenunify.jobs.slurm import write_script

if TYPE_CHECKING:
    from typing import Any

    from napari_tokenunify.jobs.run_folder import RunFolder
    from napari_tokenunify.jobs.spec import JobSpec

_WORKER: Final = "napari_tokenunify.jobs.worker"


_STARTED: dict[tuple[int, float], subprocess.Popen[bytes]] = {}
"""Children of this process: kept, so that their exit codes are known and none is left a zombie."""


def launch(folder: RunFolder, spec: JobSpec) -> dict[str, Any]:
    """Start the worker and return at once.

    Parameters
    ----------
    folder : RunFolder
        The run.
    spec : JobSpec
        What it is.

    Returns
    -------
    dict
        pid, created and host of the worker, or of what starts it elsewhere. It is in a session of its own, so that a
        Ctrl-C here does not reach it.

    Raises
    ------
    JobError
        If there is no such program.
    """
    words = command(folder, spec)
    output = folder.slurm_id if spec.launcher.kind == "slurm" else folder.log
    try:
        with output.open("ab") as out, folder.log.open("ab") as log:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                close_fds=True,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
    except FileNotFoundError as error:
        raise JobError(f"The job cannot be started: there is no program {words[0]!r} on this machine.") from error
    except OSError as error:
        raise JobError(f"The job cannot be started: {words[0]}: {error.strerror or error}.") from error
    process = identity(child.pid)
    _STARTED[_key(process)] = child
    return process


def exit_code(process: dict[str, Any]) -> int | None:
    """Return how a process that this one has started ended; None if it lives, or was started by another."""
    child = _STARTED.get(_key(process))
    return None if child is None else child.poll()


def is_child(process: dict[str, Any]) -> bool:
    """Return whether this process has started that one, and so will know its exit code."""
    return _key(process) in _STARTED


def command(folder: RunFolder, spec: JobSpec) -> list[str]:
    """Return the words of the command that starts the worker."""
    worker = [sys.executable, *_with_torchrun(spec.launcher.gpus), "-m", _WORKER, str(folder.folder)]
    if spec.launcher.kind == "slurm":
        return ["sbatch", "--parsable", str(write_script(folder, spec, shlex.join(worker)))]
    if spec.launcher.template is None:
        return worker
    values = {"python": sys.executable, "run": str(folder.folder), "worker": shlex.join(worker)}
    return [word.format(**values) for word in shlex.split(spec.launcher.template)]


def _key(process: dict[str, Any]) -> tuple[int, float]:
    return process.get("pid", 0), process.get("created", 0.0)


def _with_torchrun(gpus: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)] if gpus > 1 else []
