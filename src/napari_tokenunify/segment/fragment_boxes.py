"""Where each fragment lies: found once, block by block, and kept beside the graph."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.network.compiled import compiled
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.segment.fragment_store import StoredFragments

_BLOCK: Final = (64, 256, 256)


def kept_boxes(path: Path, fragments: StoredFragments, nodes: int) -> NDArray[np.int32]:
    """Return where each fragment lies; read from a file, or found and kept there if that can be written to.

    Parameters
    ----------
    path : Path
        The file.
    fragments : StoredFragments
        The voxels.
    nodes : int
        Number of fragments.

    Returns
    -------
    ndarray of int32, shape (nodes + 1, 6)
        First voxel (z, y, x) and the one past the last; zeros for an id without voxels, and for 0.

    Raises
    ------
    SegmentError
        If voxels cannot be read.
    """
    try:
        boxes: NDArray[np.int32] = np.load(path, allow_pickle=False)
        if boxes.shape == (nodes + 1, 6):
            return boxes
    except (OSError, ValueError, EOFError):
        pass
    low = np.full((nodes + 1, 3), np.iinfo(np.int32).max, np.int32)
    high = np.zeros_like(low)
    for block in BlockGrid(fragments.shape, _BLOCK, (0, 0, 0)):
        _grow(low, high, fragments[block.core.slices], np.array(block.core.start))
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
