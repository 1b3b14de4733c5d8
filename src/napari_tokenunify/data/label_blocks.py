"""Which parts of a label volume are worth reading: blocks along its chunks, without those that hold nothing."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import zarr
from zarr.core.sync import sync

from napari_tokenunify.data.source import Location
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Level, Volume
    from napari_tokenunify.geometry import Triple

_BLOCK_VOXELS = 1 << 21
_SPARSE_BLOCK: Triple = (32, 64, 64)  # small, so that much is left out: there are no chunks to read again
_CHUNK_VOXELS = 1 << 25  # a chunk larger than this is cut, though it is decoded again for each part


@runtime_checkable
class Sparse(Protocol):
    """A (z, y, x) array that knows where it holds anything but 0."""

    def filled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return first and last voxel of boxes outside which all is 0, two arrays of shape (N, 3); None if unknown."""


def label_blocks(labels: Volume, margin: Triple, with_empty: bool = False) -> Iterator[Box]:
    """Yield boxes of a few million voxels at most that do not overlap and hold every label.

    They lie along the chunks of the file. Blocks that are known to be empty without reading them are left out:
    those of which a Zarr store on this machine holds no chunk, and those where nothing is drawn.

    Parameters
    ----------
    labels : Volume
        0 means nothing there.
    margin : tuple of int
        Empty blocks that are as near as this to others, (z, y, x), are not left out.
    with_empty : bool
        Leave out nothing.
    """
    filled = filled_boxes(labels)
    is_drawn = labels.chunks is None and filled is not None
    size = _block_shape(labels.shape, _SPARSE_BLOCK if is_drawn else labels.chunks, grow=not is_drawn)
    if with_empty:
        filled = None
    if filled is None:
        indices: Iterable[tuple[int, ...]] = product(
            *(range(-(-n // s)) for n, s in zip(labels.shape, size, strict=True))
        )
    else:
        low, high = filled
        indices = map(tuple, _touched(low - margin, high + margin, size, labels.shape).tolist())
    for z, y, x in indices:
        box = Box.whole(size).shifted((z * size[0], y * size[1], x * size[2])).clipped(labels.shape)
        if box is not None:
            yield box


def _block_shape(shape: Triple, chunks: Triple | None, grow: bool) -> Triple:
    """Return one chunk, or a part of it if it is huge; with `grow` chunks along x, then y, then z, as many as fit."""
    size = [min(c, n) for c, n in zip(chunks or (1, 1, 1), shape, strict=True)]
    while math.prod(size) > _CHUNK_VOXELS:
        longest = size.index(max(size))
        size[longest] = -(-size[longest] // 2)
    for axis in (2, 1, 0) if grow else ():
        size[axis] = min(shape[axis], size[axis] * max(1, _BLOCK_VOXELS // math.prod(size)))
    return size[0], size[1], size[2]


def filled_boxes(labels: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return first and last voxel of boxes outside which all is 0, two arrays of shape (N, 3); None if unknown."""
    level = labels.levels[0]
    if isinstance(level.source, Sparse):
        return level.source.filled()
    if isinstance(level.source, zarr.Array) and not Location.parse(labels.uri).is_remote:
        return _stored_chunks(level, level.source)
    return None


def _stored_chunks(level: Level, array: zarr.Array[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return first and last voxel of each chunk that is on disk, along z, y, x; None if missing ones are not 0."""
    if array.fill_value is not None and array.fill_value != 0:
        return None

    async def names() -> list[str]:
        return [name async for name in array.store.list_prefix(f"{array.path}/" if array.path else "")]

    prefix = len(array.path)
    numbers = [re.findall(r"\d+", name[prefix:]) for name in sync(names())]
    indices = np.array([number for number in numbers if len(number) == array.ndim], np.int64).reshape(-1, array.ndim)
    axes = [level.axes.index(axis) for axis in "zyx"]
    size = np.array(array.shards or array.chunks)[axes]
    first = indices[:, axes] * size
    return first.astype(np.float64), (first + size - 1).astype(np.float64)


def _touched(low: NDArray[np.float64], high: NDArray[np.float64], size: Triple, shape: Triple) -> NDArray[np.int64]:
    """Return the blocks of a grid that boxes (first voxel, last voxel) touch, as indices (N, 3) in order."""
    last_block = (np.array(shape) - 1) // size
    first, last = (np.floor(ends / size).clip(0, last_block).astype(np.int64) for ends in (low, high))
    counts = last - first + 1
    total = counts.prod(axis=1)
    box = np.repeat(np.arange(len(total)), total)
    number = np.arange(len(box)) - np.repeat(np.cumsum(total) - total, total)
    _, rows, columns = counts[box].T
    steps = np.stack([number // (rows * columns), number // columns % rows, number % columns], axis=1)
    blocks: NDArray[np.int64] = np.unique(first[box] + steps, axis=0)
    return blocks
