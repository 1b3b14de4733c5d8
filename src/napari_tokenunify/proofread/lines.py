"""Lines through a fragment: drawn between points or painted into a volume, and carried on through sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box, as_triple
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.edits import Edit, Point
    from napari_tokenunify.proofread.proofreading import Proofreading

    Line = tuple[NDArray[np.bool_], Box]

_REACHES: Final = (0, 8, 32, 128, 512)  # sections before and behind a painted one that a cut goes through
_BLOCK: Final = (64, 256, 256)


def drawn_line(corners: Sequence[Point]) -> Line:
    """Return the voxels on straight lines from corner to corner (scikit-image's `line_nd`), and the box around them.

    Parameters
    ----------
    corners : sequence of (int, int, int)
        Voxels (z, y, x).

    Raises
    ------
    ProofreadError
        If there are none.
    """
    from skimage.draw import line_nd  # here, as a window that only offers to cut should not wait for it

    if not corners:
        raise ProofreadError("A line has two corners or more: name voxels z,y,x from edge to edge of a fragment.")
    ends = zip(corners, corners[1:] or corners, strict=False)
    parts: list[Any] = [line_nd(a, b, endpoint=True) for a, b in ends]  # type: ignore[no-untyped-call]
    voxels = np.concatenate([np.stack(part, axis=1) for part in parts])
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    line = np.zeros(high - low, bool)
    line[tuple((voxels - low).T)] = True
    return line, Box(as_triple(low), as_triple(high))


def painted_line(mask: Volume, box: Box) -> Line:
    """Return where a volume is not 0, and the box around that; read block by block.

    Parameters
    ----------
    mask : Volume
        Of the shape of the box.
    box : Box
        Where it lies, in voxels of the segmentation.

    Raises
    ------
    ProofreadError
        If the shapes differ, or it is 0 everywhere.
    VolumeError
        If it is damaged.
    """
    if mask.shape != box.shape:
        raise ProofreadError(
            f"{mask.uri}: has the shape {mask.shape}, and the box {box} {box.shape}: name the --box that it lies in."
        )
    low, high = np.array(mask.shape), np.zeros(3, np.int64)
    for block in BlockGrid(mask.shape, _BLOCK, (0, 0, 0)):
        places = np.argwhere(mask.read(block.core))
        if len(places):
            low = np.minimum(low, places.min(axis=0) + block.core.start)
            high = np.maximum(high, places.max(axis=0) + block.core.start + 1)
    if not high.any():
        raise ProofreadError(f"{mask.uri}: is 0 everywhere: paint a line from edge to edge of a fragment.")
    tight = Box(as_triple(low), as_triple(high))
    return mask.read(tight) != 0, tight.shifted(box.start)


def plan_along(proofreading: Proofreading, line: Line, axis: int | None, fragment: int | None = None) -> Edit:
    """Return the edit that would divide a fragment along a line, without making it.

    Parameters
    ----------
    proofreading : Proofreading
        Whose fragment.
    line : ndarray of bool and Box
        What was painted and where, in voxels of the segmentation; it may reach outside.
    axis : int or None
        0, 1 or 2 for z, y or x: the line is carried on along it, through as many sections as it takes. None takes it as
        it is.
    fragment : int, optional
        Which to divide; by default the one that most of the line lies in.

    Raises
    ------
    ProofreadError
        If nothing is divided by it, or the segment is locked.
    """
    painted, box = _tight(line)
    if box.clipped(proofreading.segmentation.shape) is None:
        raise ProofreadError("Nothing is painted inside the segmentation: draw a line through a fragment.")
    fragment = fragment or _under(proofreading, painted, box)
    shown = proofreading.shown()
    shown.refuse_locked(shown.segment_of(fragment))
    problem: ProofreadError | None = None
    for reach in _REACHES if axis is not None else _REACHES[:1]:
        carried, where = _carried(painted, box, axis or 0, reach, proofreading.segmentation.shape)
        try:
            return proofreading.plan_cut(carried, where, fragment=fragment)
        except ProofreadError as error:
            problem = problem or error
    raise problem or ProofreadError("The line divides nothing.")


def _tight(line: Line) -> Line:
    painted, box = line
    places = np.argwhere(painted)
    if not len(places):
        raise ProofreadError("Nothing is painted: draw a line from edge to edge of a fragment.")
    around = Box(as_triple(places.min(axis=0)), as_triple(places.max(axis=0) + 1))
    return painted[around.slices], around.shifted(box.start)


def _under(proofreading: Proofreading, line: NDArray[np.bool_], box: Box) -> int:
    """Return the fragment that most of a line lies in."""
    inside = box.clipped(proofreading.segmentation.shape)
    if inside is None:
        raise ProofreadError("Nothing is painted inside the segmentation: draw a line through a fragment.")
    ids = proofreading.fragments[inside.slices][line[inside.seen_from(box.start).slices]]
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    if not len(found):
        raise ProofreadError("The line lies where nothing was segmented: draw it through a fragment.")
    return int(found[np.argmax(counts)])


def _carried(line: NDArray[np.bool_], box: Box, axis: int, reach: int, shape: Triple) -> Line:
    """Return a line carried on along an axis, and its box."""
    if reach == 0:
        return line, box
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = max(0, start[axis] - reach), min(shape[axis], stop[axis] + reach)
    carried = np.repeat(line.any(axis=axis, keepdims=True), stop[axis] - start[axis], axis=axis)
    return carried, Box(as_triple(start), as_triple(stop))
