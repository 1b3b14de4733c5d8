"""The segmentation of a project, its edits, and what becomes of these when another segmentation is made.

A segmentation that was edited is never overwritten: the next one gets a folder of its own beside it, and the edits go
along. Where the fragments are the same, the file of edits is copied; else what the user pointed at is pointed at again.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import ProofreadError, SegmentError, TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokenunify.project import Project
    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.segment import Segmentation

ANSWERS: Final = "answers.json"
"""What was said to suggestions; beside the edits."""

_FIRST: Final = "segmentation"


class OpenSegmentation:
    """What is open of a project; a compiler is loaded only where there is a segmentation.

    Attributes
    ----------
    segmentation : Segmentation or None
        The finished one, if there is one.
    proofreading : Proofreading or None
        Its edits, once they were opened.
    """

    def __init__(self) -> None:
        self.segmentation: Segmentation | None = None
        self.proofreading: Proofreading | None = None

    def open(self, folder: Path) -> bool:
        """Open the segmentation in a folder instead; return whether there is a finished one."""
        if not folder.exists():
            return False
        from napari_tokenunify.segment import Segmentation

        try:
            found = Segmentation.open(folder)
        except TokenUnifyError:  # not finished yet
            return False
        self.close()
        self.segmentation = found
        return True

    def close(self) -> None:
        """Close what is open; all edits are on the disk already."""
        self.close_edits()
        self.segmentation = None

    def close_edits(self) -> None:
        """Close the edits alone."""
        if self.proofreading is not None:
            self.proofreading.close()
        self.proofreading = None

    def opener(self) -> Callable[[], Proofreading]:
        """Return a function that opens the edits; for a thread.

        Raises
        ------
        ProofreadError
            If there is no segmentation yet.
        """
        segmentation = self.segmentation
        if segmentation is None:
            raise ProofreadError("There are no segments yet: make them in the step Segment.")

        def open_edits() -> Proofreading:
            from napari_tokenunify.proofread import Proofreading

            return Proofreading.open(segmentation)

        return open_edits

    def use(self, proofreading: Proofreading) -> bool:
        """Take edits that were opened; return whether they are those of what is open now."""
        if proofreading.segmentation is not self.segmentation:
            proofreading.close()
            return False
        if self.proofreading not in (None, proofreading):
            self.proofreading.close()
        self.proofreading = proofreading
        return True


def place_of_next(project: Project) -> dict[str, Any]:
    """Return where the next segmentation of a project is made, as `out` and `overwrite` of SegmentConfig."""
    folder = project.segmentation
    number = 1
    while has_edits(folder):
        number += 1
        folder = project.folder / f"{_FIRST}-{number}"
    return {"out": str(folder), "overwrite": folder.exists()}


def make_room(folder: Path) -> None:
    """Take away an empty file of edits, as a segmentation that holds one is not overwritten.

    Raises
    ------
    SegmentError
        If it cannot be taken away.
    """
    if has_edits(folder) or not folder.exists():
        return
    try:
        for ending in ("", "-wal", "-shm"):
            path = _edits(folder)
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise SegmentError(f"{folder}: cannot be overwritten ({error.strerror}); close other programs.") from error


def has_edits(folder: Path) -> bool:
    """Whether a segmentation was ever edited; a file of edits that cannot be read counts."""
    if not folder.exists():
        return False
    path = _edits(folder)
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return bool(db.execute("SELECT COUNT(*) FROM edits WHERE number > 0").fetchone()[0])
    except sqlite3.OperationalError as error:
        return "no such table" not in str(error)
    except sqlite3.Error:
        return True


def take_along(old: Path, new: Path) -> bool:
    """Copy the edits of a segmentation to another one; return False, and do nothing, if its fragments are others.

    Raises
    ------
    SegmentError
        If one of them cannot be read.
    ProofreadError
        If the edits cannot be copied.
    """
    from napari_tokenunify.proofread.fragment_graph import fragments_key
    from napari_tokenunify.segment import Segmentation

    if fragments_key(Segmentation.open(old)) != fragments_key(Segmentation.open(new)):
        return False
    try:
        with closing(sqlite3.connect(_edits(old))) as source, closing(sqlite3.connect(_edits(new))) as target:
            source.backup(target)
        if (old / ANSWERS).exists():
            shutil.copyfile(old / ANSWERS, new / ANSWERS)
    except (sqlite3.Error, OSError) as error:
        raise ProofreadError(f"{_edits(new)}: the edits cannot be copied ({error}); they are safe in {old}.") from error
    return True


def _edits(folder: Path) -> Path:
    from napari_tokenunify.segment.segmentation import EDITS

    return folder / EDITS
