"""HDF5 in the layout of CREMI: `volumes/labels/neuron_ids` or `volumes/raw`, with the resolution and the offset."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Final

import h5py

from napari_tokenunify.events import Progress
from napari_tokenunify.export.content import KEY

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from typing_extensions import Buffer

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content

LABELS: Final = "volumes/labels/neuron_ids"
RAW: Final = "volumes/raw"
_CHUNK: Final = (32, 128, 128)


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write a CREMI file: gzip, `resolution` and `offset` in nm (z, y, x).

    Parameters
    ----------
    content : Content
        What to write.
    path : Path
        The file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    grid = content.grid()
    with Disk(path, "w+") as disk:
        with h5py.File(disk, "w") as file:
            dataset = _create(file, content)
            for block in grid:
                yield Progress(block.index, len(grid), "writing")
                dataset[block.core.slices] = content.read(block.core)
                file.flush()
                disk.check()
        disk.check()
    yield Progress(len(grid), len(grid), "writing")


def is_ours(path: Path) -> bool:
    """Whether a file is one that `write` made."""
    with h5py.File(path, "r") as file:
        return any(name in file and KEY in file[name].attrs for name in (LABELS, RAW))


def _create(file: h5py.File, content: Content) -> h5py.Dataset:
    file.attrs["file_format"] = "0.2"  # of CREMI
    dataset = file.create_dataset(
        LABELS if content.is_labels else RAW,
        shape=content.shape,
        dtype=content.dtype,
        chunks=tuple(min(chunk, n) for chunk, n in zip(_CHUNK, content.shape, strict=True)),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    if content.voxel_size_nm is not None:
        dataset.attrs["resolution"] = content.voxel_size_nm
        dataset.attrs["offset"] = content.start
    dataset.attrs[KEY] = json.dumps(content.provenance)
    return dataset


class Disk(io.FileIO):
    """A file that keeps an error of writing to itself until it is asked: the HDF5 library crashes at a full disk."""

    _failed: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Write all of it, or take note that the disk is full."""
        view = memoryview(data).cast("B")
        rest = view
        while len(rest) and self._failed is None:
            try:
                rest = rest[super().write(rest) or 0 :]
            except OSError as error:
                self._failed = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or take note that it cannot be."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failed = self._failed or error
            return size or 0

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def check(self) -> None:
        """Say what went wrong."""
        if self._failed is not None:
            raise self._failed
