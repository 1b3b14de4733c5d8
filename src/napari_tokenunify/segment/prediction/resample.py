"""Resampling of tiles on their device: what `data.resampled.Resampling` does to arrays, for batches of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.geometry import Triple


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
