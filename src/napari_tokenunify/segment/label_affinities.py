"""LabelAffinities: what affinities would be if labels were right, computed as they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities, offset_reach
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box, as_triple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple, VoxelSize


@dataclass(frozen=True, eq=False)
class Mapping:
    """Which segment each supervoxel belongs to.

    Attributes
    ----------
    supervoxels : ndarray of uint64, shape (N,)
        Rising.
    segments : ndarray of uint64, shape (N,)
        Of each; 0 is none.
    """

    supervoxels: NDArray[np.uint64]
    segments: NDArray[np.uint64]

    def __call__(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the segments of supervoxels; one that is not named is a segment of its own, of the same id."""
        if not len(self.supervoxels):
            return ids
        place = np.minimum(np.searchsorted(self.supervoxels, ids), len(self.supervoxels) - 1)
        segments: NDArray[np.uint64] = np.where(self.supervoxels[place] == ids, self.segments[place], ids)
        return segments


@dataclass(frozen=True, eq=False)
class LabelAffinities:
    """1 where two voxels have the same label, 0 elsewhere; read like an AffinityStore.

    Attributes
    ----------
    labels : Volume
        Whole numbers; 0 is no segment.
    mapping : Mapping or None
        Then the labels are supervoxels.
    offsets, voxel_size_nm, origin, origin_nm
        As of an AffinityStore.
    """

    labels: Volume
    mapping: Mapping | None = None
    offsets: tuple[Offset, ...] = DEFAULT_OFFSETS
    voxel_size_nm: VoxelSize | None = None
    origin: Triple = (0, 0, 0)
    origin_nm: VoxelSize = (0.0, 0.0, 0.0)
    settings: dict[str, Any] = field(default_factory=dict)
    has_spread: bool = False

    @property
    def path(self) -> str:
        """The address of the labels."""
        return self.labels.uri

    @property
    def shape(self) -> Triple:
        """(z, y, x) voxels."""
        return self.labels.shape

    def read(self, box: Box) -> NDArray[np.float32]:
        """Return them in a box, float32 (C, Z, Y, X)."""
        down, up = offset_reach(self.offsets)
        start = as_triple(a + d for a, d in zip(box.start, down, strict=True))
        stop = as_triple(b + u for b, u in zip(box.stop, up, strict=True))
        around = Box(start, stop).clipped(self.shape) or box
        ids = read_ids(self.labels, around)
        known = known_affinities(ids if self.mapping is None else self.mapping(ids), self.offsets)[0]
        return known[(slice(None), *box.seen_from(around.start).slices)].astype(np.float32)

    def read_spread(self, box: Box) -> NDArray[np.float32]:
        """Return nothing: there is one answer."""
        raise SegmentError(f"{self.path}: labels say nothing of how sure they are in the box {box}.")


def read_ids(labels: Volume, box: Box) -> NDArray[np.uint64]:
    """Read labels as ids.

    Raises
    ------
    SegmentError
        If one is negative.
    """
    ids = labels.read(box)
    if ids.dtype.kind == "i" and ids.min(initial=0) < 0:
        raise SegmentError(f"{labels.uri}: has the id {ids.min()} in the box {box}, but ids are positive: mend it.")
    found: NDArray[np.uint64] = ids.astype(np.uint64)
    return found
