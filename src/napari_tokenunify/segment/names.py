"""What a segment is called: by its largest fragment. So it keeps its name, and its colour, while it grows.

With any other choice, say the smallest id, a whole neuron changes its colour when a speck joins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokenunify.network.compiled import compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def named(table: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the same segments, each called by its largest fragment; of equals, by the one of the smallest id.

    When two segments join, the new one has the name of that with the larger largest fragment, whatever the order of
    the merges.

    Parameters
    ----------
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment, called by any of 1..nodes; entry 0 is 0.
    sizes : ndarray of int64, shape (nodes + 1,)
        Voxels of each fragment.

    Returns
    -------
    ndarray of uint64, shape (nodes + 1,)
    """
    names: NDArray[np.uint64] = _named(table, sizes)
    return names


@compiled
def _named(table, sizes):  # type: ignore[no-untyped-def]
    largest = table.copy()
    largest[:] = 0
    for node in range(1, len(table)):
        segment = table[node]
        if segment and (largest[segment] == 0 or sizes[node] > sizes[largest[segment]]):
            largest[segment] = node
    names = table.copy()
    for node in range(1, len(table)):
        names[node] = largest[table[node]]
    return names
