"""From where on a boundary holds in a volume of any size, from a sample of it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from napari_tokenunify.errors import SegmentError, VolumeError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.boundary import (
    boundary_of,
    fitting_threshold,
    in_sections,
    nearest_affinities,
    usual_threshold,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.block_work import BlockWork

_PIECES: Final = 3  # along each axis
_EXTENT: Final = 96  # voxels of a piece at most, along each axis


def sampled_threshold(work: BlockWork) -> Generator[Event, None, float]:
    """Find the boundary threshold that fits pieces spread evenly over the volume.

    How the volume is cut into blocks does not matter. What cannot be read is left out here; the block that it lies in
    says so.
    """
    store = work.affinities
    sections = in_sections(work.config, store.voxel_size_nm)
    boundaries = []
    pieces = list(_pieces(work.grid.shape))
    for done, piece in enumerate(pieces):
        yield Progress(done, len(pieces), "looking at boundaries")
        try:
            nearest = nearest_affinities(store.read(piece.shifted(work.start)), store.offsets, sections=sections)
            boundary = boundary_of(nearest, sections=sections)
            boundaries.append(boundary if work.mask is None else boundary[work.mask.read(piece) != 0])
        except (SegmentError, VolumeError):
            continue
    if not any(boundary.size for boundary in boundaries):
        yield Message(
            f"None of the {len(pieces)} places at which boundaries were to be looked at lies in the mask and can be "
            f"read, so they count from {usual_threshold(sections=sections):g} on, as usual. Should fragments come out "
            "too large, give a lower --boundary-threshold.",
            "warning",
        )
    return fitting_threshold(boundaries, sections=sections)


def _pieces(shape: Triple) -> Iterator[Box]:
    """Yield boxes in the middle of as many equal parts of a volume; of a short axis all of it."""
    extents, starts = [], []
    for length in shape:
        parts = _PIECES if length > _EXTENT else 1
        extent = min(_EXTENT, length // parts)
        extents.append(extent)
        starts.append([(2 * part + 1) * length // (2 * parts) - extent // 2 for part in range(parts)])
    for z, y, x in product(*starts):
        yield Box((z, y, x), (z + extents[0], y + extents[1], x + extents[2]))
