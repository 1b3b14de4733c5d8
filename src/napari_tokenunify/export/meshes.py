"""The surface of a segment as triangles, for a segment of any extent: only the blocks it lies in are read.

Where a segment is too large for the voxels that a mesh may have, it is seen coarser: a coarse voxel belongs to it if
any voxel in it does, so that thin neurites do not break.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from bioimage_cpp.mesh import marching_cubes

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.compiled import compiled
from napari_tokenunify.project import whole_file
from napari_tokenunify.proofread.edited import EditedSegmentation
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.segmentation import Segmentation

MOST_VOXELS: Final = 16_000_000
_BLOCK: Final = (64, 256, 256)
_BOXES: Final = "graph/boxes.npy"  # in the folder of a segmentation; it goes when the fragments go


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface of triangles.

    Attributes
    ----------
    vertices : ndarray of float32, shape (N, 3)
        z, y, x in nm from the middle of the volume's first voxel; in voxels where the voxel size is unknown.
    faces : ndarray of int32, shape (M, 3)
        Of each triangle the rows of its corners in `vertices`.
    step : tuple of int
        (z, y, x) voxels that were taken together.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    step: Triple


def segment_mesh(
    segmentation: Segmentation, segment: int, table: NDArray[np.uint64] | None = None, max_voxels: int = MOST_VOXELS
) -> Mesh:
    """Return the surface of a segment, by marching cubes (bioimage-cpp, after scikit-image).

    Time and reading grow with the blocks that the segment lies in; the memory is bounded by `max_voxels`. All that
    takes long gives the interpreter lock back.

    Parameters
    ----------
    segmentation : Segmentation
        Its fragments are read block by block. The first time, all of them are, to note where each lies.
    segment : int
        Its id in the table.
    table : ndarray of uint64, shape (nodes + 1,), optional
        Segment of each fragment; by default as agglomerated.
    max_voxels : int
        Largest number of voxels of the box around the segment; where it has more, steps of two, four, ... voxels are
        taken together, along the finest axes first. A larger value gives a finer mesh and takes
        more memory.

    Returns
    -------
    Mesh
        Closed also where the segment reaches the border of the volume.

    Raises
    ------
    SegmentError
        If there is no such segment, or a file is damaged.
    """
    table = segmentation.table if table is None else table
    members = np.flatnonzero(table == np.uint64(segment)) if segment > 0 else np.empty(0, np.int64)
    boxes = fragment_boxes(segmentation)[members]
    boxes = boxes[boxes[:, 3] > 0]
    if not len(boxes):
        raise SegmentError(f"There is no segment {segment} at this threshold: pick one that is shown.")
    size = segmentation.voxel_size_nm or (1.0, 1.0, 1.0)
    start, stop = boxes[:, :3].min(axis=0), boxes[:, 3:].max(axis=0)
    step = _step(stop - start, size, max_voxels)
    inside = np.zeros(len(table), np.uint64)
    inside[members] = 1
    coarse = _coarse(segmentation, inside, boxes, Box(_triple(start), _triple(stop)), step)
    vertices, faces, _, _ = marching_cubes(coarse, 0.5, allow_degenerate=False)
    first = start + (np.array(step) - 1) / 2 + segmentation.spec.get("origin", (0, 0, 0))  # middle of a coarse voxel
    places = (first + (vertices - 1.0) * step) * size  # 1: the rim
    return Mesh(places.astype(np.float32), faces.astype(np.int32), step)


def fragment_boxes(segmentation: Segmentation) -> NDArray[np.int32]:
    """Return where each fragment lies; found once and kept beside the graph, where that can be written to.

    Parameters
    ----------
    segmentation : Segmentation
        Whose fragments.

    Returns
    -------
    ndarray of int32, shape (nodes + 1, 6)
        First voxel (z, y, x) and the one past the last; zeros for an id without voxels, and for 0.

    Raises
    ------
    SegmentError
        If a file is damaged.
    """
    if isinstance(segmentation, EditedSegmentation):  # the parts of a divided fragment lie where it lies
        return segmentation.boxes(fragment_boxes(segmentation.unedited))
    path = segmentation.folder / _BOXES
    try:
        boxes: NDArray[np.int32] = np.load(path, allow_pickle=False)
        if boxes.shape == (segmentation.nodes + 1, 6):
            return boxes
    except (OSError, ValueError, EOFError):
        pass
    low = np.full((segmentation.nodes + 1, 3), np.iinfo(np.int32).max, np.int32)
    high = np.zeros_like(low)
    for block in BlockGrid(segmentation.shape, _BLOCK, (0, 0, 0)):
        _grow(low, high, segmentation.fragments[block.core.slices], np.array(block.core.start))
    low[(high == 0).any(axis=1)] = 0
    low[0] = high[0] = 0
    boxes = np.concatenate([low, high], axis=1)
    with suppress(SegmentError), whole_file(path, SegmentError) as part, part.open("wb") as file:
        np.save(file, boxes, allow_pickle=False)
    return boxes


@compiled
def _grow(low, high, ids, start):  # type: ignore[no-untyped-def]
    for z in range(ids.shape[0]):
        for y in range(ids.shape[1]):
            x = 0
            while x < ids.shape[2]:
                fragment, first = ids[z, y, x], x
                while x < ids.shape[2] and ids[z, y, x] == fragment:
                    x += 1
                ends = ((z, z), (y, y), (first, x - 1))
                for axis in range(3):
                    low[fragment, axis] = min(low[fragment, axis], ends[axis][0] + start[axis])
                    high[fragment, axis] = max(high[fragment, axis], ends[axis][1] + start[axis] + 1)


def _step(extent: NDArray[Any], size: tuple[float, float, float], most: int) -> Triple:
    """Return how many voxels (z, y, x) are taken together: powers of two, the finest axes first."""
    step = [1, 1, 1]
    while math.prod(-(-int(n) // s) for n, s in zip(extent, step, strict=True)) > most:
        finest = min(nm * s for nm, s in zip(size, step, strict=True))
        step = [2 * s if nm * s < 2 * finest else s for nm, s in zip(size, step, strict=True)]
    return step[0], step[1], step[2]


def _coarse(
    segmentation: Segmentation, inside: NDArray[np.uint64], boxes: NDArray[np.int32], box: Box, step: Triple
) -> NDArray[np.float32]:
    """Return 1 where a step holds a voxel of the segment, 0 elsewhere, and a rim of 0 that closes the surface.

    Read are the blocks that its fragments touch.
    """
    extent = [-(-n // s) + 2 for n, s in zip(box.shape, step, strict=True)]
    coarse = np.zeros(extent, np.float32)
    block = _triple([-(-n // s) * s for n, s in zip(_BLOCK, step, strict=True)])
    for place in sorted(set(_places(boxes - np.tile(box.start, 2), block))):
        low = [p * n for p, n in zip(place, block, strict=True)]
        high = [min(a + n, whole) for a, n, whole in zip(low, block, box.shape, strict=True)]
        part = Box(_triple(low), _triple(high)).shifted(box.start)
        voxels = segmentation.fragments.read(part.slices, inside)
        lacking = [(0, -n % s) for n, s in zip(voxels.shape, step, strict=True)]
        voxels = np.pad(voxels, lacking) if np.any(lacking) else voxels
        z, y, x = (n // s for n, s in zip(voxels.shape, step, strict=True))
        pooled = voxels.reshape(z, step[0], y, step[1], x, step[2]).max(axis=(1, 3, 5))
        first = [a // s + 1 for a, s in zip(low, step, strict=True)]
        coarse[tuple(slice(a, a + n) for a, n in zip(first, (z, y, x), strict=True))] = pooled
    return coarse


def _places(boxes: NDArray[np.int32], block: Triple) -> Iterator[Triple]:
    """Yield the blocks (z, y, x) that boxes touch; some several times."""
    first, last = boxes[:, :3] // block, (boxes[:, 3:] - 1) // block
    for (z0, y0, x0), (z1, y1, x1) in zip(first.tolist(), last.tolist(), strict=True):
        yield from product(range(z0, z1 + 1), range(y0, y1 + 1), range(x0, x1 + 1))


def _triple(values: Any) -> Triple:
    z, y, x = (int(value) for value in values)
    return z, y, x
