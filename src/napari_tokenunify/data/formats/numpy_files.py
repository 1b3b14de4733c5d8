"""NumPy files: `.npy` and plain `.npz` are read in place; a compressed `.npz` is unpacked to a temporary file once."""

from __future__ import annotations

import json
import math
import shutil
import struct
import tempfile
import threading
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from napari_tokenunify.data.formats.flat_file import FlatFile
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
        with location.path.open("rb") as file:
            shape, fortran_order, dtype = _read_header(file)
            start = file.tell()
        array = FlatFile(location.path.open("rb"), start, shape, dtype, fortran_order=fortran_order)
        return Source("NumPy .npy", default_axes(len(shape)), (SourceLevel(array),))
    with zipfile.ZipFile(location.path) as archive:
        headers = {name: _member_header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
        found = [Candidate(name[:-4], head[0], str(head[2])) for name, head in headers.items()]
        inner = choose_dataset(location, found)
        voxel_size, where = _voxel_size(archive, headers)
    member = _Member(location, f"{inner}.npy", headers[f"{inner}.npy"])
    level = SourceLevel(member, voxel_size)
    return Source("NumPy .npz", default_axes(len(member.shape)), (level,), inner, voxel_size_source=where)


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


class _Member:
    """One array inside an `.npz`, readable once its first voxel is asked for.

    A member that is stored plain is read in place. A compressed one is unpacked to a temporary file, streamed
    through a small buffer, so memory stays small whatever the size; the file vanishes with the process.
    """

    def __init__(self, location: Location, name: str, header: Header) -> None:
        self._location, self._name = location, name
        self.shape, self._fortran_order, self.dtype = header
        self._lock = threading.Lock()
        self._array: FlatFile | None = None

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        with self._lock:
            self._array = self._array or self._open()
        return self._array[index]

    def _open(self) -> FlatFile:
        path = self._location.path
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(self._name)
            with archive.open(member) as packed:
                _read_header(packed)
                header_length = packed.tell()
                if member.file_size < header_length + math.prod(self.shape) * self.dtype.itemsize:
                    raise VolumeError(self._location.uri, "is damaged: the archive holds less than its header says.")
                if member.compress_type == zipfile.ZIP_STORED:
                    return self._flat(path.open("rb"), _start_in_archive(path, member) + header_length)
                return self._flat(self._unpacked(packed, member.file_size), 0)

    def _unpacked(self, packed: IO[bytes], nbytes: int) -> IO[bytes]:
        """Copy what is left of a compressed member to a temporary file."""
        unpacked = tempfile.TemporaryFile(prefix="napari-tokenunify-")  # noqa: SIM115  kept while it is read
        try:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.flush()
        except Exception as error:
            unpacked.close()
            if not isinstance(error, OSError):
                raise
            raise VolumeError(
                self._location.uri,
                f"needs {nbytes / 1e9:.1f} GB in {tempfile.gettempdir()} to be unpacked ({error}): make room there, or "
                "convert it to .npy or OME-Zarr.",
            ) from error
        return unpacked

    def _flat(self, file: IO[bytes], offset: int) -> FlatFile:
        return FlatFile(file, offset, self.shape, self.dtype, fortran_order=self._fortran_order)


def _start_in_archive(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a member's bytes begin: past its local header of 30 bytes, name and extra field."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + int(name_length) + int(extra_length)
