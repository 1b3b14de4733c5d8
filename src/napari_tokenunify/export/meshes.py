"""The surface of a segment as triangles, for a segment of any extent: only the blocks it lies in are read.

Where a segment is too large for the voxels that a mesh may have, it is seen coarser: a coarse voxel belongs to it if
any voxel in it does, so that thin neurites do not break.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from bioimage_cpp.mesh import marching_cubes

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.export.fragment_shapes import FragmentShapes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.segmentation import Segmentation

MOST_VOXELS: Final = 16_000_000


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
    segmentation: Segmentation,
    segment: int,
    table: NDArray[np.uint64] | None = None,
    max_voxels: int = MOST_VOXELS,
    shapes: FragmentShapes | None = None,
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
        taken together, along the finest axes first. A larger value gives a finer mesh and takes more memory.
    shapes : FragmentShapes, optional
        Of this segmentation; what it has kept is not read again.

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
    members = members[segmentation.boxes[members, 3] > 0]
    if not len(members):
        raise SegmentError(f"There is no segment {segment} at this threshold: pick one that is shown.")
    size = segmentation.voxel_size_nm or (1.0, 1.0, 1.0)
    boxes = segmentation.boxes[members]
    start, stop = boxes[:, :3].min(axis=0), boxes[:, 3:].max(axis=0)
    step = _step(stop - start, size, max_voxels)
    first, last = start // step, -(-stop // step)  # cells, counted from the first voxel of the segmentation
    pieces = (shapes or FragmentShapes()).occupied(segmentation, members.tolist(), step)
    vertices, faces, _, _ = marching_cubes(_coarse(pieces, first, last - first), 0.5, allow_degenerate=False)
    middle = (np.array(step) - 1) / 2 + segmentation.origin  # of the first cell
    places = ((vertices - 1.0 + first) * step + middle) * size  # 1: the rim
    return Mesh(places.astype(np.float32), faces.astype(np.int32), step)


def _step(extent: NDArray[Any], size: tuple[float, float, float], most: int) -> Triple:
    """Return how many voxels (z, y, x) are taken together: powers of two, the finest axes first."""
    step = [1, 1, 1]
    while math.prod(-(-int(n) // s) for n, s in zip(extent, step, strict=True)) > most:
        finest = min(nm * s for nm, s in zip(size, step, strict=True))
        step = [2 * s if nm * s < 2 * finest else s for nm, s in zip(size, step, strict=True)]
    return step[0], step[1], step[2]


def _coarse(pieces: Iterable[tuple[Triple, NDArray[np.bool_]]], first: Triple, cells: Triple) -> NDArray[np.float32]:
    """Return 1 where a step holds a voxel of the segment, 0 elsewhere, and a rim of 0 that closes the surface."""
    coarse = np.zeros([n + 2 for n in cells], np.float32)
    for start, mask in pieces:
        at = tuple(slice(a - b + 1, a - b + 1 + n) for a, b, n in zip(start, first, mask.shape, strict=True))
        coarse[at][mask] = 1
    return coarse
