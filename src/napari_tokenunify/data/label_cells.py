"""Where each id is, coarsely: voxels counted in the cells of a grid, and cells joined to parts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Box, Triple

_PENDING_ROWS = 1_000_000
_FORWARD = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


@dataclass(frozen=True, eq=False)
class LabelCells:
    """One row for each id in each cell that it touches, sorted by id, then by cell.

    Attributes
    ----------
    ids : ndarray of uint64, shape (N,)
        Never 0.
    cells : ndarray of int64, shape (N,)
        Flat index in the grid.
    voxels : ndarray of int64, shape (N,)
        How many voxels of the id lie in the cell.
    first : ndarray of int64, shape (N,)
        The first of them, as a flat index in the volume.
    grid : tuple of int
        Number of cells along z, y, x.
    """

    ids: NDArray[np.uint64]
    cells: NDArray[np.int64]
    voxels: NDArray[np.int64]
    first: NDArray[np.int64]
    grid: Triple

    def where(self, rows: NDArray[np.bool_]) -> LabelCells:
        """Return some of the rows."""
        return LabelCells(self.ids[rows], self.cells[rows], self.voxels[rows], self.first[rows], self.grid)

    def parts(self) -> NDArray[np.int64]:
        """Return a number for each row, the same for cells of one id that hang together.

        Cells hang together if they touch, corners included. Rows of cells in which nothing at all is labelled do
        not separate: annotated sections with unlabelled ones between them count as neighbours.
        """
        places = np.stack(np.unravel_index(self.cells, self.grid), axis=1)
        places[:, 0] = np.searchsorted(np.unique(places[:, 0]), places[:, 0])
        owner = np.searchsorted(np.unique(self.ids), self.ids)
        strides = np.array([(self.grid[1] + 2) * (self.grid[2] + 2), self.grid[2] + 2, 1])
        keys = owner * ((self.grid[0] + 2) * strides[0]) + (places + 1) @ strides
        edges = []
        for step in _FORWARD:
            wanted = keys + np.array(step) @ strides
            found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            here = np.flatnonzero(keys[found] == wanted)
            edges.append(np.stack([here, found[here]]))
        rows, columns = np.concatenate(edges, axis=1)
        graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(keys), len(keys)))
        numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
        return numbers


class CellCounter:
    """Collects the labels of a volume, block by block, into `LabelCells`.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, (z, y, x).
    cell : tuple of int
        Size of a cell in voxels, (z, y, x).
    """

    def __init__(self, shape: Triple, cell: Triple) -> None:
        self._shape, self._cell = shape, cell
        self._grid = tuple(-(-n // c) for n, c in zip(shape, cell, strict=True))
        self._pending: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._rows = 0

    def add(self, ids: NDArray[np.uint64], box: Box) -> None:
        """Count the labels `ids` (Z, Y, X) of a box."""
        width = self._cell[2]
        start, owner, length = label_runs(ids, slice(width - box.start[2] % width, None, width))
        place = np.stack(np.unravel_index(start, ids.shape)) + np.array(box.start)[:, None]
        cell = np.ravel_multi_index(tuple(place // np.array(self._cell)[:, None]), self._grid)
        first = np.ravel_multi_index(tuple(place), self._shape)
        self._pending.append(_merged(owner, np.stack([cell, length, first])))
        self._rows += len(self._pending[-1][0])
        if self._rows > _PENDING_ROWS:
            self._merge()

    def result(self) -> LabelCells:
        """Return what was counted so far."""
        self._merge()
        ids, (cells, voxels, first) = self._pending[0]
        return LabelCells(ids, cells, voxels, first, (self._grid[0], self._grid[1], self._grid[2]))

    def _merge(self) -> None:
        owners = [np.empty(0, np.uint64), *(ids for ids, _ in self._pending)]
        columns = [np.empty((3, 0), np.int64), *(columns for _, columns in self._pending)]
        self._pending = [_merged(np.concatenate(owners), np.concatenate(columns, axis=1))]
        self._rows = 0


def label_runs(
    ids: NDArray[np.uint64], cuts: slice | None = None
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return start (flat index), id and length of each run of one id along x; unlabelled ones are left out.

    Parameters
    ----------
    ids : ndarray of uint64, shape (Z, Y, X)
        Labels.
    cuts : slice, optional
        Indices on x at which a new run begins in any case.
    """
    change = np.ones(ids.shape, bool)
    np.not_equal(ids[..., 1:], ids[..., :-1], out=change[..., 1:])
    if cuts is not None:
        change[..., cuts] = True
    start = np.flatnonzero(change)
    length = np.diff(start, append=ids.size)
    owner = ids.ravel()[start]
    labelled = owner != 0
    return start[labelled], owner[labelled], length[labelled]


def _merged(ids: NDArray[np.uint64], columns: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Join rows with the same id and cell: voxels add up, the first voxel is the lowest."""
    if not len(ids):
        return ids, columns
    order = np.lexsort((columns[0], ids))
    ids, (cells, voxels, first) = ids[order], columns[:, order]
    begins = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (cells[1:] != cells[:-1])])
    sums = np.stack([cells[begins], np.add.reduceat(voxels, begins), np.minimum.reduceat(first, begins)])
    return ids[begins], sums
