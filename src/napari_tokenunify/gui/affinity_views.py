"""Affinities on disk as arrays that napari can show: boundaries in grey, the channels in colour.

Plain arrays and not dask: napari keeps what dask has computed, and these change while a prediction writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.segment import AffinityStore


class BoundaryView:
    """A (z, y, x) uint8 array: 255 where an affinity is 0; 0 where nothing was predicted yet.

    Parameters
    ----------
    affinities : array
        (C, Z, Y, X), uint8 or float16 in 0..1; a zarr array.
    store : AffinityStore, optional
        Of these affinities: knows which blocks are missing. Without it all are there.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, affinities: Any, store: AffinityStore | None = None) -> None:
        self._affinities, self._store = affinities, store
        self.shape: tuple[int, int, int] = tuple(affinities.shape[1:])

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Read a part; `index` as of an array."""
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(part for part in parts if part is not Ellipsis)
        boundary: NDArray[np.uint8] = 255 - as_bytes(self._affinities[(slice(None), *parts)]).min(axis=0)
        if self._store is not None and not self._store.complete and boundary.size:
            self._darken(boundary, (*parts, *[slice(None)] * (3 - len(parts))), self._store)
        return boundary

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def _darken(self, boundary: NDArray[np.uint8], parts: tuple[Any, ...], store: AffinityStore) -> None:
        """Set to 0 what is not predicted; a boundary that the network is sure of has affinities of 0, too."""
        voxels = [np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, parts, strict=True)]
        z, y, x = ((int(along.min()), int(along.max()) + 1) for along in voxels)
        view = boundary.reshape([len(along) for along in voxels])
        for block in store.missing(Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))):
            bounds = zip(voxels, block.start, block.stop, strict=True)
            view[np.ix_(*[(along >= low) & (along < high) for along, low, high in bounds])] = 0


class ColourView:
    """A (z, y, x, 3) uint8 array: three channels, by custom the affinities along z, y and x, as red, green and blue.

    Parameters
    ----------
    affinities : array
        (C, Z, Y, X).
    first : int
        The channel that is red; a colour without a channel is dark.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, affinities: Any, first: int = 0) -> None:
        self._affinities, self._channels = affinities, slice(first, first + 3)
        self.shape: tuple[int, int, int, int] = (*tuple(affinities.shape[1:]), 3)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Read a part; `index` as of an array, the colours last."""
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(part for part in parts if part is not Ellipsis)
        space, colour = parts[:3], parts[3:]
        read = np.moveaxis(as_bytes(self._affinities[(self._channels, *space)]), 0, -1)
        if read.shape[-1] < 3:
            read = np.concatenate([read, np.zeros((*read.shape[:-1], 3 - read.shape[-1]), np.uint8)], axis=-1)
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
