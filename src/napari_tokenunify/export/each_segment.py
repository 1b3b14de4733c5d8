"""A file for each segment, in a folder that says how it was made."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.export.content import KEY, Segments
from napari_tokenunify.export.resume import Finished
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content

PROVENANCE: Final = "provenance.json"


def segments_of(content: Content) -> Segments:
    """Return a Content as segments.

    Raises
    ------
    ExportError
        If it is an array.
    """
    if not isinstance(content, Segments):
        raise ExportError(f"{content.name}: this format is made of a segmentation, not of an array.")
    return content


def whole_segments(content: Content) -> Segments:
    """Return a Content as segments that are not cut.

    Raises
    ------
    ExportError
        If it is an array, or a part of a segmentation.
    """
    segments = segments_of(content)
    if segments.box != Box.whole(segments.segmentation.shape):
        raise ExportError(
            "A mesh or a contact is one of whole segments, so a box cannot cut it: name segments instead."
        )
    return segments


def ids_with_voxels(content: Segments) -> NDArray[np.uint64]:
    """Return the segments that have voxels, in ascending order."""
    has_voxels = content.segmentation.boxes[:, 3] > 0
    ids = np.unique(content.table[has_voxels])
    return ids[ids > 0]


def write_each(
    content: Segments, path: Path, suffix: str, encode: Callable[[int], bytes]
) -> Generator[Event, None, None]:
    """Write a mesh for each segment that has voxels; those that an earlier run has written are left as they are.

    Parameters
    ----------
    content : Segments
        Whose segments.
    path : Path
        The folder.
    suffix : str
        Ending of the names.
    encode : callable
        Returns the bytes for a segment.
    """
    write_provenance(content, path, "meshes")
    ids = ids_with_voxels(content)
    finished = Finished(path)
    if len(finished):
        yield Message(f"An earlier run was cut off with {len(finished)} of {len(ids)} files written; this one goes on.")
    for number, segment in enumerate(ids.tolist()):
        yield Progress(number, len(ids), "writing meshes")
        name = f"{segment}{suffix}"
        if name not in finished:
            (path / name).write_bytes(encode(segment))
            finished.add(name)
        content.written[segment] = True
    yield Progress(len(ids), len(ids), "writing meshes")


def write_provenance(content: Segments, path: Path, files: str) -> None:
    """Write how the files in a folder were made, and what they are: meshes or skeletons."""
    part = path / f".{PROVENANCE}"
    part.write_text(json.dumps({KEY: {**content.provenance, "files": files}}, indent=1), encoding="utf-8")
    os.replace(part, path / PROVENANCE)  # noqa: PTH105 - over one that may be there


def is_made_of(path: Path, files: str) -> bool:
    """Return whether a folder says that it holds such files of ours."""
    return bool(json.loads((path / PROVENANCE).read_text(encoding="utf-8"))[KEY]["files"] == files)
