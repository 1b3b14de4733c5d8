"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from napari_tokenunify.errors import ModelError, TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole_file(path: Path, error: type[TokenUnifyError] = ModelError) -> Iterator[Path]:
    """Write a file under another name, and give it its own once it is whole and on the disk.

    Until then a file of that name stays as it was, whatever happens: an error, a kill, a power cut. What a kill left
    behind is overwritten the next time. One process at a time may write a file.

    Parameters
    ----------
    path : Path
        The file to make or replace; its folder is made if missing.
    error : type
        What to raise.

    Yields
    ------
    Path
        Where to write, beside `path`.

    Raises
    ------
    TokenUnifyError
        Of the type `error`, if it cannot be written, e.g. because the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode  # that of any new file here; some writers make files for their owner alone
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as cause:  # torch and safetensors have their own for a full disk
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{path}: cannot be written ({reason}); what was there before is still there.") from cause
    finally:
        with suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk; Windows does so by itself and opens no folders."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
