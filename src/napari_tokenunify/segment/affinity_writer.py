"""How affinities lie on disk, and the one way to write them: cell by cell, each either done or not there.

A store is a Zarr v3 group with OME-Zarr 0.5 metadata, so any viewer opens it: one level "0" with the axes c, z, y, x,
and our own facts under one attribute. A cell is a chunk. Until all cells are done the store is marked as not complete,
and `.work/done.jsonl` names the cells that are; what is being added up for the others lies beside it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.project import whole_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.geometry import Box, Triple, VoxelSize

KEY: Final = "napari_tokenunify"
CELL: Final = (32, 128, 128)
WORK: Final = ".work"
UNCERTAINTY: Final = "uncertainty"
DTYPES: Final = ("uint8", "float16")
_DONE: Final = "done.jsonl"
_CODEC: Final = ZstdCodec(level=1, checksum=True)  # affinities are mostly 0 or 1: higher levels gain little


@dataclass(frozen=True)
class AffinityLayout:
    """What a store of affinities holds.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) voxels.
    offsets : tuple of tuple of int
        One (z, y, x) a channel.
    dtype : str
        "uint8": affinity times 255; or "float16".
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm.
    origin : tuple of int
        The voxel (z, y, x) of the volume that the first voxel here is.
    settings : dict
        Plain values that say what the affinities were made of and how.
    uncertainty : bool
        Whether there is a second array (z, y, x) that says how much the network's answers differ.
    origin_nm : tuple of float
        Corner (z, y, x) in nm of the volume's first voxel.
    """

    shape: Triple
    offsets: tuple[Offset, ...]
    dtype: str = "uint8"
    voxel_size_nm: VoxelSize | None = None
    origin: Triple = (0, 0, 0)
    settings: dict[str, Any] = field(default_factory=dict)
    uncertainty: bool = False
    origin_nm: VoxelSize = (0.0, 0.0, 0.0)

    @property
    def cell(self) -> Triple:
        """Extent (z, y, x) of a cell in voxels; those at the end may be cut."""
        z, y, x = (min(c, n) for c, n in zip(CELL, self.shape, strict=True))
        return z, y, x

    @property
    def grid(self) -> Triple:
        """How many cells there are along (z, y, x)."""
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.cell, strict=True))
        return z, y, x

    def facts(self, *, complete: bool, failed: Sequence[Box] = ()) -> dict[str, Any]:
        """Return what the store's attribute says."""
        return {
            "kind": "affinities",
            "offsets": [list(offset) for offset in self.offsets],
            "origin": list(self.origin),
            "origin_nm": list(self.origin_nm),
            "voxel_size_nm": list(self.voxel_size_nm) if self.voxel_size_nm else None,
            "settings": self.settings,
            "complete": complete,
            "failed": [str(box) for box in failed],
        }


