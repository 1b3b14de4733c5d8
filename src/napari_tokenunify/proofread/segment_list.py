"""All segments as they are now, with their numbers, and how many of them were marked correct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread.edited import EditedSegmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.proofreading import Proofreading


@dataclass(frozen=True, eq=False)
class SegmentList:
    """Segments, the largest first.

    Attributes
    ----------
    ids : ndarray of uint64, shape (N,)
        Their names.
    voxels, fragments : ndarray of int64, shape (N,)
        How many each has.
    is_correct : ndarray of bool, shape (N,)
        Whether it was marked correct.
    """

    ids: NDArray[np.uint64]
    voxels: NDArray[np.int64]
    fragments: NDArray[np.int64]
    is_correct: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.ids)

    @property
    def correct_share(self) -> float:
        """Share of the segmented voxels that lie in segments that were marked correct, 0..1."""
        return float(self.voxels[self.is_correct].sum() / max(1, self.voxels.sum()))

    def row_of(self, segment: int) -> int | None:
        """Return where a segment stands; None if there is none of that name."""
        found = np.flatnonzero(self.ids == np.uint64(segment))
        return int(found[0]) if len(found) else None


def list_segments(proofreading: Proofreading, threshold: float | None = None) -> SegmentList:
    """List the segments with all edits in force, for a threshold or as agglomerated.

    Raises
    ------
    SegmentError
        If the method has no threshold to move.
    """
    shown = proofreading.shown(threshold)
    table, sizes = shown.table.astype(np.intp), proofreading.graph.sizes
    voxels = np.bincount(table, sizes).astype(np.int64)  # exact: sums of doubles below 2^53
    voxels[0] = 0
    ids = np.flatnonzero(voxels)
    ids = ids[np.argsort(-voxels[ids], kind="stable")]
    is_correct = np.zeros(len(voxels), bool)
    is_correct[list(shown.locked_segments())] = True
    fragments = np.bincount(table, sizes > 0).astype(np.int64)
    return SegmentList(ids.astype(np.uint64), voxels[ids], fragments[ids], is_correct[ids])


def place_of_segment(proofreading: Proofreading, segment: int, threshold: float | None = None) -> Triple:
    """Return a voxel (z, y, x) well inside of the largest fragment of a segment.

    Raises
    ------
    ProofreadError
        If there is no such segment.
    """
    members = proofreading.shown(threshold).members(segment)
    if segment == 0 or not len(members):
        raise ProofreadError(f"There is no segment {segment} any more: choose another.")
    largest = int(members[np.argmax(proofreading.graph.sizes[members])])
    return place_of_fragment(proofreading, largest)


def place_of_fragment(proofreading: Proofreading, fragment: int) -> Triple:
    """Return a voxel (z, y, x) well inside of a fragment; only where it lies is anything read.

    Raises
    ------
    ProofreadError
        If there is no such fragment now.
    """
    boxes = EditedSegmentation.of(proofreading).boxes
    if not 0 < fragment < len(boxes):
        raise ProofreadError(f"There is no fragment {fragment} now: choose another.")
    return place_inside(proofreading.fragments, boxes, fragment)


def place_inside(fragments: Any, boxes: NDArray[np.int32], fragment: int) -> Triple:
    """Return a voxel well inside of a fragment; sections of its box are read from the middle outwards.

    Parameters
    ----------
    fragments : array of uint64, shape (Z, Y, X)
        May be lazy.
    boxes : ndarray of int32, shape (nodes + 1, 6)
        First voxel of each fragment and the one past the last, (z, y, x).
    fragment : int
        Which.

    Returns
    -------
    tuple of int
        The voxel (z, y, x) of the fragment that is nearest to the middle of it in a section.

    Raises
    ------
    ProofreadError
        If it has no voxels.
    """
    first, stop = boxes[fragment, :3].tolist(), boxes[fragment, 3:].tolist()
    middle = (first[0] + stop[0] - 1) / 2
    for z in sorted(range(first[0], stop[0]), key=lambda section: abs(section - middle)):
        section = np.asarray(fragments[z : z + 1, first[1] : stop[1], first[2] : stop[2]])[0]
        voxels = np.argwhere(section == np.uint64(fragment))
        if len(voxels):
            y, x = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
            return z, first[1] + y, first[2] + x
    raise ProofreadError(f"Fragment {fragment} has no voxels: choose another.")
