"""Augmentations that change grey values and leave every voxel in its place.

Everywhere: `image` is float32 in 0..1, (Z, Y, X); the result is a new array of the same kind, clipped to 0..1.
Section-wise defects hit at most a given share of the sections, at least one, and never two neighbours, so that
a network always has the next section to go by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray


def change_contrast(
    image: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    contrast: float = 0.2,
    brightness: float = 0.1,
    gamma: float = 0.5,
    per_section: bool = False,
) -> NDArray[np.float32]:
    """Change contrast, brightness and gamma, for the whole crop or for each section on its own.

    Parameters
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1.
    rng : numpy.random.Generator
        Draws the three numbers, each evenly from minus to plus its limit.
    contrast : float
        Limit of c; distances from mid-grey are multiplied by 1 + c.
    brightness : float
        Limit of what is added to each voxel.
    gamma : float
        Limit of g; the result is raised to the power of 2**g.
    per_section : bool
        Whether each section draws its own numbers.
    """
    size = (image.shape[0] if per_section else 1, 1, 1)
    factor, offset, exponent = (
        rng.uniform(-limit, limit, size).astype(np.float32) for limit in (contrast, brightness, gamma)
    )
    changed = (image - np.float32(0.5)) * (1 + factor) + (offset + np.float32(0.5))
    return np.power(_clipped(changed), np.exp2(exponent))


def add_noise(image: NDArray[np.float32], rng: np.random.Generator, *, sigma: float = 0.1) -> NDArray[np.float32]:
    """Add Gaussian noise, independent in each voxel, of a strength drawn from 0 to `sigma` (white is 1)."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(0, sigma))
    noise += image
    return _clipped(noise)


def blur_sections(
    image: NDArray[np.float32], rng: np.random.Generator, *, sigma: float = 2.0, share: float = 0.1
) -> NDArray[np.float32]:
    """Blur some sections, as if out of focus, each by a Gaussian of `sigma` / 3 to `sigma` pixels."""
    image = image.copy()
    for z in _draw_sections(rng, image.shape[0], share):
        image[z] = gaussian_filter(image[z], rng.uniform(sigma / 3, sigma), mode="mirror")
    return image


def saturate_sections(
    image: NDArray[np.float32], rng: np.random.Generator, *, share: float = 0.1
) -> NDArray[np.float32]:
    """Make some sections nearly black or nearly white, with a faint rest of their structure.

    Stain precipitate, a charging specimen or a wrong exposure: contrast shrinks to a tenth up to a half, the mean
    goes near one end of the scale, and what would lie beyond is lost.
    """
    image = image.copy()
    for z in _draw_sections(rng, image.shape[0], share):
        level = rng.uniform(0.0, 0.15)
        level = 1 - level if rng.integers(2) else level
        image[z] = level + rng.uniform(0.1, 0.5) * (image[z] - image[z].mean())
    return _clipped(image)


def lose_sections(
    image: NDArray[np.float32],
    labels: NDArray[Any],
    rng: np.random.Generator,
    *,
    share: float = 0.1,
    keep_labels: bool = True,
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Replace some sections by black or by the mean grey of the crop, as sections that were lost.

    Parameters
    ----------
    image, labels : ndarray, shape (Z, Y, X)
        A crop.
    rng : numpy.random.Generator
        Draws the sections, and for each whether it is black or grey.
    share : float
        Largest share of sections that is lost.
    keep_labels : bool
        True: labels stay, and the network learns to bridge the gap. False: a lost section is unlabelled.
    """
    grey = image.mean()
    image, labels = image.copy(), labels.copy()
    for z in _draw_sections(rng, image.shape[0], share):
        image[z] = grey if rng.integers(2) else 0
        if not keep_labels:
            labels[z] = 0
    return image, labels


def _draw_sections(rng: np.random.Generator, count: int, share: float) -> NDArray[np.intp]:
    """Draw 1 up to `share` * `count` sections of which no two are neighbours."""
    most = min(max(1, round(share * count)), (count + 1) // 2)
    number = int(rng.integers(1, most + 1))
    # Distinct places among count - number + 1, then spread by one each: all choices without neighbours, evenly.
    places = np.sort(rng.choice(count - number + 1, number, replace=False))
    return places + np.arange(number)


def _clipped(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip in place to 0..1, which the network expects."""
    return np.clip(image, 0, 1, out=image)
