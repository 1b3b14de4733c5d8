"""Coarser levels of an image: the most frequent id of each window, or the mean of grey values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

_SMALLEST: Final = 64  # voxels: a level no larger than this along every axis is the last


def level_steps(shape: Triple, voxel_size_nm: VoxelSize | None) -> list[Triple]:
    """Return how much coarser each level is than the one before, (z, y, x), 1 or 2 each.

    An axis is halved where its voxels are the finest, so that they become cubes; all are, once they are.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x) voxels of the finest level.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm; cubes are assumed if it is unknown.
    """
    size = list(voxel_size_nm or (1.0, 1.0, 1.0))
    steps: list[Triple] = []
    while max(shape) > _SMALLEST:
        finest = min(s for s, n in zip(size, shape, strict=True) if n > 1)
        z, y, x = (2 if n > 1 and s < 1.5 * finest else 1 for s, n in zip(size, shape, strict=True))
        steps.append((z, y, x))
        size = [s * f for s, f in zip(size, (z, y, x), strict=True)]
        shape = coarser(shape, (z, y, x))
    return steps


def coarser(shape: Triple, step: Triple) -> Triple:
    """Return the shape of the next level; a window that is cut off at the end counts."""
    z, y, x = (-(-n // f) for n, f in zip(shape, step, strict=True))
    return z, y, x


def majority(block: NDArray[Any], step: Triple) -> NDArray[Any]:
    """Return the most frequent id of each window of `step` voxels.

    Of ids that are equally frequent a neuron wins over 0, so that thin processes last, and then the smaller id.

    Parameters
    ----------
    block : ndarray of integers, shape (Z, Y, X)
        Ids.
    step : tuple of int
        1 or 2 along each axis.

    Returns
    -------
    ndarray, shape (ceil(Z / step), ...)
        In the type of `block`.
    """
    first, *others = _windows(block, step)
    mixed = np.zeros(first.shape, bool)
    for window in others:
        mixed |= window != first
    winners = first.copy()
    winners[mixed] = _elected([window[mixed] for window in (first, *others)])
    return winners


def mean(block: NDArray[Any], step: Triple) -> NDArray[Any]:
    """Return the mean of each window of `step` voxels, rounded for integers.

    Parameters
    ----------
    block : ndarray, shape (Z, Y, X)
        Grey values.
    step : tuple of int
        1 or 2 along each axis.

    Returns
    -------
    ndarray, shape (ceil(Z / step), ...)
        In the type of `block`.
    """
    windows = _windows(block, step)
    kind = np.float32 if block.dtype.itemsize <= 2 else np.float64
    total = np.zeros(windows[0].shape, kind)
    for values in windows:
        total += values
    total /= len(windows)
    rounded = np.floor(total + 0.5) if block.dtype.kind in "ui" else total
    means: NDArray[Any] = rounded.astype(block.dtype)
    return means


def _elected(windows: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the most frequent id at each place."""
    votes = [np.ones(windows[0].shape, np.uint8) for _ in windows]
    for one, other in itertools.combinations(range(len(windows)), 2):
        same = windows[one] == windows[other]
        votes[one] += same
        votes[other] += same
    best, most = windows[0].copy(), _weight(votes[0], windows[0])
    for ids, count in zip(windows[1:], votes[1:], strict=True):
        weight = _weight(count, ids)
        better = (weight > most) | ((weight == most) & (ids < best))
        np.copyto(best, ids, where=better)
        np.copyto(most, weight, where=better)
    return best


def _weight(votes: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what decides: the votes, and of equally many those for a neuron."""
    weight: NDArray[np.uint8] = votes * np.uint8(2) + (ids != 0)
    return weight


def _windows(block: NDArray[Any], step: Triple) -> list[NDArray[Any]]:
    """Return a view for each place in a window: its voxel in every window.

    Of a window that is cut off at the end what is there counts twice, which changes neither mean nor majority.
    """
    missing = [(0, -n % f) for n, f in zip(block.shape, step, strict=True)]
    whole = np.pad(block, missing, mode="edge") if any(after for _, after in missing) else block
    places = itertools.product(*map(range, step))
    return [whole[a :: step[0], b :: step[1], c :: step[2]] for a, b, c in places]
