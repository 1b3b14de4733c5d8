"""Blocks: the pieces that a volume is done in."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokenunify.geometry import Triple

CORE: Final = (64, 512, 512)
BUDGET_BYTES: Final = 2 << 30  # what a block may need; fixed, as results must not depend on the machine


@dataclass(frozen=True)
class Block:
    """One piece of the work.

    Attributes
    ----------
    index : int
        Its place among all blocks in the order z, y, x, from 0.
    position : tuple of int
        Its place (z, y, x) in the grid.
    core : Box
        The voxels it owns.
    outer : Box
        The voxels it reads: the core and its halo, cut at the volume's faces.
    """

    index: int
    position: Triple
    core: Box
    outer: Box

    @property
    def inner(self) -> Box:
        """The core in voxels of an array that covers `outer`."""
        return self.core.seen_from(self.outer.start)


@dataclass(frozen=True)
class BlockGrid:
    """The blocks of a volume.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) voxels of the volume.
    core : tuple of int
        (z, y, x) voxels of a block's core; the last one along an axis may be smaller.
    halo : tuple of int
        (z, y, x) voxels around it.
    """

    shape: Triple
    core: Triple
    halo: Triple

    @property
    def counts(self) -> Triple:
        """How many blocks there are along (z, y, x)."""
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.core, strict=True))
        return z, y, x

    def __len__(self) -> int:
        """How many blocks there are."""
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in the order z, y, x."""
        return map(self.at, itertools.product(*map(range, self.counts)))  # type: ignore[arg-type]

    def at(self, position: Triple) -> Block:
        """Return the block at a place (z, y, x) in the grid."""
        z, y, x = (p * c for p, c in zip(position, self.core, strict=True))
        core = _clipped(Box((z, y, x), (z + self.core[0], y + self.core[1], x + self.core[2])), self.shape)
        _, columns, rows = self.counts
        index = (position[0] * columns + position[1]) * rows + position[2]
        return Block(index, position, core, _clipped(core.grown(self.halo), self.shape))

    def touching(self, box: Box) -> Iterator[Block]:
        """Yield the blocks whose cores a box reaches into, in the order z, y, x."""
        spans = (range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, self.core, strict=True))
        return map(self.at, itertools.product(*spans))  # type: ignore[arg-type]

    def above(self, block: Block) -> Iterator[tuple[int, Block]]:
        """Yield each axis along which another block follows, and that block."""
        for axis in range(3):
            position = list(block.position)
            position[axis] += 1
            if position[axis] < self.counts[axis]:
                yield axis, self.at((position[0], position[1], position[2]))


def fitting_core(shape: Triple, halo: Triple, multiple: Triple, bytes_per_voxel: int) -> Triple:
    """Return the extent of a block's core: CORE, or less for a smaller volume or where a voxel takes much memory.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x) voxels of the volume.
    halo : tuple of int
        (z, y, x) voxels around the core.
    multiple : tuple of int
        The extent is a multiple of this.
    bytes_per_voxel : int
        What the work needs for each voxel of core and halo; a block stays below BUDGET_BYTES if it can.
    """
    core = [min(c, -(-n // m) * m) for c, n, m in zip(CORE, shape, multiple, strict=True)]
    while math.prod(c + 2 * h for c, h in zip(core, halo, strict=True)) * bytes_per_voxel > BUDGET_BYTES:
        parts = [c // m for c, m in zip(core, multiple, strict=True)]
        axis = parts.index(max(parts))
        if parts[axis] == 1:
            break
        core[axis] = -(-parts[axis] // 2) * multiple[axis]
    return core[0], core[1], core[2]


def _clipped(box: Box, shape: Triple) -> Box:
    inside = box.clipped(shape)
    if inside is None:
        raise SegmentError(f"The block {box} lies outside a volume of {shape} voxels (z, y, x).")
    return inside
