"""The segmentation of a project, its edits, and what becomes of these when another segmentation is made.

A segmentation that was edited is never overwritten: the next one gets a folder of its own beside it, and the edits go
along. Where the fragments are the same, the file of edits is copied; else what the user pointed at is pointed at again.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import ProofreadError, SegmentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_tokenunify.project import Project
    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.segment import Segmentation

ANSWERS: Final = "answers.json"
"""What was said to suggestions; beside the edits."""

_FIRST: Final = "segmentation"
_NAME: Final = re.compile(rf"{_FIRST}(-\d+)?")
_GONE: Final = ".gone"


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
        """Open the segmentation in a folder instead; return whether there is a finished one.

        Raises
        ------
        SegmentError
            If it is damaged.
        """
        if not folder.exists():
            return False
        from napari_tokenunify.segment.segmentation import SPEC, Segmentation

        if not (folder / SPEC).exists():  # it is not finished yet
            return False
        found = Segmentation.open(folder)
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
    return count_edits(folder) != 0


def count_edits(folder: Path) -> int | None:
    """Return how many edits a segmentation has, undone ones as well; None if that cannot be read."""
    if not folder.exists():
        return 0
    path = _edits(folder)
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT COUNT(*) FROM edits WHERE number > 0").fetchone()[0])
    except sqlite3.OperationalError as error:
        return 0 if "no such table" in str(error) else None
    except sqlite3.Error:
        return None


@dataclass(frozen=True)
class KeptSegmentation:
    """A segmentation from before, that is not shown any more.

    Attributes
    ----------
    folder : Path
        Where it is.
    edits : int or None
        How many, undone ones as well; None if that cannot be read.
    size : int
        Bytes on the disk.
    changed : datetime
        When a file of it was written last, in local time.
    """

    folder: Path
    edits: int | None
    size: int
    changed: datetime


def kept_folders(project: Project) -> list[Path]:
    """Return the folders of all whole segmentations of a project but the one in use, in the order of their making."""
    from napari_tokenunify.segment.segmentation import SPEC

    found = [
        path for path in project.folder.glob(f"{_FIRST}*") if _NAME.fullmatch(path.name) and (path / SPEC).exists()
    ]
    return sorted((path for path in found if path != project.segmentation), key=_number)


def look_at_kept(folder: Path) -> KeptSegmentation:
    """Return what there is to say of a segmentation; for a thread, as each file is looked at.

    Raises
    ------
    SegmentError
        If it cannot be read.
    """
    try:
        facts = [path.stat() for path in folder.rglob("*") if path.is_file()]
    except OSError as error:
        raise SegmentError(f"{folder}: cannot be read ({error.strerror or error}).") from error
    changed = datetime.fromtimestamp(max((fact.st_mtime for fact in facts), default=0)).astimezone()
    return KeptSegmentation(folder, count_edits(folder), sum(fact.st_size for fact in facts), changed)


def delete_kept(project: Project, folder: Path) -> None:
    """Delete a segmentation that is not in use, and its edits, for ever; for a thread.

    It gets a hidden name first, so that what a kill left behind is never taken for a whole one; the next time that
    goes, too.

    Raises
    ------
    SegmentError
        If it is the one in use, or no segmentation of this project, or cannot be deleted.
    """
    if folder not in kept_folders(project):
        raise SegmentError(f"{folder}: is in use, or no segmentation of this project, and is not deleted.")
    gone = folder.with_name(f".{folder.name}{_GONE}")
    try:
        for left in project.folder.glob(f".{_FIRST}*{_GONE}"):
            shutil.rmtree(left)
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise SegmentError(
            f"{folder}: cannot be deleted ({error.strerror or error}); close other programs that use it."
        ) from error


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


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[2] or 1)


def _edits(folder: Path) -> Path:
    from napari_tokenunify.segment.segmentation import EDITS

    return folder / EDITS
