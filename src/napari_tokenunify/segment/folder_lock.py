"""Keep a second run out of the folder that one is at work in."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_tokenunify.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock goes with the process, so a kill leaves none behind.

    Parameters
    ----------
    folder : Path
        Must be there. Where folders cannot be locked, nothing is done.

    Raises
    ------
    SegmentError
        If another run is at work there.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """Return a handle that holds the lock until it is closed; None on Windows and on file systems without locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise SegmentError(f"{folder}: another run is at work there; wait until it has ended, or stop it.") from error
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
