"""How this folder compiles loops: with Numba, when first called, kept on disk for the next process."""

from __future__ import annotations

from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """Compile a function so that it needs no interpreter lock, and keep it where a folder for it can be written."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # "no locator available": nowhere to write
        return njit(nogil=True)(function)
