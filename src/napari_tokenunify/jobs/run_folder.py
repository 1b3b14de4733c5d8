"""The files of a run folder, through which a job and everybody else talk to each other."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from napari_tokenunify.config import what_is_wrong
from napari_tokenunify.errors import JobError, TokenUnifyError
from napari_tokenunify.jobs.spec import JobSpec
from napari_tokenunify.project import RunPaths

if TYPE_CHECKING:
    from pathlib import Path

Word = Literal["run", "pause", "stop", "kill"]


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """A run's files as jobs use them: how the small ones are read and written."""

    @property
    def launch(self) -> Path:
        """How the worker was started, by whoever started it; JSON."""
        return self.folder / "launch.json"

    @property
    def lock(self) -> Path:
        """Held by the one worker that drives the run."""
        return self.folder / "worker.lock"

    @property
    def slurm_script(self) -> Path:
        """What sbatch is given."""
        return self.folder / "slurm.sh"

    @property
    def slurm_id(self) -> Path:
        """What sbatch answered."""
        return self.folder / "slurm.id"

    def read_spec(self) -> JobSpec:
        """Return what the run is.

        Raises
        ------
        JobError
            If there is no run here, or it cannot be understood.
        """
        try:
            return JobSpec(**json.loads(self.spec.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise JobError(
                f"{self.folder}: there is no job here; `napari-tokenunify jobs list` shows those known."
            ) from None
        except OSError as error:
            raise JobError(f"{self.spec}: cannot be read ({error.strerror or error}).") from error
        except (ValueError, TypeError, TokenUnifyError, ValidationError) as error:
            said = what_is_wrong(error) if isinstance(error, ValidationError) else str(error)
            said = said.rstrip(".")
            raise JobError(f"{self.spec}: cannot be understood ({said}); was it made by another version?") from error

    def write_spec(self, spec: JobSpec) -> None:
        """Save what the run is."""
        self._write(self.spec, spec.model_dump_json(indent=1))

    def read_control(self) -> Word:
        """Return what the worker is asked to do."""
        try:
            word = self.control.read_text(encoding="utf-8").strip()
        except OSError:  # not there, or being replaced
            return "run"
        return word if word in {"pause", "stop", "kill"} else "run"  # type: ignore[return-value]

    def write_control(self, word: Word) -> None:
        """Ask the worker for something; it obeys at its next event."""
        self._write(self.control, word)

    def read_launch(self) -> dict[str, Any]:
        """Return what is known of the last start; {} if there was none."""
        return _read(self.launch)

    def write_launch(self, launch: dict[str, Any]) -> None:
        """Say how the worker was started: kind, host, pid, created, time, offset (bytes of `events` before it)."""
        self._write(self.launch, json.dumps(launch))

    def read_process(self) -> dict[str, Any]:
        """Return pid, created and host of the worker; {} if it has not said so yet."""
        return _read(self.process)

    def write_process(self, process: dict[str, Any]) -> None:
        """Say which process the worker is."""
        self._write(self.process, json.dumps(process))

    def forget_process(self) -> None:
        """Remove what a former worker and a former submission left."""
        self.process.unlink(missing_ok=True)
        self.slurm_id.unlink(missing_ok=True)

    def log_tail(self, lines: int) -> tuple[str, ...]:
        """Return the last lines of the log that are not blank."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 200 * lines - 2000))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ()
        return tuple([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Write whole or not at all. Two processes may do so at once; nothing waits for the disk, as a GUI calls it."""
        part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise JobError(
                f"{path}: cannot be written ({error.strerror or error}); is the disk full or read-only?"
            ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
