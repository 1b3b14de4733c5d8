"""Augmentations that move voxels: the same on image and labels, so affinities made afterwards are right.

Everywhere: `image` is float32 in 0..1, `labels` integers, both (Z, Y, X); the results have the same shape and
types, lie in C order, and may be the input itself where there is nothing to do. Where a voxel's content would
come from outside the crop, the image is reflected and the label is 0, unlabelled; so a boundary needs an id of
its own here, not 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import BSpline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Crop = tuple[NDArray[np.float32], NDArray[Any]]

_SPACING = 32.0  # voxels between the knots of the elastic field, in y and x
_SPACING_Z = 16.0  # the same in z, in sections


def flip(image: NDArray[np.float32], labels: NDArray[Any], axis: int) -> Crop:
    """Mirror along one axis: 0 is z, 1 is y, 2 is x."""
    return np.ascontiguousarray(np.flip(image, axis)), np.ascontiguousarray(np.flip(labels, axis))


def transpose(image: NDArray[np.float32], labels: NDArray[Any]) -> Crop:
    """Swap y and x; a crop that is not square in xy stays as it is."""
    if image.shape[1] != image.shape[2]:
        return image, labels
    return np.ascontiguousarray(image.swapaxes(1, 2)), np.ascontiguousarray(labels.swapaxes(1, 2))


def rotate(
    image: NDArray[np.float32], labels: NDArray[Any], rng: np.random.Generator, *, isotropic: bool = False
) -> Crop:
    """Turn by 90, 180 or 270 degrees; only by 180 in a plane that is not square, as the shape must stay.

    Parameters
    ----------
    image, labels : ndarray, shape (Z, Y, X)
        As the module says.
    rng : numpy.random.Generator
        Draws the plane and the angle.
    isotropic : bool
        Whether voxels are as long in z as in y and x: then any of the three planes is turned, else only xy.
    """
    planes = ((1, 2), (0, 1), (0, 2))
    plane = planes[rng.integers(3 if isotropic else 1)]
    square = image.shape[plane[0]] == image.shape[plane[1]]
    turns = int(rng.integers(1, 4)) if square else 2
    return np.ascontiguousarray(np.rot90(image, turns, plane)), np.ascontiguousarray(np.rot90(labels, turns, plane))


def thicken(image: NDArray[np.float32], labels: NDArray[Any], rng: np.random.Generator, *, most: int = 4) -> Crop:
    """Merge neighbouring sections, as if the stack had been cut k times as thick.

    Sections are taken in groups of k, from 2 to `most`, with a random start. All sections of a group show the
    same image: their mean, as a transmission microscope sees a thick section, or the middle one, as a scanning
    microscope sees its surface (one or the other for the whole crop, by chance). They also get the same labels,
    so that no border is asked for which the image cannot show: those of the middle section, or of the nearest
    to it that holds any label, so that sparsely painted sections are not lost.
    """
    count = image.shape[0]
    size = int(rng.integers(2, most + 1))
    start = int(rng.integers(size))
    mean = bool(rng.integers(2))
    painted = np.flatnonzero(labels.any(axis=(1, 2)))
    image_out, labels_out = np.empty_like(image, order="C"), np.empty_like(labels, order="C")
    for first in range(-start, count, size):
        group = range(max(first, 0), min(first + size, count))
        middle = group[len(group) // 2]
        here = slice(group.start, group.stop)
        image_out[here] = image[here].mean(axis=0) if mean else image[middle]
        known = painted[(painted >= group.start) & (painted < group.stop)]
        labels_out[here] = labels[known[np.argmin(np.abs(known - middle))]] if known.size else 0
    return image_out, labels_out


def elastic(
    image: NDArray[np.float32], labels: NDArray[Any], rng: np.random.Generator, *, displacement: float = 8.0
) -> Crop:
    """Bend every section smoothly in its plane; the bend changes slowly from section to section.

    The displacement is a cubic B-spline with random coefficients on a coarse grid. No voxel moves by more than
    `displacement` voxels along y or x (most by a fifth of it), and the grid is never finer than four times that,
    so tissue is never torn or folded. The image is read by linear interpolation, labels from the nearest voxel.

    A cheaper form of the deformation of Ronneberger et al., U-Net (2015); in the plane only, as for serial
    sections in the CREMI challenge.
    """
    spacing = max(_SPACING, 4 * displacement)
    depth, height, width = image.shape
    by_z, by_y, by_x = _weights(depth, _SPACING_Z), _weights(height, spacing), _weights(width, spacing)
    shape = (by_z.shape[1], 2, by_y.shape[1], by_x.shape[1])
    knots = rng.uniform(-displacement, displacement, shape).astype(np.float32)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    image_out, labels_out = np.empty_like(image, order="C"), np.empty_like(labels, order="C")
    for z, (move_y, move_x) in enumerate(np.tensordot(by_z, knots, 1)):
        y, x = rows + by_y @ move_y @ by_x.T, columns + by_y @ move_x @ by_x.T
        image_out[z] = _read_linear(image[z], y, x)
        labels_out[z] = _read_nearest(labels[z], y, x)
    return image_out, labels_out


def slip(image: NDArray[np.float32], labels: NDArray[Any], rng: np.random.Generator, *, shift: int = 8) -> Crop:
    """Move one section in its plane by 1 to `shift` voxels, as a section that was aligned badly."""
    z = int(rng.integers(image.shape[0]))
    return _moved(image, labels, slice(z, z + 1), _draw_shift(rng, shift))


def translate(image: NDArray[np.float32], labels: NDArray[Any], rng: np.random.Generator, *, shift: int = 8) -> Crop:
    """Move a random section and all after it in their plane by 1 to `shift` voxels, as a jump of the stage.

    Slip and translation are the two misalignments of Lee et al., Superhuman accuracy on the SNEMI3D
    connectomics challenge (2017).
    """
    if image.shape[0] < 2:
        return image, labels
    z = int(rng.integers(1, image.shape[0]))
    return _moved(image, labels, slice(z, None), _draw_shift(rng, shift))


def _draw_shift(rng: np.random.Generator, most: int) -> tuple[int, int]:
    """Draw (y, x) from all shifts of at most `most` voxels along each axis but (0, 0)."""
    side = 2 * most + 1
    index = int(rng.integers(side**2 - 1))
    y, x = divmod(index + (index >= side**2 // 2), side)
    return y - most, x - most


def _moved(image: NDArray[np.float32], labels: NDArray[Any], sections: slice, shift: tuple[int, int]) -> Crop:
    """Move `sections` by `shift` (y, x) voxels."""
    image, labels = image.copy(), labels.copy()
    for array in (image, labels):
        moved = array[sections]
        for axis, by in ((1, shift[0]), (2, shift[1])):
            moved = moved.take(_reflect(np.arange(array.shape[axis]) - by, array.shape[axis]), axis)
        array[sections] = moved
    outside_y, outside_x = (slice(by, None) if by < 0 else slice(by) for by in shift)
    labels[sections, outside_y] = 0
    labels[sections, :, outside_x] = 0
    return image, labels


def _reflect(position: NDArray[Any], size: int) -> NDArray[Any]:
    """Mirror positions at the first and the last voxel of an axis."""
    last = size - 1
    reflected: NDArray[Any] = np.clip(last - np.abs(last - np.abs(position)), 0, last)
    return reflected


def _weights(size: int, spacing: float) -> NDArray[np.float32]:
    """Return how much each knot counts at each voxel of an axis: (size, knots), rows sum to 1."""
    cells = int(np.ceil(size / spacing))
    knots = np.arange(-3, cells + 4) * spacing
    weights: NDArray[np.float32] = BSpline.design_matrix(np.arange(size), knots, 3).toarray().astype(np.float32)
    return weights


def _read_linear(section: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read a section between its pixels. Three times as fast as SciPy's `map_coordinates`."""
    height, width = section.shape
    y, x = _reflect(y, height), _reflect(x, width)
    padded = np.pad(section, (0, 1), mode="edge").ravel()  # so that each pixel has a right and a lower neighbour
    top, left = y.astype(np.intp), x.astype(np.intp)
    index = top * (width + 1) + left
    down, right = y - top.astype(np.float32), x - left.astype(np.float32)
    upper: NDArray[np.float32] = padded.take(index)
    lower = padded[width + 1 :].take(index)
    upper += (padded[1:].take(index) - upper) * right
    lower += (padded[width + 2 :].take(index) - lower) * right
    upper += (lower - upper) * down
    return upper


def _read_nearest(section: NDArray[Any], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[Any]:
    """Read the nearest pixel of a section, 0 outside it."""
    height, width = section.shape
    row, column = np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    read: NDArray[Any] = section.ravel().take(_reflect(row, height) * width + _reflect(column, width))
    read[~inside] = 0
    return read
