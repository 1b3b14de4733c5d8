"""Blocks of N5: what one file of a dataset holds, unpacked and checked."""

from __future__ import annotations

import bz2
import lzma
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numcodecs import lz4, zstd

from napari_tokenunify.data.formats.blosc import CheckedBlosc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_LZ4_MAGIC = b"LZ4Block"
_LZ4_FRAME = struct.Struct("<B3I")  # method and level, bytes packed, bytes unpacked, checksum
_LZ4_STORED = 0x10


class _Decompressor(Protocol):
    """The common part of Python's own decompressors."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Decompress at most `max_length` bytes."""


def read_block(content: bytes, compression: str, dtype: np.dtype[Any], limit: tuple[int, ...]) -> NDArray[Any]:
    """Return what the file of one block holds.

    Parameters
    ----------
    content : bytes
        The file.
    compression : str
        A key of `COMPRESSIONS`.
    dtype : numpy.dtype
        Type of an element; stored with the most significant byte first.
    limit : tuple of int
        Largest shape of a block, (..., z, y, x).

    Returns
    -------
    ndarray
        Axes (..., z, y, x); big-endian; at the far edge of a dataset it may be smaller than `limit`.

    Raises
    ------
    ValueError, or what a decompressor raises
        If the block is cut off or damaged. Without a checksum (raw, Blosc, LZ4, mostly Zstandard) single wrong
        values inside go unnoticed.
    """
    header = struct.Struct(f">2H{len(limit)}I")  # mode, number of axes, extent of each: x first
    if len(content) < header.size:
        raise ValueError(f"a block of {len(content)} bytes is cut off")
    mode, ndim, *extent = header.unpack_from(content)
    shape = tuple(reversed(extent))
    if mode != 0 or ndim != len(limit) or not all(1 <= n <= most for n, most in zip(shape, limit, strict=True)):
        raise ValueError(f"a block has a wrong header (mode {mode}, {ndim} axes, shape {shape})")
    expected = math.prod(shape) * dtype.itemsize
    elements = COMPRESSIONS[compression](content[header.size :], expected)
    if len(elements) != expected:
        raise ValueError(f"a block unpacks to {len(elements)} bytes, not {expected}")
    return np.frombuffer(elements, dtype.newbyteorder(">")).reshape(shape)


def _inflate(decompressor: _Decompressor, packed: bytes, expected: int) -> bytes:
    elements = decompressor.decompress(packed, expected + 1)  # one more, so that the end and its checksum are read
    if not decompressor.eof:
        raise ValueError("a compressed block is cut off")
    return elements


def _unpack_lz4(packed: bytes, expected: int) -> bytes:
    """Unpack the frames of Java's LZ4BlockOutputStream, which N5 uses, or the one bare block that z5 writes."""
    if not packed.startswith(_LZ4_MAGIC):
        return bytes(lz4.decompress(struct.pack("<I", expected) + packed))
    parts, at, found = [], 0, 0
    while found < expected:
        if packed[at : at + len(_LZ4_MAGIC)] != _LZ4_MAGIC:
            raise ValueError("an LZ4 block is cut off")
        method, size, unpacked, _ = _LZ4_FRAME.unpack_from(packed, at + len(_LZ4_MAGIC))
        at += len(_LZ4_MAGIC) + _LZ4_FRAME.size
        part = packed[at : at + size]
        if len(part) != size or not 0 < unpacked <= expected - found:
            raise ValueError("an LZ4 block is cut off")
        stored = method & 0xF0 == _LZ4_STORED
        parts.append(part if stored else bytes(lz4.decompress(struct.pack("<I", unpacked) + part)))
        at, found = at + size, found + unpacked
    return b"".join(parts)


COMPRESSIONS: dict[str, Callable[[bytes, int], bytes]] = {
    "raw": lambda packed, _: packed,
    "gzip": lambda packed, size: _inflate(zlib.decompressobj(32 + zlib.MAX_WBITS), packed, size),  # or zlib's header
    "bzip2": lambda packed, size: _inflate(bz2.BZ2Decompressor(), packed, size),
    "xz": lambda packed, size: _inflate(lzma.LZMADecompressor(), packed, size),
    "lz4": _unpack_lz4,
    "blosc": lambda packed, _: bytes(CheckedBlosc().decode(packed)),
    "zstd": lambda packed, _: bytes(zstd.decompress(packed)),
}
