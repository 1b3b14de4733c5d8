"""Labels to affinities: which pairs of voxels belong together, and of which pairs that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.errors import AnnotationError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Offset = tuple[int, int, int]  # voxels, z y x

DEFAULT_OFFSETS: tuple[Offset, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def known_affinities(
    labels: NDArray[Any], offsets: Sequence[Offset] = DEFAULT_OFFSETS, boundary_id: int | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each pair (p, p + offset) whether it lies in one neuron, and whether that is known.

    A pair is known if both voxels are labelled, or if one of them is boundary, whatever the other is: the
    boundary is linked to nothing, not even to itself. A pair that reaches past the array is not known.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        0 is unlabelled, `boundary_id` is membrane or outside, any other number is one neuron.
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel.
    boundary_id : int, optional
        The id that stands for membrane or outside. 0 means dense ground truth in which 0 is background: then
        every pair inside the array is known.

    Returns
    -------
    target : ndarray of bool, shape (C, Z, Y, X)
        True where p and p + offset belong to the same neuron; False wherever `mask` is.
    mask : ndarray of bool, shape (C, Z, Y, X)
        True where the pair is known.

    Raises
    ------
    AnnotationError
        If `labels` has not three axes, or no integers.
    ConfigError
        If there is no offset, or one is (0, 0, 0).

    Notes
    -----
    Channel order and direction are those of TokenUnify, waterz and bioimage-cpp. TokenUnify itself takes the
    first plane of each channel for known and joined; here nothing is known across the edge.
    """
    _check(labels, offsets)
    boundary = np.zeros_like(labels, bool) if boundary_id is None else labels == boundary_id
    labelled = labels != 0
    neuron = labelled & ~boundary
    target = np.zeros((len(offsets), *labels.shape), bool)
    mask = np.zeros_like(target)
    for channel, offset in enumerate(offsets):
        here, there = pair_slices(labels.shape, offset)
        joined, known = target[channel][here], mask[channel][here]
        np.equal(labels[here], labels[there], out=joined)
        joined &= neuron[here]
        np.logical_and(labelled[here], labelled[there], out=known)
        if boundary_id is not None:
            known |= boundary[here]
            known |= boundary[there]
    return target, mask


def widen_borders(labels: NDArray[Any], boundary_id: int = 0) -> NDArray[Any]:
    """Return labels in which voxels next to another neuron in their section have become boundary.

    A voxel of a neuron whose 3x3 window in its section holds more than one neuron becomes `boundary_id`.
    Neurons that touched without a membrane between them are two voxels apart afterwards. This is TokenUnify's
    `if_dilate` (data/data_segmentation.py), where the boundary is 0.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Ids, none negative; 0 and `boundary_id` are no neurons and stay as they are.
    boundary_id : int
        What the voxels at borders become.

    Returns
    -------
    ndarray of int, shape (Z, Y, X)
        A copy in the data type of `labels`.

    Raises
    ------
    AnnotationError
        If `labels` has not three axes, or no integers that can hold `boundary_id`.
    """
    _check(labels)
    limit = np.iinfo(labels.dtype).max
    if not 0 <= boundary_id <= limit:
        raise AnnotationError(f"The boundary id {boundary_id} does not fit into labels of type {labels.dtype}.")
    neuron = (labels != 0) & (labels != boundary_id)
    largest = _window(np.where(neuron, labels, 0), np.maximum)
    smallest = _window(np.where(neuron, labels, limit), np.minimum)
    return np.where(neuron & (largest != smallest), labels.dtype.type(boundary_id), labels)


def offset_reach(offsets: Sequence[Offset]) -> tuple[Offset, Offset]:
    """Return how far the offsets reach along z, y, x: downwards (numbers <= 0) and upwards (numbers >= 0)."""
    table = np.array([(0, 0, 0), *offsets])
    (z0, y0, x0), (z1, y1, x1) = table.min(axis=0).tolist(), table.max(axis=0).tolist()
    return (z0, y0, x0), (z1, y1, x1)


def pair_slices(shape: tuple[int, ...], offset: Offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the index of every p of an array for which p + offset is inside, and the index of those p + offset."""
    here = tuple(slice(min(n, max(0, -o)), max(0, n - max(0, o))) for n, o in zip(shape, offset, strict=True))
    there = tuple(slice(min(n, max(0, o)), max(0, n - max(0, -o))) for n, o in zip(shape, offset, strict=True))
    return here, there


def _check(labels: NDArray[Any], offsets: Sequence[Offset] = DEFAULT_OFFSETS) -> None:
    if labels.ndim != 3 or labels.dtype.kind not in "ui":
        raise AnnotationError(
            f"Labels are integers with the axes z, y, x; these have the shape {labels.shape} and the type "
            f"{labels.dtype}: convert them first."
        )
    if not offsets or any(len(offset) != 3 or not any(offset) for offset in offsets):
        raise ConfigError(f"The offsets {list(offsets)} cannot be used: give at least one z,y,x, none of them 0,0,0.")


def _window(labels: NDArray[Any], pick: np.ufunc) -> NDArray[Any]:
    """Return the largest or smallest id in each 3x3 window of a section (SciPy's filters round large ids)."""
    for axis in (1, 2):
        result = labels.copy()
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        pick(result[lower], labels[upper], out=result[lower])
        pick(result[upper], labels[lower], out=result[upper])
        labels = result
    return labels
