"""TileGrid: which tiles the network sees, which cells of the store each touches, and in which order they are run."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.geometry import Box, as_triple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from napari_tokenunify.geometry import Triple

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class TileGrid:
    """Tiles that cover an array with an overlap, as MONAI's sliding window has them, and the cells they add to.

    A tile is named by its number along (z, y, x), a cell too. All tiles have one shape: the last along an axis is
    moved inwards, and an array smaller than the tile has one tile of its own size.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) voxels of the array.
    tile : tuple of int
        (z, y, x) voxels of a tile; not larger than the array.
    cell : tuple of int
        (z, y, x) voxels of a cell; those at the end may be cut.
    starts : tuple of tuple of int
        For each axis the first voxels of the tiles.
    """

    shape: Triple
    tile: Triple
    cell: Triple
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def cover(cls, shape: Triple, tile: Triple, overlap: float, cell: Triple) -> TileGrid:
        """Lay tiles over an array.

        Parameters
        ----------
        shape, tile, cell : tuple of int
            (z, y, x) in voxels.
        overlap : float
            Part of a tile, along each axis, that the next one covers too; 0 <= overlap < 1.
        """
        z, y, x = (min(t, n) for t, n in zip(tile, shape, strict=True))
        starts = tuple(_starts(n, t, overlap) for n, t in zip(shape, (z, y, x), strict=True))
        return cls(shape, (z, y, x), cell, starts)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return math.prod(map(len, self.starts))

    @property
    def cells(self) -> Triple:
        """How many cells there are along (z, y, x)."""
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.cell, strict=True))
        return z, y, x

    def tile_box(self, tile: Triple) -> Box:
        """Return the voxels of a tile."""
        start = as_triple(starts[i] for starts, i in zip(self.starts, tile, strict=True))
        return Box(start, as_triple(a + t for a, t in zip(start, self.tile, strict=True)))

    def cell_box(self, cell: Triple) -> Box:
        """Return the voxels of a cell."""
        start = as_triple(i * c for i, c in zip(cell, self.cell, strict=True))
        return Box(start, as_triple(min(a + c, n) for a, c, n in zip(start, self.cell, self.shape, strict=True)))

    def cells_of(self, tile: Triple) -> Iterator[Triple]:
        """Yield the cells that a tile touches."""
        box = self.tile_box(tile)
        spans = (range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, self.cell, strict=True))
        yield from itertools.product(*spans)

    def tiles_of(self, cell: Triple) -> Iterator[Triple]:
        """Yield the tiles that touch a cell."""
        yield from itertools.product(*self._spans(cell))

    def tile_count(self, cell: Triple) -> int:
        """Return how many tiles touch a cell."""
        return math.prod(map(len, self._spans(cell)))

    def shared(self, tile: Triple, cell: Triple) -> tuple[Slices, Slices]:
        """Return the part of a tile that lies in a cell: as an index into the tile, and one into the cell."""
        of, inside = self.tile_box(tile), self.cell_box(cell)
        low = as_triple(map(max, of.start, inside.start))
        both = Box(low, as_triple(map(min, of.stop, inside.stop)))
        return both.shifted(_minus(of.start)).slices, both.shifted(_minus(inside.start)).slices

    def cell_order(self, start_at: Triple | None = None) -> Iterator[Triple]:
        """Yield all cells in the order of work.

        Parameters
        ----------
        start_at : tuple of int, optional
            Voxel (z, y, x): what is near comes first. By default row by row, to and fro, along the shortest axis
            first: then few cells wait for tiles that come much later.
        """
        if start_at is not None:
            yield from self._by_distance(start_at)
            return
        slow, middle, fast = sorted(range(3), key=lambda axis: (-self.cells[axis], axis))
        for i in range(self.cells[slow]):
            for j in _to_and_fro(self.cells[middle], i):
                for k in _to_and_fro(self.cells[fast], i * self.cells[middle] + j):
                    cell = {slow: i, middle: j, fast: k}
                    yield cell[0], cell[1], cell[2]

    def missing_tiles(
        self, done: Set[Triple], held: Mapping[Triple, Set[Triple]], start_at: Triple | None = None
    ) -> list[Triple]:
        """Return the tiles that are still to be run, in the order of work.

        Parameters
        ----------
        done : set of tuple of int
            Cells that are finished.
        held : mapping of tuple of int to set of tuple of int
            Which tiles are in the sums of the cells that are begun.
        start_at : tuple of int, optional
            As for `cell_order`.
        """
        found: dict[Triple, None] = {}
        for cell in self.cell_order(start_at):
            if cell not in done:
                inside = held.get(cell, frozenset())
                found.update((tile, None) for tile in self.tiles_of(cell) if tile not in inside)
        return list(found)

    def _by_distance(self, start_at: Triple) -> Iterator[Triple]:
        # to the nearest voxel of the cell, then to its middle
        distances = [np.zeros(self.cells), np.zeros(self.cells)]
        for axis, (at, size) in enumerate(zip(start_at, self.cell, strict=True)):
            low = np.arange(self.cells[axis]) * size
            outside = np.maximum(np.maximum(low - at, at - (low + size - 1)), 0)
            line = [-1 if other == axis else 1 for other in range(3)]
            distances[0] += (outside**2).reshape(line)
            distances[1] += ((low + (size - 1) / 2 - at) ** 2).reshape(line)
        order = np.lexsort((distances[1].ravel(), distances[0].ravel()))
        for z, y, x in zip(*np.unravel_index(order, self.cells), strict=True):
            yield int(z), int(y), int(x)

    def _spans(self, cell: Triple) -> list[range]:
        return [spans[i] for spans, i in zip(self._tile_spans, cell, strict=True)]

    @cached_property
    def _tile_spans(self) -> list[list[range]]:
        """Return for each axis which tiles touch cell 0, 1, ..."""
        result = []
        for axis in range(3):
            starts, size, tile = np.array(self.starts[axis]), self.cell[axis], self.tile[axis]
            low = np.arange(self.cells[axis]) * size
            first = np.searchsorted(starts, low - tile, side="right")  # starts + tile > low
            last = np.searchsorted(starts, low + size, side="left")  # starts < low + size
            result.append([range(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
        return result


def _starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return tuple(min(i * step, length - tile) for i in range(count))


def _to_and_fro(count: int, turn: int) -> range:
    return range(count) if turn % 2 == 0 else range(count - 1, -1, -1)


def _minus(numbers: Triple) -> Triple:
    return -numbers[0], -numbers[1], -numbers[2]
