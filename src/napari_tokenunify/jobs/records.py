"""`events.jsonl`: one line of JSON a record, appended by one worker, read by anybody at any time.

A record is an event of the stage or a word of the worker about itself (`Start`, `State`, `Heartbeat`); its type is
under `event`, first in the line, and its time (seconds since 1970) under `time`.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import Event, Progress, to_json

if TYPE_CHECKING:
    from pathlib import Path

_PROGRESS_EVERY_S: Final = 0.1
_PROGRESS: Final = b'{"event": "Progress"'


class Recorder:
    """Appends records, each as a whole line in one write.

    Progress comes at most ten times a second; nothing else is ever left out.

    Parameters
    ----------
    path : Path
        The file; made if missing. A half line that a killed writer left is ended first.

    Raises
    ------
    JobError
        If it cannot be written, e.g. because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab+", buffering=0)
            self._whole = _ends_with_a_line(path)
        except OSError as error:
            raise self._unwritable(error) from error
        self._late: Progress | None = None
        self._last_progress = -1.0
        self._last_what = ""
        self._clock = _Clock()

    def event(self, event: Event) -> None:
        """Record what the stage yielded."""
        if not isinstance(event, Progress):
            self.write(**to_json(event))
            return
        now = time.monotonic()
        self._clock.see(event, now)
        self._late = event
        soon = now - self._last_progress < _PROGRESS_EVERY_S
        if event.what != self._last_what or event.done >= event.total or not soon:
            self._catch_up()

    def word(self, kind: str, **values: Any) -> None:
        """Record what the worker says of itself, after the last progress."""
        self._catch_up()
        self.write(kind, **values)

    def write(self, event: str, **values: Any) -> None:
        """Append one record."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values}, default=_plain).encode() + b"\n"
        data = line if self._whole else b"\n" + line
        try:
            self._whole = False  # until all of it is written
            while data:
                data = data[self._file.write(data) or 0 :]
            self._whole = True
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def forget_time(self) -> None:
        """Take the time since the last progress for no work, e.g. after a pause."""
        self._clock.start_anew()

    def _catch_up(self) -> None:
        """Write the last progress, if it was held back."""
        if self._late is not None:
            progress, self._late = self._late, None
            self._last_progress, self._last_what = time.monotonic(), progress.what
            self.write(**to_json(progress), eta_seconds=self._clock.seconds_left())

    def _unwritable(self, error: OSError) -> JobError:
        return JobError(
            f"{self._path}: cannot be written ({error.strerror or error}); make room on the disk, then resume the job."
        )


class _Clock:
    """Says how long a phase will take still, from its pace since it began or was taken up again."""

    def __init__(self) -> None:
        self._anchor: tuple[str, int, float] | None = None
        self._now: tuple[Progress, float] | None = None

    def see(self, progress: Progress, now: float) -> None:
        if self._anchor is None or self._anchor[0] != progress.what or progress.done < self._anchor[1]:
            self._anchor = (progress.what, progress.done, now)
        self._now = (progress, now)

    def start_anew(self) -> None:
        self._anchor = None

    def seconds_left(self) -> float | None:
        if self._anchor is None or self._now is None:
            return None
        progress, now = self._now
        done = progress.done - self._anchor[1]
        return round((now - self._anchor[2]) / done * (progress.total - progress.done), 1) if done > 0 else None


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: numbers of NumPy and torch, paths."""
    return value.item() if hasattr(value, "item") else str(value)


class RecordReader:
    """Reads what is new, in whole lines only.

    Parameters
    ----------
    path : Path
        The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self, offset: int = 0) -> list[dict[str, Any]]:
        """Return the records that were added since the last call and lie at `offset` (in bytes) or later.

        Of progress, only the last one is among them: a run of days has a million of them. What is no JSON, the half
        line of a killed writer, is left out.
        """
        self._position = max(self._position, offset)
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        lines = whole.splitlines()
        last = max((number for number, line in enumerate(lines) if line.startswith(_PROGRESS)), default=-1)
        wanted = (line for number, line in enumerate(lines) if number == last or not line.startswith(_PROGRESS))
        return [record for record in map(_parse, wanted) if record is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = from_json(line)  # three times as fast as the standard library's, and a run of days has many
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("event"), str) else None
