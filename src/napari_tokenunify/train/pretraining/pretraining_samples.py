"""Samples of pre-training: crops of any number of volumes, at one voxel size, perturbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.augment.perturbation import PerturbConfig, perturb
from napari_tokenunify.data.crops import CropSampler
from napari_tokenunify.data.resampled import Resampling, resampled
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.geometry import Triple, VoxelSize


@dataclass(frozen=True, eq=False)
class PretrainingSample:
    """One crop.

    Attributes
    ----------
    clean : ndarray of float32, shape (Z, Y, X)
        Grey values in 0..1.
    perturbed : ndarray of float32, shape (Z, Y, X)
        The same, perhaps with noise, blurred or with boxes cut out.
    number : int
        Decides, with the seed, what is hidden.
    box : Box
        Where it lies in the part of its volume.
    """

    clean: NDArray[np.float32]
    perturbed: NDArray[np.float32]
    number: int
    box: Box


@dataclass(frozen=True, eq=False)
class PretrainingSamples:
    """An endless list: `samples[i]` depends on the arguments and `i` only, whoever asks in which order.

    Parameters
    ----------
    parts : sequence of Volume
        Parts of volumes; see `part_of`.
    intensities : sequence of IntensityRange
        How the voxels of each become 0..1.
    weights : sequence of float
        How often each is drawn, in proportion.
    crop : tuple of int
        Voxels (z, y, x) of a crop.
    perturbations : PerturbConfig
        How crops are perturbed.
    seed : int
        Another one gives other crops.
    """

    parts: Sequence[Volume]
    intensities: Sequence[IntensityRange]
    weights: Sequence[float]
    crop: Triple
    perturbations: PerturbConfig
    seed: int = 0

    def __getitem__(self, index: int, /) -> PretrainingSample:
        """Make sample number `index`; boxes whose image is blank are drawn again."""
        rng = np.random.default_rng((self.seed, index, 2))  # apart from the numbers that draw the box
        which = int(rng.choice(len(self.parts), p=np.array(self.weights) / np.sum(self.weights)))
        sampler = CropSampler(self.parts[which], None, self.crop, self.intensities[which], seed=self.seed)
        found = sampler[index]
        return PretrainingSample(found.image, perturb(found.image, rng, self.perturbations), index, found.box)


def part_of(volume: Volume, sections: tuple[int, int], voxel_size_nm: VoxelSize | None = None) -> Volume:
    """Return some sections of a volume, at another voxel size if one is given; nothing is read before it is asked for.

    Parameters
    ----------
    volume : Volume
        Its voxel size must be known if another one is asked for.
    sections : tuple of int
        First, and first not to be included.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm of the result: crops are resampled as they are read.
    """
    view: Any = _Sections(volume, sections)
    part = Volume.from_array(view, volume.voxel_size_nm, volume.uri)
    if voxel_size_nm is None or volume.voxel_size_nm is None:
        return part
    return resampled(part, Resampling(volume.voxel_size_nm, voxel_size_nm))


class _Sections:
    """What a Volume reads from: three slices in, voxels of some sections of another volume out."""

    ndim = 3
    chunks = None

    def __init__(self, volume: Volume, sections: tuple[int, int]) -> None:
        self.volume, self.first = volume, sections[0]
        self.dtype = volume.dtype
        self.shape = (sections[1] - sections[0], *volume.shape[1:])

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[Any]:
        (z0, z1), (y0, y1), (x0, x1) = (part.indices(n)[:2] for part, n in zip(index, self.shape, strict=True))
        return self.volume.read(Box((z0, y0, x0), (z1, y1, x1)).shifted((self.first, 0, 0)))
