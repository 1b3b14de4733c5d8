"""What an export that was killed has done already: beside the blocks that are there lies a list of them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS: Final = ".tokenunify-settings"
_DONE: Final = ".tokenunify-done"


class Finished:
    """The pieces of an export that are written; kept in its folder until it is whole.

    A piece is named once all of it is there, so a kill at any moment costs the piece in work.

    Parameters
    ----------
    folder : Path
        Where the export is being made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _DONE
        text = self._path.read_bytes() if self._path.exists() else b""
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # the last name was cut off
            os.truncate(self._path, whole)
        self._names = set(text[:whole].decode().split("\n")) - {""}

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        """Whether a piece is there."""
        return name in self._names

    def add(self, name: str) -> None:
        """Take note of a piece that is written."""
        self._names.add(name)
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{name}\n")


def goes_on(folder: Path, fingerprint: str) -> bool:
    """Return whether what lies in a folder was begun with the same settings."""
    try:
        known = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known == fingerprint)


def begin(folder: Path, fingerprint: str) -> None:
    """Note the settings in an empty folder."""
    (folder / _SETTINGS).write_text(json.dumps(fingerprint), encoding="utf-8")


def end(folder: Path) -> None:
    """Take the notes away: the export is whole."""
    for name in (_SETTINGS, _DONE):
        (folder / name).unlink(missing_ok=True)
