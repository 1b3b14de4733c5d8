"""All levels of an image, block by block: the finest is read, each coarser one is made of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_tokenunify.events import Message, Progress
from napari_tokenunify.export.pyramid import coarser, level_steps, majority, mean
from napari_tokenunify.export.resume import Finished
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Box, Triple, VoxelSize


class LevelStore(Protocol):
    """Where levels are kept, in the blocks that suit it."""

    block: Triple  # (z, y, x) voxels that are written at once; blocks do not share files
    piece: Triple  # (z, y, x) voxels of a coarser level that are made at once

    def create(self, level: int, shape: Triple) -> Any:
        """Make a level, or open it if it is there: an array (z, y, x) that takes and gives blocks."""


def level_shapes(shape: Triple, steps: list[Triple]) -> list[Triple]:
    """Return the shape of each level, the finest first."""
    shapes = [shape]
    for step in steps:
        shapes.append(coarser(shapes[-1], step))
    return shapes


def level_sizes(voxel_size_nm: VoxelSize | None, steps: list[Triple]) -> list[VoxelSize]:
    """Return the voxel size of each level, (z, y, x); in voxels of the finest if that of the finest is unknown."""
    sizes = [voxel_size_nm or (1.0, 1.0, 1.0)]
    for fz, fy, fx in steps:
        z, y, x = sizes[-1]
        sizes.append((z * fz, y * fy, x * fx))
    return sizes


def write_levels(
    content: Content, store: LevelStore, path: Path, note: Callable[[NDArray[Any]], None] | None = None
) -> Generator[Event, None, None]:
    """Write all levels of a Content; blocks that an earlier run has written are left as they are.

    Parameters
    ----------
    content : Content
        What to write.
    store : LevelStore
        Where.
    path : Path
        The folder that is being made.
    note : callable, optional
        Is shown each block of the finest level.
    """
    steps = level_steps(content.shape, content.voxel_size_nm)
    grids = [BlockGrid(shape, store.block, (0, 0, 0)) for shape in level_shapes(content.shape, steps)]
    total, done, finished = sum(map(len, grids)), 0, Finished(path)
    what = "writing segments" if content.is_labels else "writing"
    if len(finished):
        yield Message(f"An earlier run was cut off with {len(finished)} of {total} blocks written; this one goes on.")
    above: Any = None
    for level, grid in enumerate(grids):
        array = store.create(level, grid.shape)
        for block in grid:
            yield Progress(done, total, what)
            name = f"{level}/{block.index}"
            done += 1
            if level == 0:  # is read even if it is written: what is in it is noted
                voxels = content.read(block.core)
                if note is not None:
                    note(voxels)
            if name in finished:
                continue
            if level > 0:
                voxels = _reduced(above, block.core, steps[level - 1], store.piece, is_labels=content.is_labels)
            array[block.core.slices] = voxels
            finished.add(name)
        above = array
    yield Progress(total, total, what)


def _reduced(above: Any, box: Box, step: Triple, size: Triple, *, is_labels: bool) -> NDArray[Any]:
    """Return a box of the next level, made of the level above piece by piece."""
    out = np.empty(box.shape, above.dtype)
    for piece in BlockGrid(box.shape, size, (0, 0, 0)):
        there = piece.core.shifted(box.start)
        fine = tuple(
            slice(a * f, min(b * f, n)) for a, b, f, n in zip(there.start, there.stop, step, above.shape, strict=True)
        )
        out[piece.core.slices] = (majority if is_labels else mean)(above[fine], step)
    return out
