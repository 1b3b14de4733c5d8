"""An uncompressed array inside a file, read piece by piece.

Not a memory map: a map counts every page the kernel brings along (hundreds of MB for one crop of a wide volume),
and a file that another program cuts off under a map kills the process.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FlatFile:
    """A lazy array of raw values that lie one after the other in an open file.

    Parameters
    ----------
    file : binary file
        Open for reading; shared between threads, and closed when this array is no longer used.
    offset : int
        Bytes before the first value.
    shape : tuple of int
        Extent of each axis.
    dtype : dtype
        Type of a value, with the byte order of the file.
    fortran_order : bool
        Whether the first axis runs fastest.

    Raises
    ------
    ValueError
        If the file is shorter than the array.
    """

    def __init__(
        self, file: IO[bytes], offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, fortran_order: bool = False
    ) -> None:
        weakref.finalize(self, file.close)
        self.shape, self.dtype = shape, dtype
        self._file, self._offset, self._lock = file, offset, threading.Lock()
        self._reversed = fortran_order
        wanted = offset + math.prod(shape) * dtype.itemsize
        there = file.seek(0, 2)
        if there < wanted:
            raise ValueError(f"the file holds {there} bytes, the array needs {wanted}")

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read a part; `index` is a slice with step 1 or an integer for every axis."""
        parts = [slice(part, part + 1) if isinstance(part, int) else part for part in index]
        bounds = [part.indices(n)[:2] for part, n in zip(parts, self.shape, strict=True)]
        shape = self.shape
        if self._reversed:
            bounds, shape = bounds[::-1], shape[::-1]
        block = self._read(bounds, shape)
        if self._reversed:
            block = block.T
        return block[tuple(0 if isinstance(part, int) else slice(None) for part in index)]

    def _read(self, bounds: list[tuple[int, int]], shape: tuple[int, ...]) -> NDArray[Any]:
        """Read a block of a C-ordered array: for each place on the leading axes, one run of whole rows."""
        if len(shape) == 1:
            return self._run(bounds[0][0], bounds[0][1] - bounds[0][0])
        *leading, (y0, y1), (x0, x1) = bounds
        width = shape[-1]
        block = np.empty([max(0, stop - start) for start, stop in bounds], self.dtype)
        if block.size == 0:
            return block
        for place in itertools.product(*(range(*bound) for bound in leading)):
            row = int(np.ravel_multi_index((*place, y0), shape[:-1]))
            target = tuple(p - start for p, (start, _) in zip(place, leading, strict=True))
            block[target] = self._run(row * width, (y1 - y0) * width).reshape(-1, width)[:, x0:x1]
        return block

    def _run(self, first: int, count: int) -> NDArray[Any]:
        with self._lock:
            self._file.seek(self._offset + first * self.dtype.itemsize)
            data = self._file.read(count * self.dtype.itemsize)
        if len(data) < count * self.dtype.itemsize:
            raise ValueError("the file has become shorter")
        return np.frombuffer(data, self.dtype)
