"""CellSums: what the tiles have added up to in cells that wait for more; in memory up to a budget, else on disk."""

from __future__ import annotations

import math
import mmap
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment.prediction.blending import finished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.affinity_writer import AffinityWriter
    from napari_tokenunify.segment.prediction.behind import Behind
    from napari_tokenunify.segment.prediction.tiles import TileGrid

_SUFFIX = ".sums"
_BUDGET = 32 << 20


@dataclass
class _Sum:
    """The sums of one cell.

    Attributes
    ----------
    sums : ndarray of uint16, (C, z, y, x)
        What its tiles have added up to.
    tiles : set of tuple of int
        Which tiles are in it.
    unsaved_since : float or None
        When the first tile was added that is not on disk.
    """

    sums: NDArray[np.uint16]
    tiles: set[Triple] = field(default_factory=set)
    unsaved_since: float | None = None


class CellSums:
    """Takes in tiles in any order, each once for each cell, and has the cells written that are complete.

    Parameters
    ----------
    grid : TileGrid
        Tiles and cells.
    writer : AffinityWriter
        The store; its cells are those of the grid.
    behind : Behind
        The thread that writes.
    budget : int or None
        Bytes of sums to hold in memory; beyond it those that were not added to for longest go to disk. By default 32
        MB, or what two tiles touch if that is more: so it does not grow with the volume.
    save_after : float
        Seconds that sums may lie in memory alone: what a kill costs at most.
    """

    def __init__(
        self, grid: TileGrid, writer: AffinityWriter, behind: Behind, *, budget: int | None, save_after: float = 60
    ) -> None:
        self._grid, self._writer, self._behind, self._save_after = grid, writer, behind, save_after
        self._channels = len(writer.layout.offsets) + writer.layout.uncertainty
        touched = math.prod(-(-t // c) + 1 for t, c in zip(grid.tile, grid.cell, strict=True))
        two_tiles = 2 * touched * math.prod(grid.cell) * self._channels * np.dtype(np.uint16).itemsize
        self._budget = max(_BUDGET, two_tiles) if budget is None else budget
        self._in_memory: OrderedDict[Triple, _Sum] = OrderedDict()  # longest unused first
        self._bytes = 0
        self._finished = set(writer.done)
        self.held = {cell: tiles for cell, tiles in _saved(writer.work) if cell not in self._finished}
        """Which tiles are in the sums that lay on disk at the start, by cell."""
        self._on_disk = set(self.held)

    def add(self, tile: Triple, shares: NDArray[np.uint16]) -> None:
        """Add a tile to those of its cells that do not hold it yet.

        Parameters
        ----------
        tile : tuple of int
            Which tile (z, y, x).
        shares : ndarray of uint16, shape (C, D, H, W)
            From `Windows.shares`; with uncertainty as a last channel, where the store has it.

        Raises
        ------
        SegmentError, OSError
            If the disk cannot be written to.
        """
        for cell in self._grid.cells_of(tile):
            if cell in self._finished:
                continue
            entry = self._take(cell)
            if tile in entry.tiles:
                continue
            of_tile, of_cell = self._grid.shared(tile, cell)
            entry.sums[(slice(None), *of_cell)] += shares[(slice(None), *of_tile)]
            entry.tiles.add(tile)
            entry.unsaved_since = entry.unsaved_since or time.monotonic()
            if len(entry.tiles) == self._grid.tile_count(cell):
                self._finish(cell)
        self._make_room()

    def save(self) -> None:
        """Bring all sums to disk, at the end of a run that has not finished all cells."""
        while self._in_memory:
            self._put_away(next(iter(self._in_memory)))

    def _take(self, cell: Triple) -> _Sum:
        """Return a cell's sums: from memory, from disk, or new."""
        entry = self._in_memory.get(cell)
        if entry is None:
            if cell in self._on_disk:
                self._behind.wait()  # it may be on its way there
                entry = _load(_file(self._writer.work, cell))
            else:
                entry = _Sum(_zeros((self._channels, *self._grid.cell_box(cell).shape)))
            self._in_memory[cell] = entry
            self._bytes += entry.sums.nbytes
        self._in_memory.move_to_end(cell)
        return entry

    def _finish(self, cell: Triple) -> None:
        entry = self._in_memory.pop(cell)
        self._bytes -= entry.sums.nbytes
        self._finished.add(cell)
        self._behind.put(partial(self._write, cell, entry.sums))
        self._on_disk.discard(cell)

    def _write(self, cell: Triple, sums: NDArray[np.uint16]) -> None:
        layout = self._writer.layout
        channels = len(layout.offsets)
        uncertainty = finished(sums[channels], "uint8") if layout.uncertainty else None
        self._writer.write(cell, finished(sums[:channels], layout.dtype), uncertainty)
        _file(self._writer.work, cell).unlink(missing_ok=True)

    def _make_room(self) -> None:
        while self._bytes > self._budget and len(self._in_memory) > 1:
            self._put_away(next(iter(self._in_memory)))
        now = time.monotonic()
        for cell, entry in self._in_memory.items():
            if entry.unsaved_since is not None and now - entry.unsaved_since >= self._save_after:
                self._save(cell, _Sum(entry.sums.copy(), set(entry.tiles)))
                entry.unsaved_since = None

    def _put_away(self, cell: Triple) -> None:
        entry = self._in_memory.pop(cell)
        self._bytes -= entry.sums.nbytes
        if entry.unsaved_since is not None:
            self._save(cell, entry)

    def _save(self, cell: Triple, entry: _Sum) -> None:
        self._behind.put(partial(_store, _file(self._writer.work, cell), entry))
        self._on_disk.add(cell)


def _file(work: Path, cell: Triple) -> Path:
    return work / (".".join(map(str, cell)) + _SUFFIX)


def _store(file: Path, entry: _Sum) -> None:
    """Write tiles and sums into one file, which is there whole or not at all."""
    with whole_file(file, SegmentError) as part, part.open("wb") as opened:
        np.save(opened, np.array(sorted(entry.tiles), np.int64).reshape(-1, 3))
        np.save(opened, entry.sums)


def _load(file: Path) -> _Sum:
    with file.open("rb") as opened:
        tiles = np.load(opened, allow_pickle=False)
        loaded = np.load(opened, allow_pickle=False)
    sums = _zeros(loaded.shape)
    sums[:] = loaded
    return _Sum(sums, {(z, y, x) for z, y, x in tiles.tolist()})


def _zeros(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Return sums in memory of their own, which goes back to the system at once when it is free.

    Long and short lives mixed leave holes in the usual memory, a hundred megabytes of them in a large volume.
    """
    size = math.prod(shape) * np.dtype(np.uint16).itemsize
    return np.frombuffer(mmap.mmap(-1, size), np.uint16).reshape(shape)


def _saved(work: Path) -> Iterator[tuple[Triple, set[Triple]]]:
    """Yield the cells that have sums on disk, with the tiles in them; what is damaged is removed."""
    for file in sorted(work.glob(f"*{_SUFFIX}")):
        try:
            z, y, x = map(int, file.name.removesuffix(_SUFFIX).split("."))
            yield (z, y, x), _load(file).tiles
        except (OSError, ValueError, EOFError):
            with suppress(OSError):
                file.unlink()
