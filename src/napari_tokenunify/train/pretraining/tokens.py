"""Tokens: a crop cut into small boxes in an order, and what of them is predicted at once, the unit.

The order decides what comes before what; the unit decides how much comes at a time. Both are only bookkeeping: voxels
become tokens and tokens voxels again without any change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional

from napari_tokenunify.errors import TrainError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokenunify.geometry import Triple

Order = Literal["raster", "hilbert", "near-to-far"]
Unit = Literal["token", "cell", "spread", "scale"]


@dataclass(frozen=True)
class TokenGrid:
    """How a crop is cut into tokens.

    Crops of any size go: where the last token along an axis would reach past the crop it holds fewer voxels. (A crop
    that had to be a multiple would be refused in thin volumes, and where memory makes crops smaller on the way.)

    Parameters
    ----------
    crop : tuple of int
        Voxels (z, y, x) of the crop.
    token : tuple of int
        Voxels (z, y, x) of a token; the official code has 4, 16, 16.
    order : {"raster", "hilbert", "near-to-far"}
        Raster goes along x, then y, then z. Hilbert's curve stays among neighbours: where the grid is no cube of a
        power of two, it leaves out what lies outside. Near-to-far goes by the distance from a point, in voxels.
    near : tuple of float
        That point (z, y, x), as a share of the crop; the default is the middle.
    """

    crop: Triple
    token: Triple = (4, 16, 16)
    order: Order = "raster"
    near: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def shape(self) -> Triple:
        """Tokens along (z, y, x)."""
        z, y, x = (-(-n // size) for n, size in zip(self.crop, self.token, strict=True))
        return z, y, x

    @property
    def count(self) -> int:
        """Number of tokens."""
        return math.prod(self.shape)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Place (z, y, x) in the grid of each token in raster order, shape (count, 3)."""
        return np.stack(np.unravel_index(np.arange(self.count), self.shape), axis=1).astype(np.int64)

    @cached_property
    def sequence(self) -> NDArray[np.int64]:
        """Raster number of the first token in the order, of the second, and so on, shape (count,)."""
        if self.order == "raster":
            return np.arange(self.count)
        if self.order == "hilbert":
            return np.argsort(hilbert_number(self.places, max(self.shape)))
        middle = (self.places + 0.5) * self.token
        away = np.square(middle - np.array(self.near) * self.crop).sum(axis=1)
        return np.argsort(away, kind="stable")

    def to_tokens(self, voxels: Tensor) -> Tensor:
        """Cut (..., Z, Y, X) into (..., count, z, y, x), in the order; what lies past the crop is 0."""
        lead = voxels.shape[:-3]
        (a, b, c), (z, y, x) = self.shape, self.token
        missing = [n * size - have for n, size, have in zip(self.shape, self.token, self.crop, strict=True)]
        padded = functional.pad(voxels, (0, missing[2], 0, missing[1], 0, missing[0]))
        cut = padded.reshape(-1, a, z, b, y, c, x).permute(0, 1, 3, 5, 2, 4, 6)
        tokens = cut.reshape(*lead, self.count, z, y, x)
        return tokens[..., self._sequence(voxels.device), :, :, :]

    def to_voxels(self, tokens: Tensor) -> Tensor:
        """Put (..., count, z, y, x), in the order, together to (..., Z, Y, X)."""
        lead = tokens.shape[:-4]
        (a, b, c), (z, y, x) = self.shape, self.token
        raster = torch.empty_like(tokens)
        raster[..., self._sequence(tokens.device), :, :, :] = tokens
        joined = raster.reshape(-1, a, b, c, z, y, x).permute(0, 1, 4, 2, 5, 3, 6)
        voxels = joined.reshape(*lead, a * z, b * y, c * x)
        return voxels[..., : self.crop[0], : self.crop[1], : self.crop[2]]

    def voxels_of(self, tokens: NDArray[np.int64], device: torch.device | None = None) -> Tensor:
        """Return which voxels (Z, Y, X) belong to some tokens, given by their raster numbers."""
        chosen = torch.zeros(self.count, dtype=torch.bool, device=device)
        chosen[torch.from_numpy(tokens).to(chosen.device)] = True
        grid = chosen.reshape(self.shape)
        for axis, size in enumerate(self.token):
            grid = grid.repeat_interleave(size, axis)
        return grid[: self.crop[0], : self.crop[1], : self.crop[2]]

    def voxels_at(self, voxels: Tensor, tokens: Tensor) -> Tensor:
        """Return the voxels of some tokens, given by their raster numbers: (Z, Y, X) and (Q,) to (Q, z, y, x)."""
        return TokenGrid(self.crop, self.token).to_tokens(voxels)[tokens]

    def units(self, unit: Unit, size: Triple) -> tuple[NDArray[np.int64], ...]:
        """Return what is predicted one after the other, each as raster numbers of tokens; together all, none twice.

        Parameters
        ----------
        unit : {"token", "cell", "spread"}
            One token; a box of `size` neighbouring tokens; or every `size`-th token (z, y, x), all over the crop.
            ("scale" has no tokens that come first: see `coarser`.)
        size : tuple of int
            Tokens (z, y, x) of a cell, or the step of a spread subsample.

        Raises
        ------
        TrainError
            If there is only one, so that there is nothing to predict it from.
        """
        if unit == "token":
            found = tuple(self.sequence[i : i + 1] for i in range(self.count))
        else:
            which = self.places // size if unit == "cell" else self.places % size
            z, y, x = (which.max(axis=0) + 1).tolist()
            cells = TokenGrid((z, y, x), (1, 1, 1), self.order, self.near)
            number = np.ravel_multi_index(tuple(which.T), cells.shape)
            found = tuple(np.flatnonzero(number == cell) for cell in cells.sequence)
        if len(found) < 2:
            size_of_crop, size_of_token = ("x".join(map(str, each)) for each in (self.crop, self.token))
            raise TrainError(
                f"A crop of {size_of_crop} voxels holds only one {unit} of tokens of {size_of_token}, and nothing to "
                "predict it from: choose a larger --crop or a smaller --token."
            )
        return found

    def _sequence(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.sequence).to(device)