class AffinityWriter:
    """A store that is open for writing; one process at a time may have it open.

    Parameters
    ----------
    path : Path
        A store that `create` made.
    layout : AffinityLayout
        What it was created with.

    Attributes
    ----------
    done : set of tuple of int
        The cells (z, y, x) that are written.
    work : Path
        Folder for what is not finished; goes when everything is.
    """

    def __init__(self, path: Path, layout: AffinityLayout) -> None:
        self.path, self.layout = path, layout
        self.work = path / WORK
        self.work.mkdir(exist_ok=True)
        for torn in path.rglob("*.partial"):  # what zarr was writing when it was killed
            torn.unlink()
        self.done = set(mend_done(self.work))
        self._group = zarr.open_group(path, mode="r+")
        names = ["0", UNCERTAINTY] if layout.uncertainty else ["0"]
        # in full: a chunk that is not there is one that was lost
        self._arrays = {
            name: zarr.open_array(path / name, mode="r+").with_config({"write_empty_chunks": True}) for name in names
        }

    @classmethod
    def create(cls, path: Path, layout: AffinityLayout) -> AffinityWriter:
        """Make an empty store; nothing may be there yet.

        Raises
        ------
        SegmentError
            If it cannot be written.
        """
        with whole_folder(path, SegmentError) as part:
            _create(part, layout)
            (part / WORK).mkdir()
        return cls(path, layout)

    def write(self, cell: Triple, values: NDArray[Any], uncertainty: NDArray[np.uint8] | None = None) -> None:
        """Write a cell, and mark it as done once it is on the disk.

        Parameters
        ----------
        cell : tuple of int
            Which (z, y, x) of the grid.
        values : ndarray, shape (C, z, y, x)
            In the store's own type.
        uncertainty : ndarray of uint8, shape (z, y, x), optional
            Where the store has it.

        Raises
        ------
        OSError
            If it cannot be written, e.g. because the disk is full; the cell is not done then.
        """
        box = tuple(slice(i * c, i * c + c) for i, c in zip(cell, self.layout.cell, strict=True))
        self._arrays["0"][(slice(None), *box)] = values
        if uncertainty is not None:
            self._arrays[UNCERTAINTY][box] = uncertainty
        for name in self._arrays:
            _sync(chunk_path(self.path, name, cell))
        with (self.work / _DONE).open("ab") as file:
            file.write(json.dumps(cell).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.done.add(cell)

    def finish(self, failed: Sequence[Box] = ()) -> bool:
        """Say in the store's attributes how it ended, and remove the work if nothing is left to do.

        Parameters
        ----------
        failed : sequence of Box
            What could not be predicted, in voxels of the store.

        Returns
        -------
        bool
            Whether all cells are done.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        complete = not failed and len(self.done) == math.prod(self.layout.grid)
        self._group.attrs[KEY] = self.layout.facts(complete=complete, failed=failed)
        if complete:
            shutil.rmtree(self.work)
        return complete


def describe(path: Path, layout: AffinityLayout, *, complete: bool = False, failed: Sequence[Box] = ()) -> None:
    """Say in a store what it holds: how large its voxels are and where it lies, for us and for others."""
    group = zarr.open_group(path, mode="r+")
    group.attrs.update({"ome": _ome(layout), KEY: layout.facts(complete=complete, failed=failed)})
    if layout.uncertainty and layout.voxel_size_nm:
        array = zarr.open_array(path / UNCERTAINTY, mode="r+")
        array.attrs.update({"resolution": list(layout.voxel_size_nm), "units": "nm"})


def encode(affinities: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Turn affinities in 0..1 into what is stored: times 255 and rounded for "uint8", or as "float16"."""
    if dtype == "uint8":
        affinities = np.rint(np.multiply(affinities, 255, dtype=np.float32))
    stored: NDArray[Any] = affinities.astype(dtype)
    return stored


def decode(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Turn what is stored into affinities, float32."""
    affinities = stored.astype(np.float32)
    if stored.dtype == np.uint8:
        affinities /= 255
    return affinities


def chunk_path(store: Path, array: str, cell: Triple) -> Path:
    """Return the file that holds a cell of an array."""
    names = map(str, (0, *cell) if array == "0" else cell)
    return store.joinpath(array, "c", *names)


def read_done(work: Path) -> list[Triple]:
    """Return the cells that are named as done; a line that was cut off does not count."""
    try:
        lines = (work / _DONE).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [(z, y, x) for z, y, x in map(json.loads, lines)]


def mend_done(work: Path) -> list[Triple]:
    """Read which cells are done, and take away a last line that a kill cut off, before more are written."""
    done, file = read_done(work), work / _DONE
    if file.exists():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(file, whole)
    return done


def _create(folder: Path, layout: AffinityLayout) -> None:
    group = zarr.create_group(folder, zarr_format=3)
    channels = len(layout.offsets)
    group.create_array(
        "0",
        shape=(channels, *layout.shape),
        chunks=(channels, *layout.cell),
        dtype=layout.dtype,
        compressors=_CODEC,
        fill_value=0,
        dimension_names=("c", "z", "y", "x"),
    )
    if layout.uncertainty:
        group.create_array(
            UNCERTAINTY,
            shape=layout.shape,
            chunks=layout.cell,
            dtype="uint8",
            compressors=_CODEC,
            fill_value=0,
            dimension_names=("z", "y", "x"),
        )
    describe(folder, layout)


def _ome(layout: AffinityLayout) -> dict[str, Any]:
    known = layout.voxel_size_nm is not None
    size = layout.voxel_size_nm or (1.0, 1.0, 1.0)
    first = layout.origin_nm if known else (0.0, 0.0, 0.0)
    shift = [f + a * s for f, a, s in zip(first, layout.origin, size, strict=True)]
    unit = {"unit": "nanometer"} if known else {}
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "zyx")]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *size]}]
    if any(shift):
        transforms.append({"type": "translation", "translation": [0.0, *shift]})
    level = {"path": "0", "coordinateTransformations": transforms}
    return {"version": "0.5", "multiscales": [{"name": "affinities", "axes": axes, "datasets": [level]}]}


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
