"""The log of all edits, as `proofread log --out` writes it and `proofread replay` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Progress
from napari_tokenunify.export.each_segment import segments_of
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread.log_files import read_log, write_log
from napari_tokenunify.proofread.proofreading import Proofreading
from napari_tokenunify.segment.segmentation import EDITS

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write all edits of a segmentation, on all branches.

    Parameters
    ----------
    content : Content
        All of its segments.
    path : Path
        The file.

    Raises
    ------
    ExportError
        If it is an array or a part of a segmentation, or nothing was ever edited.
    ProofreadError
        If the edits are locked or damaged, or the file cannot be written.
    """
    segments = segments_of(content)
    segmentation = segments.segmentation
    if segments.box != Box.whole(segmentation.shape) or "segments" in segments.facts:
        raise ExportError("The log holds all edits of a segmentation: leave out --box and --segments.")
    yield Progress(0, 1, "writing edits")
    never = ExportError(f"{segmentation.folder}: was never edited, so there is no log to write.")
    if not (segmentation.folder / EDITS).exists():
        raise never
    with Proofreading.open(segmentation.folder, read_only=True) as proofreading:
        if len(proofreading.history) == 0:  # a window that looks makes the file, too
            raise never
        write_log(proofreading.history, path)
    segments.written[segments.table] = True
    yield Progress(1, 1, "writing edits")


def is_ours(path: Path) -> bool:
    """Whether a file is such a log."""
    return bool(read_log(path).fragments_hash)
