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
