"""NumPy files: `.npy` mapped from disk, `.npz` mapped where it is stored plain, unpacked to a temporary file else."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from napari_tokenunify.data.source import Location, Source, SourceLevel, as_voxel_size, choose_dataset, default_axes
from napari_tokenunify.errors import Candidate, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import VoxelSize

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]  # shape, Fortran order, dtype


def open_source(location: Location) -> Source:
    """Open `file.npy` or `file.npz::name`; a JSON text in the member `meta` may give `voxel_size_nm`."""
    if location.is_remote:
        raise VolumeError(location.uri, "NumPy files are read from this machine only: download it first.")
    if not zipfile.is_zipfile(location.path):
        if location.inner:
            raise VolumeError(location.uri, "a .npy file holds one array: leave out the part after '::'.")
        array = np.load(location.path, mmap_mode="r", allow_pickle=False)
        return Source("NumPy .npy", default_axes(array.ndim), (SourceLevel(array),))
    with zipfile.ZipFile(location.path) as archive:
        headers = {name: _member_header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
        found = [Candidate(name[:-4], head[0], str(head[2])) for name, head in headers.items()]
        inner = choose_dataset(location, found)
        voxel_size, where = _voxel_size(archive, headers)
    array = _MemberArray(location.path, f"{inner}.npy", headers[f"{inner}.npy"])
    axes = default_axes(len(array.shape))
    return Source("NumPy .npz", axes, (SourceLevel(array, voxel_size),), inner, voxel_size_source=where)


def _read_header(file: IO[bytes]) -> Header:
    version = npy_format.read_magic(file)
    reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    return shape, fortran_order, dtype


def _member_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as file:
        return _read_header(file)


def _voxel_size(archive: zipfile.ZipFile, headers: dict[str, Header]) -> tuple[VoxelSize | None, str]:
    """Read the voxel size in nm from the JSON text `meta`, or from a member `voxel_size_nm` or `resolution`."""
    for name in ("meta", "voxel_size_nm", "resolution"):
        shape, _, dtype = headers.get(f"{name}.npy", ((0,), False, np.dtype("u1")))
        if dtype.hasobject or not 1 <= math.prod(shape) <= 1000:
            continue
        with archive.open(f"{name}.npy") as file:
            value: Any = npy_format.read_array(file, allow_pickle=False).tolist()
        if name == "meta":
            meta = json.loads(value) if isinstance(value, str) else None
            meta = meta if isinstance(meta, dict) else {}
            value = meta.get("voxel_size_nm", meta.get("voxel_nm"))
        voxel_size = as_voxel_size(value)
        if voxel_size is not None:
            return voxel_size, f"member {name}"
    return None, ""


class _MemberArray:
    """One array inside an `.npz`: mapped from the file, or from a temporary copy where it is compressed.

    The copy is made when the first voxel is asked for, streams through a small buffer, and vanishes with the
    process; so memory stays small whatever the size of the array.
    """

    def __init__(self, path: Path, name: str, header: Header) -> None:
        self.path, self.name = path, name
        self.shape, self._fortran_order, self.dtype = header
        self._mapped: NDArray[Any] | None = None

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        if self._mapped is None:
            self._mapped = self._map()
        part: NDArray[Any] = self._mapped[index]
        return part

    def _map(self) -> NDArray[Any]:
        if self.dtype.hasobject:
            raise VolumeError(str(self.path), f"'{self.name}' holds Python objects, which are never loaded.")
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as packed:
            _read_header(packed)
            unpacked = tempfile.TemporaryFile(prefix="napari-tokenunify-")  # noqa: SIM115  lives as long as the map
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        unpacked.flush()
        order: Any = "F" if self._fortran_order else "C"
        return np.memmap(unpacked, self.dtype, "r", 0, self.shape, order)

    def __reduce__(self) -> tuple[Any, ...]:
        return _MemberArray, (self.path, self.name, (self.shape, self._fortran_order, self.dtype))
