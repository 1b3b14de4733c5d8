"""Synthetic electron microscopy of neuropil with exact labels: for tests, the demo and the sample menu.

What is made is random but not noise: branching neurites of 50 to 1000 nm fill space, with membranes, mitochondria,
microtubules, vesicles and synapses, seen as the face of a milled block (FIB-SEM) or as thin sections (ssTEM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import label as connected_parts

from napari_tokenunify.data.labelled_zarr import write_labelled
from napari_tokenunify.data.neuropil.anatomy import voxelise
from napari_tokenunify.data.neuropil.appearance import BLOCK_FACE, THIN_SECTION, Tissue, photograph
from napari_tokenunify.data.neuropil.chance import Dice
from napari_tokenunify.data.neuropil.growth import grow_neuropil
from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

SMALLEST_NEURON = 100  # voxels

_SLICE_NM = 13.0  # a section shows all it holds: several slices of at most this thickness


@dataclass(frozen=True, eq=False)
class SyntheticEM:
    """A volume and what is in it.

    Attributes
    ----------
    raw : ndarray of uint8, shape (Z, Y, X)
        Grey values; membranes are dark.
    labels : ndarray of uint32, shape (Z, Y, X)
        Neurons 1 .. N. Every voxel has one; two neurons meet in the middle of their membrane. Each is one part,
        connected through the faces of voxels, of 100 voxels or more.
    voxel_size_nm : tuple of float
        (z, y, x) in nm.
    """

    raw: NDArray[np.uint8]
    labels: NDArray[np.uint32]
    voxel_size_nm: VoxelSize


def synthetic_em(
    shape: Triple = (64, 256, 256),
    voxel_size_nm: VoxelSize = (10.0, 10.0, 10.0),
    seed: int = 0,
    misalignment_nm: float | None = None,
) -> SyntheticEM:
    """Make a volume of neuropil; the same numbers give the same bytes on every machine.

    Time and memory grow with the physical size and with the number of voxels: 64x256x256 voxels of 10 nm take about
    3 s on one core and 200 MB.

    Parameters
    ----------
    shape : tuple of int
        Voxels, (z, y, x).
    voxel_size_nm : tuple of float
        (z, y, x) in nm. Where z is 2.5 times x or more it looks like thin sections in a transmission microscope:
        structures are blurred along z, and sections differ in brightness, contrast and position. Else it looks like
        a block milled and imaged face by face.
    seed : int
        0 or more; another seed makes other tissue.
    misalignment_nm : float, optional
        Each section is shifted by up to this much along y and x, its labels with it. Default: 10 for thin sections,
        0 else.

    Returns
    -------
    SyntheticEM
        Raw uint8 and labels uint32, both (Z, Y, X).

    Raises
    ------
    ConfigError
        If a size is not positive, or the seed or the misalignment is negative.
    """
    thin = voxel_size_nm[0] >= 2.5 * voxel_size_nm[2]
    if misalignment_nm is None:
        misalignment_nm = 10.0 if thin else 0.0
    _check(shape, voxel_size_nm, seed, misalignment_nm)
    style = THIN_SECTION if thin else BLOCK_FACE
    slices = math.ceil(voxel_size_nm[0] / _SLICE_NM) if thin else 1
    slip = [round(misalignment_nm / size) for size in voxel_size_nm[1:]]
    fine_shape = (shape[0] * slices, shape[1] + 2 * slip[0], shape[2] + 2 * slip[1])
    fine_size = (voxel_size_nm[0] / slices, voxel_size_nm[1], voxel_size_nm[2])
    z, y, x = (n * size for n, size in zip(fine_shape, fine_size, strict=True))
    block = grow_neuropil((z, y, x), Dice(seed, 1))
    anatomy = voxelise(block, fine_shape, fine_size)
    dice = Dice(seed, 2)
    tissue = Tissue(block, anatomy, fine_size, style, dice)
    offsets = [(dice.integer(2 * slip[0] + 1), dice.integer(2 * slip[1] + 1)) for _ in range(shape[0])]
    raw = photograph(tissue, slices, offsets, shape[1:], dice)
    middle = anatomy.label[slices // 2 :: slices]
    labels = np.stack([s[a : a + shape[1], b : b + shape[2]] for s, (a, b) in zip(middle, offsets, strict=True)])
    return SyntheticEM(raw, _neurons(labels), voxel_size_nm)


def write_sample(folder: Path, sample: SyntheticEM) -> Path:
    """Write a volume as OME-Zarr 0.5, its labels under `labels/neurons`; all of it or nothing.

    Parameters
    ----------
    folder : Path
        What to create, e.g. `tissue.zarr`.
    sample : SyntheticEM
        What to write.

    Returns
    -------
    Path
        `folder`; `open_volume(folder)` reads the raw data, `open_volume(f"{folder}::labels/neurons")` the labels.

    Raises
    ------
    VolumeError
        If something is there already, or it cannot be written.
    """
    return write_labelled(folder, sample.raw, sample.labels, sample.voxel_size_nm)


def _check(shape: Triple, voxel_size_nm: VoxelSize, seed: int, misalignment_nm: float) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"{shape} is no shape of a volume: give three positive numbers of voxels, z, y, x.")
    if len(voxel_size_nm) != 3 or not all(0 < size < math.inf for size in voxel_size_nm):
        raise ConfigError(f"{voxel_size_nm} is no voxel size: give three positive numbers of nm, z, y, x.")
    if seed < 0:
        raise ConfigError(f"{seed} is no seed: give 0 or a positive whole number.")
    if not 0 <= misalignment_nm < math.inf:
        raise ConfigError(f"{misalignment_nm} nm is no misalignment: give 0 or a positive number.")


# -- one neuron, one part -------------------------------------------------------------------------------------


def _neurons(labels: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Give each connected part a number of its own, and specks to their neighbours."""
    parts: NDArray[np.int64] = connected_parts(  # type: ignore[no-untyped-call]
        labels, background=-1, connectivity=1
    ).astype(np.int64)
    while (merged := _heirs(parts)) is not None:
        parts = merged[parts]
    first = np.full(parts.max() + 1, parts.size)
    first[parts.ravel()[::-1]] = np.arange(parts.size)[::-1]  # the last assignment counts: where each part begins
    order = np.argsort(first, kind="stable")
    number = np.zeros(len(first), np.uint32)
    number[order] = np.arange(1, len(first) + 1)
    return number[parts]


def _heirs(parts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return what each part becomes, a speck the larger neighbour that it touches most; None where all stay."""
    size = np.bincount(parts.ravel())
    speck = (size > 0) & (size < SMALLEST_NEURON)
    if not speck.any():
        return None
    pairs = []
    for axis in range(parts.ndim):
        a, b = (np.moveaxis(parts, axis, 0)[cut] for cut in (slice(None, -1), slice(1, None)))
        touching = (a != b) & (speck[a] | speck[b])
        pairs += [(a[touching], b[touching]), (b[touching], a[touching])]
    own, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    smaller = speck[own] & ((size[own] < size[other]) | ((size[own] == size[other]) & (own < other)))
    keys, contact = np.unique(own[smaller] * len(size) + other[smaller], return_counts=True)
    heir = np.arange(len(size))
    for key, _ in sorted(zip(keys.tolist(), contact.tolist(), strict=True), key=lambda pair: (pair[1], -pair[0])):
        heir[key // len(size)] = key % len(size)
    while not np.array_equal(heir, heir[heir]):
        heir = heir[heir]
    return heir if len(keys) else None