def hilbert_number(places: NDArray[np.int64], extent: int) -> NDArray[np.int64]:
    """Return how far along Hilbert's curve each place lies.

    Parameters
    ----------
    places : ndarray of int, shape (N, axes)
        Coordinates, not negative.
    extent : int
        More than all of them; the curve fills the cube of the next power of two.

    Returns
    -------
    ndarray of int64, shape (N,)
        Different for different places; neighbours on the curve are neighbours in space.

    References
    ----------
    .. [1] Skilling (2004), Programming the Hilbert curve, AIP Conference Proceedings 707.
    """
    x = places.T.astype(np.int64).copy()
    axes, bits = len(x), max(1, int(extent - 1).bit_length())
    for level in reversed(range(1, bits)):
        low = (1 << level) - 1
        for axis in range(axes):
            flip = (x[axis] >> level & 1).astype(bool)
            swapped = np.where(flip, 0, (x[0] ^ x[axis]) & low)
            x[0] = np.where(flip, x[0] ^ low, x[0] ^ swapped)
            x[axis] ^= swapped
    for axis in range(1, axes):
        x[axis] ^= x[axis - 1]
    turned = np.zeros_like(x[0])
    for level in reversed(range(1, bits)):
        turned = np.where(x[-1] >> level & 1, turned ^ (1 << level) - 1, turned)
    x ^= turned
    number: NDArray[np.int64] = np.zeros_like(turned)
    for level in reversed(range(bits)):
        for axis in range(axes):
            number = number << 1 | x[axis] >> level & 1
    return number


def scales(token: Triple, factor: Triple) -> tuple[Triple, ...]:
    """Return by how many voxels (z, y, x) a crop is coarsened, from whole tokens down to no coarsening, (1, 1, 1)."""
    found: list[Triple] = [(1, 1, 1)]
    while True:
        z, y, x = (min(t, have * by) for t, have, by in zip(token, found[-1], factor, strict=True))
        if (z, y, x) == found[-1]:
            break
        found.append((z, y, x))
    if len(found) < 2:
        raise TrainError(
            f"Scales that grow by {factor} give tokens of {token} voxels no coarser scale: choose a larger unit size."
        )
    return tuple(reversed(found))


def means(voxels: Tensor, by: Triple) -> Tensor:
    """Return the mean of each box of `by` (z, y, x) voxels, those at the end cut: (B, C, Z, Y, X), fewer of them."""
    part = [min(size, extent) for size, extent in zip(by, voxels.shape[2:], strict=True)]
    return functional.avg_pool3d(voxels, part, part, ceil_mode=True, count_include_pad=False)


def coarser(voxels: Tensor, by: Triple) -> Tensor:
    """Give all voxels of each box of `by` (z, y, x) voxels their mean: (..., Z, Y, X) to the same shape."""
    shape = voxels.shape[-3:]
    found = means(voxels.reshape(-1, 1, *shape), by)
    for axis, size in enumerate(by, start=2):
        found = found.repeat_interleave(size, axis)
    return found[:, :, : shape[0], : shape[1], : shape[2]].reshape(voxels.shape)
