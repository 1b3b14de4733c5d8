"""Affinities on disk as arrays that napari can show: boundaries in grey, the channels in colour.

Plain arrays and not dask: napari keeps what dask has computed, and these change while a prediction writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BoundaryView:
    """A (z, y, x) uint8 array: 255 where an affinity is 0; 0 where nothing was predicted yet.

    Parameters
    ----------
    affinities : array
        (C, Z, Y, X), uint8 or float16 in 0..1; a zarr array.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, affinities: Any) -> None:
        self._affinities = affinities
        self.shape: tuple[int, int, int] = tuple(affinities.shape[1:])

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Read a part; `index` as of an array."""
        parts = index if isinstance(index, tuple) else (index,)
        read = as_bytes(self._affinities[(slice(None), *parts)])
        return np.where(read.any(axis=0), 255 - read.min(axis=0), 0).astype(np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return self[:].astype(dtype or self.dtype, copy=False)


class ColourView:
    """A (z, y, x, 3) uint8 array: the affinities along z, y and x as red, green and blue.

    Parameters
    ----------
    affinities : array
        (C, Z, Y, X) with three channels or more, of which the first three are shown.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, affinities: Any) -> None:
        self._affinities = affinities
        self.shape: tuple[int, int, int, int] = (*tuple(affinities.shape[1:]), 3)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Read a part; `index` as of an array, the colours last."""
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(part for part in parts if part is not Ellipsis)
        space, colour = parts[:3], parts[3:]
        read = np.moveaxis(as_bytes(self._affinities[(slice(0, 3), *space)]), 0, -1)
        chosen: NDArray[np.uint8] = read[(..., *colour)] if colour else read
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return self[:].astype(dtype or self.dtype, copy=False)


def as_bytes(affinities: NDArray[Any]) -> NDArray[np.uint8]:
    """Return affinities as 0..255."""
    if affinities.dtype == np.uint8:
        return affinities
    return np.rint(np.clip(affinities.astype(np.float32), 0, 1) * 255).astype(np.uint8)
