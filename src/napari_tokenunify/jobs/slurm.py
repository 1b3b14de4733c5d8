"""Slurm: its own programs, called directly.

submitit pickles what it submits; here nothing but a script goes to the cluster, so sbatch is all that is needed.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokenunify.jobs.run_folder import RunFolder
    from napari_tokenunify.jobs.spec import JobSpec

_ASK_EVERY_S: Final = 5.0  # administrators dislike more
_PATIENCE_S: Final = 30.0
_GONE: Final = "GONE"
_OVER: Final = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"),
    _GONE,
}
_MEANING: Final = {
    "OUT_OF_MEMORY": "it needed more memory than it had asked for; ask for more with the option mem of slurm",
    "TIMEOUT": "its time was over; ask for more with the option time of slurm",
    "CANCELLED": "somebody cancelled it",
    "NODE_FAIL": "the machine failed",
    "PREEMPTED": "others went before it",
    _GONE: "it has left the queue and did not say why; the log may",
}


def write_script(folder: RunFolder, spec: JobSpec, worker: str) -> Path:
    """Write what sbatch is given, and return where.

    Slurm tells the worker two minutes before its time is over, so that it stops with a checkpoint.
    """
    options = {
        "job-name": spec.name or folder.folder.name,
        "output": str(folder.log),
        "open-mode": "append",
        "signal": "B:TERM@120",
        "gres": f"gpu:{spec.launcher.gpus}",
        **spec.launcher.slurm,
    }
    lines = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items() if value]
    folder.slurm_script.write_text("\n".join(["#!/bin/sh", *lines, f"exec {worker}", ""]), encoding="utf-8")
    return folder.slurm_script


class SlurmJob:
    """What Slurm says of a job, asked now and then and never waited for: its programs may take seconds to answer.

    Parameters
    ----------
    folder : RunFolder
        The run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._question: threading.Thread | None = None
        self._asked_at = -_ASK_EVERY_S
        self.state: str | None = None

    @property
    def number(self) -> str | None:
        """The job's number, once sbatch has told it."""
        with suppress(OSError):
            text = self._folder.slurm_id.read_text(encoding="utf-8").strip()
            return text.partition(";")[0] or None
        return None

    @property
    def over(self) -> bool:
        """Whether Slurm has no more to do with it."""
        return self.state in _OVER

    @property
    def meaning(self) -> str:
        """Why it is over, as the end of a sentence."""
        return _MEANING.get(self.state or "", f"Slurm calls it {(self.state or 'unknown').lower()}")

    def ask(self) -> None:
        """Ask again if the last answer is old; `state` is what Slurm said last, None as long as it has said nothing."""
        waits = self._question is not None and self._question.is_alive()
        if not waits and not self.over and time.monotonic() - self._asked_at > _ASK_EVERY_S:
            self._asked_at = time.monotonic()
            self._question = threading.Thread(target=self._enquire, args=(self.number,), daemon=True)
            self._question.start()

    def wait(self) -> None:
        """Wait until Slurm has answered what it was asked last, or has had its time to; not in a window's thread."""
        if self._question is not None:
            self._question.join(_PATIENCE_S)

    def cancel(self) -> None:
        """Tell Slurm to end it."""
        if self.number is not None:
            _call("scancel", self.number)

    def _enquire(self, number: str) -> None:
        code, answer = _call("squeue", "--noheader", "--format=%T", f"--jobs={number}")
        if code == 0 and answer:
            self.state = answer.split()[0]
        elif code == 0 or "Invalid job id" in answer:  # it has left the queue; the accounts, if there are any, know why
            code, answer = _call("sacct", "--noheader", "--allocations", "--format=State", f"--jobs={number}")
            state = answer.split()[0].rstrip("+") if code == 0 and answer else ""
            self.state = state if state in _OVER else _GONE
        # else Slurm itself is not there now


def _call(*words: str) -> tuple[int, str]:
    """Return exit code and output of one of Slurm's programs; -1 if it is not there or does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return -1, ""
    return done.returncode, (done.stdout + done.stderr).strip()
