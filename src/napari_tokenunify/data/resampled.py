"""Volumes and annotations at another voxel size than they are stored with; nothing is read before it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.data.label_blocks import filled_boxes
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.geometry import Box, Triple, VoxelSize, as_triple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations

_MOST_VOXELS: Final = 1 << 25  # of the stored ones at once


@dataclass(frozen=True)
class Resampling:
    """From voxels of one size to voxels of another; the corner of the first voxel stays where it is.

    Attributes
    ----------
    before, after : tuple of float
        Voxel sizes (z, y, x) in nm.
    """

    before: VoxelSize
    after: VoxelSize

    @property
    def factors(self) -> VoxelSize:
        """How many voxels from before one from after is long, (z, y, x)."""
        z, y, x = (new / old for new, old in zip(self.after, self.before, strict=True))
        return z, y, x

    @property
    def back(self) -> Resampling:
        """The way back."""
        return Resampling(self.after, self.before)

    def shape(self, shape: Triple) -> Triple:
        """Return how many voxels (z, y, x) an array of `shape` has after; at least one."""
        z, y, x = (max(1, round(n / by)) for n, by in zip(shape, self.factors, strict=True))
        return z, y, x

    def box(self, box: Box, shape: Triple) -> Box:
        """Return the voxels from after that cover a box from before; `shape` (z, y, x) is that of all after."""
        start, stop = [], []
        for low, high, by, n in zip(box.start, box.stop, self.factors, shape, strict=True):
            start.append(min(math.floor(low / by), n - 1))
            stop.append(max(min(math.ceil(high / by), n), start[-1] + 1))
        return Box(as_triple(start), as_triple(stop))

    def needed(self, box: Box, shape: Triple) -> Box:
        """Return the voxels from before that `values` needs for a box from after; `shape` is that of all before."""
        start, stop = [], []
        for low, high, by, n in zip(box.start, box.stop, self.factors, shape, strict=True):
            reach = max(by, 1.0)
            start.append(min(max(0, math.floor((low + 0.5) * by - reach)), n - 1))
            stop.append(max(min(math.ceil((high - 0.5) * by + reach), n), start[-1] + 1))
        return Box(as_triple(start), as_triple(stop))

    def values(self, values: NDArray[Any], given: Box, wanted: Box) -> NDArray[np.float32]:
        """Return grey values or affinities in a box from after.

        Linear between voxels; where it gets coarser, a mean weighted by a triangle, as torch's antialiasing has it.

        Parameters
        ----------
        values : ndarray, shape (..., Z, Y, X)
            In the box `given`, in voxels from before.
        given, wanted : Box
            Where `values` lie, and what is asked for; voxels before and after.
        """
        found = np.nan_to_num(np.asarray(values, np.float32), nan=0.0)  # one NaN would spread over all
        for axis, factor in enumerate(self.factors):
            there, here = ((box.start[axis], box.stop[axis]) for box in (given, wanted))
            if factor != 1 or there != here:
                found = np.moveaxis(np.tensordot(_weights(there, here, factor), found, (1, axis - 3)), 0, axis - 3)
        return np.ascontiguousarray(found)


def resampled(volume: Volume, how: Resampling) -> Volume:
    """Return an image at another voxel size, as float32; see `Resampling.values`.

    Parameters
    ----------
    volume : Volume
        Its voxels are taken to be of the size `how.before`.
    how : Resampling
        From which size to which.
    """
    return _seen(volume, _Grey(volume, how), how)


def resampled_annotations(annotations: Annotations, how: Resampling) -> Annotations:
    """Return annotations at another voxel size.

    A new voxel has the id at its middle. Where nothing is known there, it has the one id that it holds elsewhere, so
    that thin strokes do not break; with two ids it stays unknown.
    """
    labels = annotations.labels
    view = _Ids(labels, how, spread=not annotations.zero_is_boundary)
    return replace(annotations, labels=_seen(labels, view, how))


def _seen(volume: Volume, view: Any, how: Resampling) -> Volume:
    return replace(Volume.from_array(view, how.after, volume.uri), origin_nm=volume.origin_nm)


class _Grey:
    """What an image is read from: three slices in, voxels of another volume out."""

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, volume: Volume, how: Resampling) -> None:
        self.volume, self.how = volume, how
        self.shape = how.shape(volume.shape)
        self.chunks = None if volume.chunks is None else _chunks(volume.chunks, how)

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[np.float32]:
        wanted = _box(index, self.shape)
        given = self.how.needed(wanted, self.volume.shape)
        return self.how.values(self.volume.read(given), given, wanted)


class _Ids:
    """What labels are read from."""

    ndim = 3

    def __init__(self, volume: Volume, how: Resampling, *, spread: bool) -> None:
        self.volume, self.how, self.spread = volume, how, spread
        self.dtype = volume.dtype
        self.shape = how.shape(volume.shape)
        self.chunks = None if volume.chunks is None else _chunks(volume.chunks, how)

    def filled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return first and last voxel of boxes outside which there are no labels; None if that is not known."""
        if (found := filled_boxes(self.volume)) is None:
            return None
        low, high = found
        return low / self.how.factors, (high + 1) / self.how.factors

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[Any]:
        wanted = _box(index, self.shape)
        lines = [
            _Line.of(low, high, by, old, new)
            for low, high, by, old, new in zip(
                wanted.start, wanted.stop, self.how.factors, self.volume.shape, self.shape, strict=True
            )
        ]
        start, stop = (as_triple([line.span[end] for line in lines]) for end in (0, 1))
        block = self.volume.read(Box(start, stop))
        ids = block[np.ix_(*(line.middles - line.span[0] for line in lines))]
        if not self.spread or ids.all() or not block.any():
            return ids
        largest, least = block, np.where(block == 0, np.iinfo(block.dtype).max, block)
        for axis, line in enumerate(lines):
            largest, least = line.reduced(largest, np.maximum, axis), line.reduced(least, np.minimum, axis)
        return np.where((ids == 0) & (largest == least), largest, ids)


