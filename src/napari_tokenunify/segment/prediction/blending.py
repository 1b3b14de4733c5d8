"""Blending: what a tile adds to each voxel. Where tiles overlap their shares add up to one, in whole numbers.

A voxel's affinity is the weighted mean over the tiles that cover it, with Gaussian weights as MONAI's sliding window
has them. Here the weights are divided by their sum in advance, for each axis by itself: the windows of all tiles then
add up to one everywhere (a partition of unity) and no volume of weights is kept. A share is rounded to an integer, so
a sum is the same whatever the order of its tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.prediction.tiles import TileGrid

WHOLE: Final = 65000
"""An affinity of 1 as a sum of shares; leaves room in 16 bits for the rounding of a thousand tiles."""
_SIGMA: Final = 0.125  # of the tile, MONAI's default


class Windows:
    """The weights of all tiles of a grid; those of a tile are the outer product of one line for each axis.

    Parameters
    ----------
    grid : TileGrid
        The tiles.
    """

    def __init__(self, grid: TileGrid) -> None:
        self._lines = [
            _windows(starts, tile, length)
            for starts, tile, length in zip(grid.starts, grid.tile, grid.shape, strict=True)
        ]

    def __getitem__(self, tile: Triple) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the lines (z, y, x) of a tile, each float64 in 0..1."""
        z, y, x = (lines[i] for lines, i in zip(self._lines, tile, strict=True))
        return z, y, x

    def shares(self, tile: Triple, affinities: Tensor) -> NDArray[np.uint16]:
        """Weight a tile's affinities.

        Parameters
        ----------
        tile : tuple of int
            Which tile (z, y, x).
        affinities : Tensor
            fp32, (C, D, H, W), in 0..1, on any device; overwritten.

        Returns
        -------
        ndarray of uint16, (C, D, H, W)
            Affinity times window times `WHOLE`, rounded: what is added to the sums.
        """
        z, y, x = (torch.from_numpy(line).float().to(affinities.device) for line in self[tile])
        weights = (z * WHOLE)[:, None, None] * (y[:, None] * x)
        whole = affinities.mul_(weights).round_().to(torch.int32).cpu()
        result: NDArray[np.uint16] = whole.numpy().astype(np.uint16)
        return result


def finished(sums: NDArray[np.uint16], dtype: str) -> NDArray[Any]:
    """Turn sums to which all tiles have added into what is stored.

    Parameters
    ----------
    sums : ndarray of uint16
        Sums of shares.
    dtype : {"uint8", "float16"}
        Type to store: affinity times 255, rounded, or the affinity.
    """
    if dtype == "uint8":
        scaled = (sums.astype(np.uint32) * 255 + WHOLE // 2) // WHOLE
        return np.minimum(scaled, 255).astype(np.uint8)
    stored: NDArray[Any] = np.minimum(sums.astype(np.float32) / WHOLE, 1).astype(dtype)
    return stored


def _windows(starts: tuple[int, ...], tile: int, length: int) -> list[NDArray[np.float64]]:
    """Return a line of weights for each tile along an axis; over each position they add up to one."""
    positions = np.arange(tile) - (tile - 1) / 2
    gaussian = np.exp(-0.5 * (positions / (_SIGMA * tile)) ** 2)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += gaussian
    return [gaussian / total[start : start + tile] for start in starts]
