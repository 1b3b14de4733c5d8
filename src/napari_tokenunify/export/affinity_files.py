"""Affinities for other programs: all channels, as stored, in OME-Zarr or HDF5, with what each channel stands for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.export.content import KEY, provenance_of
from napari_tokenunify.export.hdf5 import Disk
from napari_tokenunify.export.resume import Finished
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.affinity_store import open_affinities
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.segment.affinity_store import AffinityStore

DATASET: Final = "volumes/affinities"  # of HDF5
_CHUNK: Final = (32, 128, 128)
_BLOCK: Final = (32, 512, 512)


@dataclass(frozen=True, eq=False)
class Affinities:
    """Affinities, and which part of them is written.

    Attributes
    ----------
    store : AffinityStore
        Where they are read.
    box : Box
        The part, in voxels of the store.
    """

    store: AffinityStore
    box: Box

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        return self.box.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.store.offsets)

    @property
    def size(self) -> VoxelSize:
        """Voxel size (z, y, x) in nm; 1 if it is unknown."""
        return self.store.voxel_size_nm or (1.0, 1.0, 1.0)

    @property
    def start(self) -> list[float]:
        """Corner of the first voxel, (z, y, x) in nm, or in voxels."""
        first = self.store.origin_nm if self.store.voxel_size_nm else (0.0, 0.0, 0.0)
        along = zip(first, self.store.origin, self.box.start, self.size, strict=True)
        return [f + (a + b) * s for f, a, b, s in along]

    @property
    def provenance(self) -> dict[str, Any]:
        """What the file says of how it was made."""
        known = self.store.voxel_size_nm
        return {
            **provenance_of("affinities", "affinities", known),
            "first_voxel": [a + b for a, b in zip(self.store.origin, self.box.start, strict=True)],
            "offsets": [list(offset) for offset in self.store.offsets],
            "affinities": self.store.path,
            "settings": self.store.settings,
        }

    def fingerprint(self) -> str | None:
        """Return a text that is another one if the affinities or the part are."""
        about = {**self.provenance, "written_at": None, "box": str(self.box), "complete": self.store.complete}
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()

    def grid(self) -> BlockGrid:
        """Return the blocks in which they are written."""
        return BlockGrid(self.shape, _BLOCK, (0, 0, 0))

    def read(self, box: Box) -> NDArray[np.uint8] | NDArray[np.float16]:
        """Read a box, in voxels of what is written, in the type that is stored."""
        values = self.store.read(box.shifted(self.box.start))
        if self.dtype == np.uint8:
            return np.rint(values * 255).astype(np.uint8)
        return values.astype(np.float16)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what is written: uint8 (times 255) or float16, whichever is stored."""
        return np.dtype(np.uint8 if self.store.dtype == np.uint8 else np.float16)


def open_part(path: str, box: Box | None = None) -> Affinities:
    """Open affinities, all of them or those in a box.

    Raises
    ------
    SegmentError
        If there are none, or some of them are missing.
    ConfigError
        If the box reaches outside.
    """
    store = open_affinities(path)
    box = box or Box.whole(store.shape)
    if box.clipped(store.shape) != box:
        raise ConfigError(f"The box {box} reaches outside the affinities, {Box.whole(store.shape)}.")
    return Affinities(store, box)


def write_zarr(content: Affinities, path: Path) -> Generator[Event, None, None]:
    """Write OME-Zarr 0.5 with the axes c, z, y, x and one level, in shards of all channels.

    Parameters
    ----------
    content : Affinities
        What to write.
    path : Path
        The folder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    group = zarr.open_group(path, mode="a", zarr_format=3)
    array: Any = group["0"] if "0" in group else _create(group, content)
    grid, finished = content.grid(), Finished(path)
    if len(finished):
        yield Message(f"An earlier run was cut off with {len(finished)} of {len(grid)} blocks written; this goes on.")
    for block in grid:
        yield Progress(block.index, len(grid), "writing affinities")
        if str(block.index) not in finished:
            array[(slice(None), *block.core.slices)] = content.read(block.core)
            finished.add(str(block.index))
    group.attrs.update({"ome": _ome(content), KEY: content.provenance})
    yield Progress(len(grid), len(grid), "writing affinities")


def write_hdf5(content: Affinities, path: Path) -> Generator[Event, None, None]:
    """Write HDF5: `volumes/affinities` (c, z, y, x) with `resolution`, `offset` (nm) and `offsets` (voxels).

    Parameters
    ----------
    content : Affinities
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
            dataset = file.create_dataset(
                DATASET,
                shape=(content.channels, *content.shape),
                dtype=content.dtype,
                chunks=(1, *_chunk(content)),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            if content.store.voxel_size_nm is not None:
                dataset.attrs["resolution"], dataset.attrs["offset"] = content.size, content.start
            dataset.attrs["offsets"] = np.array(content.store.offsets)
            dataset.attrs[KEY] = json.dumps(content.provenance)
            for block in grid:
                yield Progress(block.index, len(grid), "writing affinities")
                dataset[(slice(None), *block.core.slices)] = content.read(block.core)
                file.flush()
                disk.check()
        disk.check()
    yield Progress(len(grid), len(grid), "writing affinities")


def is_ours(path: Path) -> bool:
    """Whether a file or folder is one that was written here."""
    if path.is_dir():
        return "affinities" in dict(zarr.open_group(path, mode="r").attrs[KEY])  # type: ignore[arg-type]
    with h5py.File(path, "r") as file:
        return DATASET in file and KEY in file[DATASET].attrs


def _chunk(content: Affinities) -> Triple:
    z, y, x = (min(chunk, n) for chunk, n in zip(_CHUNK, content.shape, strict=True))
    return z, y, x


def _create(group: zarr.Group, content: Affinities) -> Any:
    chunk = _chunk(content)
    shards = tuple(-(-min(s, n) // c) * c for s, n, c in zip(_BLOCK, content.shape, chunk, strict=True))
    return group.create_array(
        "0",
        shape=(content.channels, *content.shape),
        dtype=content.dtype,
        chunks=(1, *chunk),
        shards=(content.channels, *shards),
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("c", "z", "y", "x"),
        fill_value=0,
    )


def _ome(content: Affinities) -> dict[str, Any]:
    unit = {"unit": "nanometer"} if content.store.voxel_size_nm else {}
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *content.size]}]
    if any(content.start):
        transforms.append({"type": "translation", "translation": [0.0, *content.start]})
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "zyx")]
    dataset = {"path": "0", "coordinateTransformations": transforms}
    return {"version": "0.5", "multiscales": [{"name": "affinities", "axes": axes, "datasets": [dataset]}]}
