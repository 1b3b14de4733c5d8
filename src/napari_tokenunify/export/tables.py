"""CSV: a row for each segment, with its size, its fragments, its bounding box, and how sure it is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from scipy import ndimage

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Progress
from napari_tokenunify.export.contacts import begins_with, segment_uncertainty
from napari_tokenunify.export.content import Segments

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Box

COLUMNS: Final = (
    "id", "voxels", "volume_um3", "fragments", "z_start", "z_stop", "y_start", "y_stop", "x_start", "x_stop",
    "uncertainty",
)  # fmt: skip


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write a row for each segment that has voxels.

    `volume_um3` is empty where the voxel size is unknown, `fragments` counts those of which something lies in what is
    written, and the bounding box is in voxels of what is written, half open. `uncertainty` is that of
    `contacts.segment_uncertainty`, of the whole segment; empty where it touches nothing.

    Parameters
    ----------
    content : Content
        Segments.
    path : Path
        The file.

    Raises
    ------
    ExportError
        If it is an array without fragments.
    OSError
        If it cannot be written.
    """
    if not isinstance(content, Segments):
        raise ExportError(f"{content.name}: a table is made of a segmentation, not of an array.")
    fragments = _Extents.empty(content.segmentation.nodes)
    grid = content.grid()
    for block in grid:
        yield Progress(block.index, len(grid), "measuring segments")
        read = block.core.shifted(content.box.start)
        fragments.add(content.segmentation.fragments[read.slices], block.core)
    ids, segments, parts = fragments.joined(content.table)
    content.written[ids] = True
    _write_rows(path, content, ids, segments, parts)
    yield Progress(len(grid), len(grid), "measuring segments")


def is_ours(path: Path) -> bool:
    """Whether a file is one that `write` made."""
    return begins_with(path, COLUMNS)


def _write_rows(
    path: Path, content: Segments, ids: NDArray[np.uint64], segments: _Extents, parts: NDArray[np.int64]
) -> None:
    size = content.voxel_size_nm
    unsure = segment_uncertainty(content.segmentation.graph, content.table, ids)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for row, segment in enumerate(ids.tolist()):
            voxels = int(segments.voxels[row])
            volume = "" if size is None else f"{voxels * size[0] * size[1] * size[2] / 1e9:.9g}"
            spans = np.stack([segments.start[row], segments.stop[row]], axis=1).ravel()
            rows.writerow([segment, voxels, volume, int(parts[row]), *spans.tolist(), _share(unsure[row])])


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


@dataclass(frozen=True, eq=False)
class _Extents:
    """How many voxels each of some things has, and the box around them; n rows.

    Attributes
    ----------
    voxels : ndarray of int64, shape (n,)
    start, stop : ndarray of int64, shape (n, 3)
        z, y, x; half open.
    """

    voxels: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Return a row for each id from 0 to `rows`, without voxels."""
        far = np.iinfo(np.int64).max
        return cls(np.zeros(rows + 1, np.int64), np.full((rows + 1, 3), far), np.zeros((rows + 1, 3), np.int64))

    def add(self, fragments: NDArray[np.uint64], box: Box) -> None:
        """Add what lies in a box."""
        here = np.zeros(len(self.voxels), bool)
        here[fragments] = True
        here[0] = False
        ids = np.flatnonzero(here)
        small = np.zeros(len(self.voxels), np.int32)
        small[ids] = np.arange(1, len(ids) + 1)
        numbered = small[fragments]
        self.voxels[ids] += np.bincount(numbered.ravel(), minlength=len(ids) + 1)[1:]
        boxes: list[Any] = ndimage.find_objects(numbered)
        if boxes:
            start = np.array([[span.start for span in found] for found in boxes]) + box.start
            stop = np.array([[span.stop for span in found] for found in boxes]) + box.start
            self.start[ids] = np.minimum(self.start[ids], start)
            self.stop[ids] = np.maximum(self.stop[ids], stop)

    def joined(self, table: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], _Extents, NDArray[np.int64]]:
        """Return the ids of the segments that have voxels, a row for each, and how many fragments each has."""
        rows = np.flatnonzero((self.voxels > 0) & (table != 0))
        ids, to = np.unique(table[rows], return_inverse=True)
        joined = _Extents.empty(len(ids) - 1)
        np.add.at(joined.voxels, to, self.voxels[rows])
        np.minimum.at(joined.start, to, self.start[rows])
        np.maximum.at(joined.stop, to, self.stop[rows])
        return ids, joined, np.bincount(to, minlength=len(ids))
