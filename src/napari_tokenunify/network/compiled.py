"""How loops are compiled: with Numba, and kept on disk for the next process."""

from __future__ import annotations

from typing import Any

import numba


def compiled(function: Any, *signature: Any, **options: Any) -> Any:
    """Compile a function so that it needs no interpreter lock, and keep it where a folder for it can be written.

    Parameters
    ----------
    function : callable
        What Numba can compile.
    *signature
        A Numba signature, to compile it at once; without one it is compiled when it is first called.
    **options
        Further ones of `numba.njit`.
    """
    njit: Any = numba.njit
    try:
        return njit(*signature, nogil=True, cache=True, **options)(function)
    except RuntimeError:  # "no locator available": nowhere to write
        return njit(*signature, nogil=True, **options)(function)
