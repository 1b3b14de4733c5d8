"""The perturbations of TokenUnify's pre-training: for each crop noise, blur, cut-out boxes, or none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter

from napari_tokenunify.config import Config

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PerturbConfig(Config):
    """How the crops of pre-training are spoilt; the network has to restore the clean ones."""

    probability: float = Field(0.5, ge=0, le=1)
    """Chance that a crop is perturbed, by one of the kinds below; larger makes the task harder."""
    noise: bool = True
    """Gaussian noise may be chosen."""
    blur: bool = True
    """Gaussian blur of each section may be chosen."""
    cutout: bool = True
    """Black boxes may be chosen."""


def perturb(image: NDArray[np.float32], rng: np.random.Generator, config: PerturbConfig) -> NDArray[np.float32]:
    """Return a copy of a crop, perturbed as in the pre-training of TokenUnify.

    Parameters
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1; not changed.
    rng : numpy.random.Generator
        Draws whether, what and how much.
    config : PerturbConfig
        The chance, and which kinds are allowed.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1, C order.

    Notes
    -----
    Kinds and numbers are those of `utils/consistency_aug_perturbations.py` in the authors' repository dbMiM.
    """
    image = np.array(image, np.float32, order="C")
    kinds = [kind for kind, on in ((_noise, config.noise), (_blur, config.blur), (_cutout, config.cutout)) if on]
    if rng.random() >= config.probability or not kinds:
        return image
    return np.clip(kinds[rng.integers(len(kinds))](image, rng), 0, 1)


def _noise(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    sigma = np.float32(rng.uniform(0.01, 0.2))
    return image + sigma * rng.standard_normal(image.shape, dtype=np.float32)


def _blur(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur each section by the same kernel of 3, 5, 7 or 9 pixels (OpenCV's border is SciPy's "mirror")."""
    radius, sigma = int(rng.integers(1, 5)), rng.uniform(0, 2)
    blurred: NDArray[np.float32] = gaussian_filter(image, sigma, mode="mirror", radius=radius, axes=(1, 2))
    return blurred


def _cutout(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blacken 60 to 100 boxes of one size that lie inside the crop."""
    count, depth, width = (int(rng.integers(low, high, endpoint=True)) for low, high in ((60, 100), (5, 10), (10, 20)))
    size = np.minimum((depth, width, width), image.shape)
    for z, y, x in rng.integers(0, np.array(image.shape) - size, (count, 3), endpoint=True):
        image[z : z + size[0], y : y + size[1], x : x + size[2]] = 0
    return image