@dataclass(frozen=True, eq=False)
class _Line:
    """Which old voxels some new ones take along an axis.

    Attributes
    ----------
    middles : ndarray of int64, shape (N,)
        The old voxel at the middle of each.
    edges : ndarray of int64, shape (N + 1,), or None
        The old voxels whose middles lie in new voxel i are edges[i] to edges[i + 1] - 1; each lies in exactly one. None
        where new voxels are no longer than old ones.
    span : tuple of int
        First old voxel of all, and the one past the last.
    """

    middles: NDArray[np.int64]
    edges: NDArray[np.int64] | None
    span: tuple[int, int]

    @classmethod
    def of(cls, low: int, high: int, factor: float, old: int, new: int) -> _Line:
        """Return that of the new voxels low to high - 1, of `new` that are made of `old`."""
        middles = np.minimum(((np.arange(low, high) + 0.5) * factor).astype(np.int64), old - 1)
        if factor <= 1:
            return cls(middles, None, (int(middles[0]), int(middles[-1]) + 1))
        edges = np.ceil(np.arange(low, high + 1) * factor - 0.5).astype(np.int64).clip(0, old)
        if high == new:
            edges[-1] = old
        return cls(middles, edges, (min(int(edges[0]), int(middles[0])), max(int(edges[-1]), int(middles[-1]) + 1)))

    def reduced(self, block: NDArray[Any], how: np.ufunc, axis: int) -> NDArray[Any]:
        """Reduce the old voxels of each new one along an axis."""
        first = self.span[0]
        if self.edges is None:
            return np.take(block, self.middles - first, axis)
        inside = np.take(block, np.arange(self.edges[0] - first, self.edges[-1] - first), axis)
        found: NDArray[Any] = how.reduceat(inside, self.edges[:-1] - self.edges[0], axis)
        return found


def _chunks(chunks: Triple, how: Resampling) -> Triple:
    """Return what is worth reading at once: a chunk, or a part of it if it is huge."""
    size = list(how.shape(chunks))
    while math.prod(size) * math.prod(how.factors) > _MOST_VOXELS and max(size) > 1:
        longest = size.index(max(size))
        size[longest] = -(-size[longest] // 2)
    return as_triple(size)


def _box(index: tuple[slice, slice, slice], shape: Triple) -> Box:
    spans = [part.indices(n)[:2] for part, n in zip(index, shape, strict=True)]
    return Box(as_triple([low for low, _ in spans]), as_triple([high for _, high in spans]))


def _weights(given: tuple[int, int], wanted: tuple[int, int], factor: float) -> NDArray[np.float32]:
    """Return what each given voxel adds to each wanted one along an axis, shape (wanted, given); rows sum to 1."""
    there = np.arange(*given) + 0.5
    middles = ((np.arange(*wanted) + 0.5) * factor).clip(there[0], there[-1])
    weights = np.maximum(0, 1 - np.abs(there - middles[:, None]) / max(factor, 1.0))
    shares: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
