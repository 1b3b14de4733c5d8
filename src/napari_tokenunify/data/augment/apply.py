"""Which augmentations a training crop goes through, how likely, how strong, and in which order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from napari_tokenunify.config import Config
from napari_tokenunify.data.augment import geometric, intensity
from napari_tokenunify.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import VoxelSize

    Crop = tuple[NDArray[np.float32], NDArray[Any]]
    Step = tuple[float, Callable[[NDArray[np.float32], NDArray[Any], np.random.Generator], Crop]]

Probability = Annotated[float, Field(ge=0, le=1)]

THICKEST_NM = 60.0  # simulated sections are not cut thicker: nobody could follow a neurite through them
_ISOTROPIC = 1.1  # longest to shortest side of a voxel that still counts as a cube


class AugmentConfig(Config):
    """How training crops are varied. Each chance is drawn for each crop; 0 switches an augmentation off.

    The defaults suit fine-tuning on few annotations: cheap symmetries always in play, grey values changed in
    most crops, and each defect of real stacks in about one crop of ten.
    """

    flip: Probability = 0.5
    """Chance to mirror along z, y and x, drawn for each axis; largest variety at 0.5."""
    rotate: Probability = 0.5
    """Chance to turn by 90, 180 or 270 degrees in xy, and in the other planes where voxels are cubes; larger
    means fewer crops keep the direction in which they were imaged."""
    transpose: Probability = 0.5
    """Chance to swap y and x; largest variety at 0.5."""
    thicken: Probability = 0.1
    """Chance to merge neighbouring sections into thicker ones; larger prepares better for anisotropic stacks
    and costs sharpness along z. Only where the voxel size is known and the result stays below 60 nm."""
    thicken_sections: int = Field(4, ge=2, le=16)
    """Largest number of sections merged into one; larger makes coarser steps along z."""
    elastic: Probability = 0.4
    """Chance to bend the sections smoothly; larger gives more variety of shapes and takes more time."""
    elastic_displacement: float = Field(8.0, gt=0, le=64)
    """How far a voxel moves at most, in voxels; larger bends more strongly. Most move by a fifth of it."""
    slip: Probability = 0.1
    """Chance that one section is shifted in its plane; larger makes the network trust neighbouring sections less."""
    translation: Probability = 0.1
    """Chance that all sections after a random one are shifted; larger prepares better for jumps in a stack."""
    misalignment: int = Field(8, ge=1, le=64)
    """Largest shift of slip and translation along y and x, in voxels; larger makes jumps harder to follow and
    leaves less of the crop labelled."""
    blur: Probability = 0.15
    """Chance that some sections are out of focus; larger makes the network rely less on fine detail."""
    blur_sigma: float = Field(2.0, gt=0, le=10)
    """Strongest blur, in pixels; larger hides thinner membranes."""
    section_contrast: Probability = 0.2
    """Chance that each section gets its own contrast, brightness and gamma, half as strong as for the whole crop;
    larger prepares better for stacks that flicker."""
    volume_contrast: Probability = 0.5
    """Chance that contrast, brightness and gamma of the whole crop change; larger makes the network less
    dependent on the stain and the microscope."""
    contrast_strength: float = Field(0.2, ge=0, lt=1)
    """Contrast changes by a factor of up to 1 plus or minus this; larger gives flatter and harsher images."""
    brightness_strength: float = Field(0.1, ge=0, le=1)
    """Largest shift of the grey values, where black is 0 and white 1; larger gives darker and lighter images."""
    gamma_strength: float = Field(0.5, ge=0, le=3)
    """Gamma changes by a factor of up to 2 to the power of this; larger spreads or squeezes dark tones more."""
    noise: Probability = 0.25
    """Chance of added noise; larger prepares better for fast, noisy scans."""
    noise_sigma: float = Field(0.1, gt=0, le=1)
    """Strongest noise, as a standard deviation where white is 1; larger drowns more of the membranes."""
    saturate: Probability = 0.05
    """Chance that some sections are nearly black or white; larger makes the network rely more on the
    neighbouring sections."""
    missing: Probability = 0.1
    """Chance that some sections are lost; larger makes the network better at bridging gaps."""
    missing_keep_labels: bool = True
    """Whether the network is asked to predict lost sections from their neighbours; no: they are unlabelled."""
    section_share: float = Field(0.1, gt=0, le=0.5)
    """Largest share of a crop's sections that are blurred, saturated or lost; larger spoils more of them."""


