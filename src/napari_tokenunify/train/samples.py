"""Training samples: crops of the annotated volume, changed at random, with the affinities that are known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tokenunify.affinities import known_affinities, widen_borders
from napari_tokenunify.data.annotations import BACKGROUND_ID
from napari_tokenunify.data.augment import AugmentConfig, augment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.crops import CropSampler
    from napari_tokenunify.geometry import Triple


@dataclass(frozen=True, eq=False)
class Sample:
    """One crop as the network gets it.

    Attributes
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1.
    target, mask : ndarray of bool, shape (C, Z, Y, X)
        Which pairs lie in one neuron, and of which that is known.
    """

    image: NDArray[np.float32]
    target: NDArray[np.bool_]
    mask: NDArray[np.bool_]

    @property
    def known(self) -> int:
        """Number of known pairs."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class AffinitySamples:
    """An endless list: `samples[i]` depends on the arguments and `i` only, whoever asks in which order.

    Parameters
    ----------
    crops : CropSampler
        Where crops come from.
    augmentation : AugmentConfig
        How they are changed.
    boundary_id : int or None
        The annotations' own.
    widen : bool
        Take voxels next to another neuron in their section for boundary, as TokenUnify does.
    """

    crops: CropSampler
    augmentation: AugmentConfig
    boundary_id: int | None
    widen: bool = False

    def __getitem__(self, index: int, /) -> Sample:
        """Make sample number `index`."""
        crop = self.crops[index]
        rng = np.random.default_rng((self.crops.seed, index, 1))  # apart from the numbers that drew the box
        image, labels = augment(crop.image, crop.labels, rng, self.augmentation, self.crops.volume.voxel_size_nm)
        target, mask = targets(labels, self.crops.offsets, self.boundary_id, widen=self.widen)
        return Sample(image, target, mask)


def targets(
    labels: NDArray[Any], offsets: Sequence[Triple], boundary_id: int | None, *, widen: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return target and mask of `known_affinities`, after borders were widened if that is wanted."""
    if widen:
        boundary_id = BACKGROUND_ID if boundary_id is None else boundary_id
        labels = widen_borders(labels, boundary_id)
    return known_affinities(labels, offsets, boundary_id)


def augmentation_margin(crop: Triple, config: AugmentConfig) -> Triple:
    """Return how far from a crop's faces what must be seen should lie: where sections slip, edges are lost."""
    z, y, x = (min(most, size // 4) for size, most in zip(crop, (1, *(config.misalignment,) * 2), strict=True))
    return z, y, x


def as_tensors(samples: Sequence[Sample], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stack samples on a device: image (B, 1, D, H, W) fp32, target and mask (B, C, D, H, W) bool."""
    parts = (np.stack([getattr(s, name) for s in samples]) for name in ("image", "target", "mask"))
    image, target, mask = (torch.from_numpy(part).to(device, non_blocking=True) for part in parts)
    return image[:, None], target, mask
