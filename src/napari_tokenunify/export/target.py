"""Where an export goes: made beside its place under a hidden name, and given its own name once it is whole."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from napari_tokenunify.errors import ExportError, SegmentError
from napari_tokenunify.export import resume
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment.folder_lock import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def check_target(path: Path, is_ours: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Refuse to write over what is there, unless it is an export of the same kind and that is wanted.

    Parameters
    ----------
    path : Path
        Where the export is to go.
    is_ours : callable
        Returns whether what is there is an export of this package, of the same kind.
    overwrite : bool
        Whether it may be replaced.

    Raises
    ------
    ExportError
        If it may not.
    """
    if not path.exists():
        return
    if not overwrite:
        raise ExportError(f"{path}: is there already; choose another name, or allow to overwrite it (--overwrite).")
    try:
        ours = is_ours(path)
    except Exception:  # noqa: BLE001 - whatever a reader finds wrong with it, it is none of ours
        ours = False
    if not ours:
        raise ExportError(
            f"{path}: is there already and is no such export of napari-tokenunify, so it is not overwritten; choose "
            "another name, or delete it yourself."
        )


@contextmanager
def whole_export(path: Path, *, is_folder: bool, fingerprint: str | None = None) -> Iterator[Path]:
    """Give a name under which to write, and bring what is written to its place once all of it is there.

    What was at the place before stays until then. If writing fails or is left off nothing is left. What a kill left
    behind is gone on with the next time, if the fingerprint is the same, else it goes.

    Parameters
    ----------
    path : Path
        The file or folder to make or replace; its parent folder is made if missing.
    is_folder : bool
        Whether it is a folder: then one is there, empty or with what `resume.Finished` lists.
    fingerprint : str, optional
        Stands for all that decides about the bytes that are written; without one, a folder is always begun anew.

    Raises
    ------
    ExportError
        If it cannot be written, e.g. because the disk is full, or another process is writing it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        if part.is_file():  # left by a version that had no folder for a file
            part.unlink()
        part.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(part))
            except SegmentError as error:
                raise ExportError(f"{path}: another process is writing it; wait, or choose another name.") from error
            try:
                if fingerprint is None or not is_folder or not resume.goes_on(part, fingerprint):
                    _empty(part)
                    if fingerprint is not None and is_folder:
                        resume.begin(part, fingerprint)
                if is_folder:
                    yield part
                    resume.end(part)
                    _replace(path, part)
                else:
                    with whole_file(path, ExportError, within=part) as file:
                        yield file
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise ExportError(f"{path}: cannot be written ({reason}); make room or choose another place.") from error


def _empty(folder: Path) -> None:
    for entry in list(folder.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _replace(path: Path, part: Path) -> None:
    """Put a folder in the place of another; a kill at the worst moment leaves both, the old one with `.old`."""
    if not path.exists():
        part.rename(path)
        return
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        with suppress(OSError):
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
