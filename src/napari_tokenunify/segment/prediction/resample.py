"""Resampling of tiles: from the volume's voxels to those that the network was trained on, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.geometry import Triple, VoxelSize


def resampled_shape(shape: Triple, before: VoxelSize, after: VoxelSize) -> Triple:
    """Return how many voxels of the size `after` a tile of `shape` voxels of the size `before` has."""
    z, y, x = (max(1, round(n * a / b)) for n, a, b in zip(shape, before, after, strict=True))
    return z, y, x


def resample(values: Tensor, shape: Triple) -> Tensor:
    """Bring (B, C, D, H, W) to another `shape` (D, H, W) of the same extent.

    Linear between voxels; where it gets coarser, a mean over all voxels that fall into the new one, weighted by a
    triangle (torch's antialiasing), so that no section is left out.
    """
    batch, channels, depth, height, width = values.shape
    if (height, width) != shape[1:]:
        flat = values.reshape(batch * channels, depth, height, width)
        flat = functional.interpolate(flat, shape[1:], mode="bilinear", antialias=True)
        values = flat.reshape(batch, channels, depth, *shape[1:])
    if depth != shape[0]:
        lines = values.reshape(batch, channels, depth, shape[1] * shape[2])
        lines = functional.interpolate(lines, (shape[0], lines.shape[-1]), mode="bilinear", antialias=True)
        values = lines.reshape(batch, channels, *shape)
    return values


def mismatch(volume: VoxelSize | None, network: VoxelSize | None) -> str | None:
    """Return a sentence if the voxel sizes (z, y, x in nm) differ by more than a fifth on an axis, or one is unknown.

    Parameters
    ----------
    volume : tuple of float or None
        That of the volume.
    network : tuple of float or None
        That of the network's training.
    """
    if volume is None:
        return "The volume's voxel size is unknown, so it is taken as it is; give --voxel-size if you know it."
    if network is None:
        return "The voxel size that the network was trained at is unknown, so the volume is taken as it is."
    if all(1 / 1.2 <= v / n <= 1.2 for v, n in zip(volume, network, strict=True)):
        return None
    here, there = ("x".join(f"{size:g}" for size in sizes) for sizes in (volume, network))
    return f"The volume has voxels of {here} nm (z y x), but the network was trained at {there} nm"
