"""Blosc chunks, looked at before they are decoded.

The C library trusts the lengths that a chunk states of itself: from a chunk that is cut off it decodes what lies
behind it in memory, or crashes the interpreter (seen with numcodecs 0.16, c-blosc 1.21).
"""

from __future__ import annotations

import struct
from typing import Any

import numcodecs
from numcodecs.compat import ensure_contiguous_ndarray

_HEADER = struct.Struct("<4B3I")  # version, codec version, flags, type size, bytes unpacked, block size, bytes packed


class CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]  # numcodecs has no types
    """`numcodecs.Blosc` that refuses a chunk which is shorter than it says, before it decodes it.

    Reference: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst.
    """

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk.

        Raises
        ------
        ValueError
            If it is cut off.
        RuntimeError
            If it is damaged in another way that the C library notices.
        """
        packed = ensure_contiguous_ndarray(buf, max_buffer_size=None).view("u1")
        if packed.size < _HEADER.size:
            raise ValueError(f"a Blosc chunk of {packed.size} bytes is cut off")
        stated = _HEADER.unpack_from(packed)[-1]
        if stated > packed.size:
            raise ValueError(f"a Blosc chunk of {stated} bytes is cut off after {packed.size}")
        return super().decode(buf, out)