def augment(
    image: NDArray[np.float32],
    labels: NDArray[Any],
    rng: np.random.Generator,
    config: AugmentConfig,
    voxel_size_nm: VoxelSize | None = None,
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return a changed copy of a crop and its labels; compute affinities afterwards.

    The order is fixed: flip (z, y, x), rotate, transpose; then along the final z what a knife and an alignment
    do: thicken, elastic, slip, translation; then what a microscope does: blur, contrast per section, contrast of
    the volume, noise, saturated sections; last, lost sections.

    Parameters
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1; not changed.
    labels : ndarray of int, shape (Z, Y, X)
        0 is unlabelled, any other number a neuron or the boundary; not changed.
    rng : numpy.random.Generator
        Same state, same result. It advances by the same amount whatever is drawn, and each augmentation has
        random numbers of its own, so switching one off leaves the others as they were.
    config : AugmentConfig
        Chances and strengths.
    voxel_size_nm : tuple of float, optional
        (z, y, x) of the crop. Unknown counts as anisotropic: turned in xy only, sections never thickened.

    Returns
    -------
    image : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1, C order.
    labels : ndarray, shape (Z, Y, X)
        In the data type of the input, C order; 0 also where content came from outside the crop.

    Raises
    ------
    AnnotationError
        If image and labels have not the same three axes.
    """
    if image.ndim != 3 or image.shape != labels.shape:
        raise AnnotationError(
            f"Image and labels of a crop need the same shape (z, y, x), not {image.shape} and {labels.shape}: "
            "cut both with the same box."
        )
    crop = np.array(image, np.float32, order="C"), np.array(labels, order="C")
    steps = _steps(config, voxel_size_nm)
    for (probability, change), seed in zip(steps, rng.integers(1 << 63, size=len(steps)), strict=True):
        own = np.random.default_rng(seed)
        if own.random() < probability:
            crop = change(*crop, own)
    return np.clip(crop[0], 0, 1), crop[1]


def _steps(config: AugmentConfig, voxel_size_nm: VoxelSize | None) -> tuple[Step, ...]:
    """Return chance and function of each augmentation, in order."""
    c = config
    isotropic = voxel_size_nm is not None and max(voxel_size_nm) <= _ISOTROPIC * min(voxel_size_nm)
    most = 0 if voxel_size_nm is None else min(c.thicken_sections, int(THICKEST_NM / voxel_size_nm[0]))
    grey = {"contrast": c.contrast_strength, "brightness": c.brightness_strength, "gamma": c.gamma_strength}
    flicker = {name: 0.5 * strength for name, strength in grey.items()}
    return (
        (c.flip, lambda image, labels, _: geometric.flip(image, labels, 0)),
        (c.flip, lambda image, labels, _: geometric.flip(image, labels, 1)),
        (c.flip, lambda image, labels, _: geometric.flip(image, labels, 2)),
        (c.rotate, partial(geometric.rotate, isotropic=isotropic)),
        (c.transpose, lambda image, labels, _: geometric.transpose(image, labels)),
        (c.thicken if most >= 2 else 0.0, partial(geometric.thicken, most=most)),
        (c.elastic, partial(geometric.elastic, displacement=c.elastic_displacement)),
        (c.slip, partial(geometric.slip, shift=c.misalignment)),
        (c.translation, partial(geometric.translate, shift=c.misalignment)),
        (c.blur, _grey(intensity.blur_sections, sigma=c.blur_sigma, share=c.section_share)),
        (c.section_contrast, _grey(intensity.change_contrast, per_section=True, **flicker)),
        (c.volume_contrast, _grey(intensity.change_contrast, **grey)),
        (c.noise, _grey(intensity.add_noise, sigma=c.noise_sigma)),
        (c.saturate, _grey(intensity.saturate_sections, share=c.section_share)),
        (c.missing, partial(intensity.lose_sections, share=c.section_share, keep_labels=c.missing_keep_labels)),
    )


def _grey(change: Callable[..., NDArray[np.float32]], **strength: float) -> Callable[..., Crop]:
    """Let a change of grey values pass the labels on."""
    return lambda image, labels, rng: (change(image, rng, **strength), labels)
