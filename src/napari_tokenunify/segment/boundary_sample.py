"""From where on a boundary holds in a volume of any size, from a sample of it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from napari_tokenunify.errors import SegmentError, VolumeError
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.boundary import boundary_of, fitting_threshold, in_sections, nearest_affinities

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.block_work import BlockWork

_PIECES: Final = 3  # along each axis
_EXTENT: Final = 96  # voxels of a piece at most, along each axis


def sampled_threshold(work: BlockWork) -> float:
    """Return the boundary threshold that was given, or the one that fits pieces spread evenly over the volume.

    It depends on the volume alone, not on how that is cut into blocks. What cannot be read is left out here; the block
    that it lies in says so.
    """
    if work.config.boundary_threshold is not None:
        return work.config.boundary_threshold
    sections = in_sections(work.config, work.affinities.voxel_size_nm)
    return fitting_threshold(_boundaries(work, sections=sections), sections=sections)


def _boundaries(work: BlockWork, *, sections: bool) -> Iterator[NDArray[np.float32]]:
    store = work.affinities
    for piece in _pieces(work.grid.shape):
        try:
            nearest = nearest_affinities(store.read(piece.shifted(work.start)), store.offsets, sections=sections)
            boundary = boundary_of(nearest, sections=sections)
            yield boundary if work.mask is None else boundary[work.mask.read(piece) != 0]
        except (SegmentError, VolumeError):
            continue


def _pieces(shape: Triple) -> Iterator[Box]:
    """Yield boxes in the middle of as many equal parts of a volume."""
    extents, starts = [], []
    for length in shape:
        parts = min(_PIECES, length)
        extent = min(_EXTENT, length // parts)
        extents.append(extent)
        starts.append([(2 * part + 1) * length // (2 * parts) - extent // 2 for part in range(parts)])
    for z, y, x in product(*starts):
        yield Box((z, y, x), (z + extents[0], y + extents[1], x + extents[2]))
