"""How freed memory is kept for the next tensor: a network on a CPU asks for hundreds of megabytes a second."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST: Final = 32 << 20  # more glibc does not take
_KEPT: Final = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GB of freed memory instead of giving it back to the system at once.

    Memory that comes anew from the system is emptied and mapped page by page, a tenth of the time of a forward pass of
    `base` in bfloat16. For processes that only compute: one with a window should leave its memory to others.

    Returns
    -------
    bool
        Whether it was done: only the C library of most Linux systems, glibc, can.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _KEPT))
