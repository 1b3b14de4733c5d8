"""Volume: a lazy (z, y, x) array that knows its voxel size; `open_volume` makes one from any supported file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.formats.detect import format_reader
from napari_tokenunify.data.source import LazyArray, Location, Source, SourceLevel, as_voxel_size
from napari_tokenunify.errors import DatasetChoiceError, VolumeError
from napari_tokenunify.geometry import Box, Triple, VoxelSize, as_triple

if TYPE_CHECKING:
    from pathlib import Path

    import dask.array as da
    from numpy.typing import ArrayLike, NDArray

_AXIS_NAMES = {"c": "channel", "t": "time"}
_BLOCK_VOXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of a Volume: a (z, y, x) view of an array that may be stored with other axes.

    Attributes
    ----------
    source : LazyArray
        The array as stored.
    axes : str
        Its axes, a letter each; holds z, y and x.
    selection : dict of str to int
        Index taken on every axis that is not z, y or x.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm; None if unknown.
    chunks : tuple of int or None
        (z, y, x) voxels the file reads at once; None if it can be read anywhere at equal cost.
    """

    source: LazyArray
    axes: str
    selection: dict[str, int]
    voxel_size_nm: VoxelSize | None
    chunks: Triple | None

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        z, y, x = (self.source.shape[self.axes.index(axis)] for axis in "zyx")
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel, in the byte order of this machine."""
        return self.source.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read a block; `index` is three slices (z, y, x)."""
        by_axis = dict(zip("zyx", index, strict=True))
        stored = tuple(by_axis[axis] if axis in by_axis else self.selection[axis] for axis in self.axes)
        block = np.asarray(self.source[stored])
        kept = [axis for axis in self.axes if axis in "zyx"]
        return block.transpose([kept.index(axis) for axis in "zyx"]).astype(self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Volume:
    """A lazy (z, y, x) array with its voxel size; nothing is read until a block is asked for.

    Attributes
    ----------
    uri : str
        The address it was opened from.
    format : str
        Name for people, e.g. "HDF5" or "OME-Zarr 0.5".
    levels : tuple of Level
        Resolutions, finest first; at least one.
    origin_nm : tuple of float
        (z, y, x) in nm of the first voxel's corner, where the file says so.
    provenance : dict
        Plain values that say how it was opened: uri, format, inner dataset, selection, source of the voxel
        size, and size and time of the file.
    """

    uri: str
    format: str
    levels: tuple[Level, ...]
    origin_nm: VoxelSize = (0.0, 0.0, 0.0)
    provenance: dict[str, Any] = field(default_factory=dict)
    _reopen: tuple[Any, ...] | None = None

    @classmethod
    def from_array(cls, array: ArrayLike, voxel_size_nm: VoxelSize | None = None, name: str = "array") -> Volume:
        """Make a Volume of an array that is already open (NumPy, dask, zarr), axes z, y, x.

        Parameters
        ----------
        array : array-like, shape (Z, Y, X)
            The voxels; kept, not copied.
        voxel_size_nm : tuple of float, optional
            (z, y, x) in nm.
        name : str
            Stands in messages where a file's volume has its address.

        Raises
        ------
        VolumeError
            If it has not three axes, or a data type that is no intensity and no label.
        """
        lazy: Any = array if hasattr(array, "dtype") and hasattr(array, "shape") else np.asarray(array)
        chunks = getattr(lazy, "chunksize", None) or getattr(lazy, "chunks", None)
        axes = "zyx" if len(lazy.shape) == 3 else "?" * len(lazy.shape)
        source = Source("array in memory", axes, (SourceLevel(lazy, voxel_size_nm, chunks),))
        return _volume(Location(name, name), source)

    @property
    def shape(self) -> Triple:
        """Extent of the finest level in voxels, (z, y, x)."""
        return self.levels[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return self.levels[0].dtype

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """(z, y, x) in nm; None if neither the file nor the user says."""
        return self.levels[0].voxel_size_nm

    @property
    def chunks(self) -> Triple | None:
        """(z, y, x) voxels that the file reads at once; None if anything can be read at equal cost."""
        return self.levels[0].chunks

    @property
    def nbytes(self) -> int:
        """Size of the finest level when uncompressed, in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self, box: Box, level: int = 0) -> NDArray[Any]:
        """Read a box.

        Parameters
        ----------
        box : Box
            What to read, in voxels of `level`; must lie inside.
        level : int
            Which resolution; 0 is the finest.

        Returns
        -------
        ndarray, shape box.shape
            The voxels, in the volume's data type.

        Raises
        ------
        VolumeError
            If the box reaches outside, or the file is damaged there.
        """
        source = self.levels[level]
        if box.clipped(source.shape) != box:
            size = ", ".join(map(str, source.shape))
            raise VolumeError(self.uri, f"the box {box} reaches outside the volume of {size} voxels (z, y, x).")
        try:
            block = source[box.slices]
        except VolumeError:
            raise
        except Exception as error:
            raise VolumeError(
                self.uri, f"the box {box} cannot be read: the file seems damaged there ({_short(error)})."
            ) from error
        if block.shape != box.shape:
            raise VolumeError(self.uri, f"the box {box} came back with shape {block.shape}: the file seems cut off.")
        return block

    def dask(self, level: int = 0) -> da.Array:
        """Return a level as a dask array, for viewers and block-wise work."""
        import dask.array as da

        source = self.levels[level]
        chunks = _joined_chunks(source.shape, source.chunks)
        reader = _CheckedLevel(self, level)
        meta = np.empty((0, 0, 0), self.dtype)
        array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
            reader, chunks=chunks, name=False, asarray=False, meta=meta
        )
        return array

    def checksum(self, box: Box | None = None) -> str:
        """Return the SHA-256 of a box (default: up to 32x128x128 in the middle) as hexadecimal text.

        It depends on the values, the shape and the data type only, so the same voxels in another format give
        the same text.
        """
        box = box or self.centre_box((32, 128, 128))
        block = np.ascontiguousarray(self.read(box)).astype(self.dtype.newbyteorder("<"), copy=False)
        head = f"{block.dtype.str}{block.shape}".encode()
        return hashlib.sha256(head + block.tobytes()).hexdigest()

    def centre_box(self, shape: Triple) -> Box:
        """Return the box of at most `shape` (z, y, x) in the middle of the volume."""
        size = tuple(min(n, want) for n, want in zip(self.shape, shape, strict=True))
        start = tuple((n - s) // 2 for n, s in zip(self.shape, size, strict=True))
        return Box((start[0], start[1], start[2]), (start[0] + size[0], start[1] + size[1], start[2] + size[2]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to a worker process as an address, and open there again; an array in memory goes along."""
        if self._reopen is not None:
            return open_volume, self._reopen
        return Volume, (self.uri, self.format, self.levels, self.origin_nm, self.provenance)


class _CheckedLevel:
    """What dask reads from: any failure becomes a VolumeError that names the file."""

    ndim = 3

    def __init__(self, volume: Volume, level: int) -> None:
        self.volume, self.level = volume, level
        self.shape, self.dtype = volume.levels[level].shape, volume.levels[level].dtype

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read a part; dask asks with integers and steps too, where it joins a chunk with what is done to it."""
        spans = [range(n)[part] for part, n in zip(index, self.shape, strict=True)]
        reads = [span if isinstance(span, range) else range(span, span + 1) for span in spans]
        starts = [min(span[0], span[-1]) if len(span) else 0 for span in reads]
        stops = [max(span[0], span[-1]) + 1 if len(span) else 1 for span in reads]
        block = self.volume.read(Box(as_triple(starts), as_triple(stops)), self.level)
        inside = [
            [i - start for i in span] if isinstance(span, range) else span - start
            for span, start in zip(spans, starts, strict=True)
        ]
        if all(isinstance(span, range) and span.step == 1 and len(span) for span in spans):
            return block
        for axis in (2, 1, 0):
            block = np.take(block, inside[axis], axis)
        return block


def open_volume(uri: str | Path, voxel_size_nm: VoxelSize | None = None) -> Volume:
    """Open any supported EM stack or label volume lazily.

    Formats: OME-Zarr 0.4 and 0.5, plain Zarr v2 and v3, N5, HDF5, TIFF (multi-page, OME, ImageJ, BigTIFF), a
    folder of TIFF/PNG/JPG sections, `.npy`, `.npz`, Neuroglancer precomputed (extra `precomputed`).

    Parameters
    ----------
    uri : str or Path
        A path or address; `path::inner` for a dataset inside a file or store; `path::c=1` or
        `path::inner::c=1,t=0` to take one channel or time point.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm of the finest level; overrides what the file says.

    Returns
    -------
    Volume
        Lazy; the file is never written to.

    Raises
    ------
    DatasetChoiceError
        If several datasets are inside and none, or an unknown one, is named; `.candidates` lists them.
    VolumeError
        If nothing is there, the file is damaged, it is not three-dimensional, has a channel or time axis of
        which none is picked, or a data type that is neither intensity nor label.
    """
    location = Location.parse(uri)
    try:
        source = format_reader(location)(location)
        volume = _volume(location, source)
    except (VolumeError, ImportError, SyntaxError):  # the last two are faults of an installation, not of a file
        raise
    except PermissionError as error:
        raise VolumeError(location.uri, "may not be read by you: ask its owner for the permission.") from error
    except Exception as error:
        raise VolumeError(
            location.uri, f"cannot be opened: the file seems damaged or is of another format ({_short(error)})."
        ) from error
    if voxel_size_nm is not None:
        volume = _with_voxel_size(volume, voxel_size_nm)
    return replace(volume, _reopen=(str(uri), voxel_size_nm))


def list_datasets(uri: str | Path) -> tuple[str, ...]:
    """Return the inner paths that `uri` offers: one "" for a file with a single volume, then its label images.

    Raises
    ------
    VolumeError
        If nothing can be opened there at all.
    """
    try:
        volume = open_volume(uri)
    except DatasetChoiceError as error:
        return tuple(candidate.inner for candidate in error.candidates)
    return ("", *volume.provenance["others"])


def _volume(location: Location, source: Source) -> Volume:
    first = source.levels[0].array
    _check_dtype(location, first.dtype)
    selection = _selection(location, source.axes, tuple(first.shape))
    levels = tuple(
        Level(level.array, source.axes, selection, level.voxel_size_nm, _chunks_zyx(level.chunks, source.axes))
        for level in source.levels
    )
    if min(levels[0].shape) < 1:
        raise VolumeError(location.uri, f"is empty: its shape is {levels[0].shape} (z, y, x).")
    provenance = {
        "uri": location.uri,
        "format": source.format,
        "inner": source.inner or location.inner,
        "selection": dict(location.selection),
        "voxel_size_source": source.voxel_size_source,
        "others": list(source.others),
        **_file_facts(location),
    }
    return Volume(location.uri, source.format, levels, source.origin_nm, provenance)


def _file_facts(location: Location) -> dict[str, Any]:
    if location.is_remote or not location.path.exists():
        return {}
    stat = location.path.stat()
    return {"file_bytes": stat.st_size, "file_modified": stat.st_mtime}


def _check_dtype(location: Location, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "u" or (dtype.kind == "i" and dtype.itemsize > 1) or dtype.kind == "f":
        return
    raise VolumeError(
        location.uri,
        f"has the data type {dtype}, which is neither intensity (uint8, uint16, float) nor label "
        "(an integer): convert it first.",
    )


def _selection(location: Location, axes: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the index on each axis beside z, y, x; refuse where the user must pick one."""
    if not set("zyx") <= set(axes):
        what = "one 2-D image" if len(shape) == 2 else f"an array of {len(shape)} axes {shape}"
        raise VolumeError(location.uri, f"is {what}, not a (z, y, x) volume: give a stack of sections.")
    unknown = sorted(set(location.selection) - (set(axes) - set("zyx")))
    if unknown:
        raise VolumeError(location.uri, f"has no axis '{unknown[0]}' to pick from: its axes are {axes} {shape}.")
    chosen: dict[str, int] = {}
    for axis, length in zip(axes, shape, strict=True):
        if axis in "zyx":
            continue
        index = location.selection.get(axis, 0 if length == 1 else None)
        if index is None:
            name = _AXIS_NAMES.get(axis, f"'{axis}'")
            base = location.uri + ("," if location.selection else "::")
            raise VolumeError(
                location.uri,
                f"has a {name} axis of length {length}: pick one with {base}{axis}=0 (0 to {length - 1}).",
            )
        if index >= length:
            raise VolumeError(location.uri, f"has {length} along axis '{axis}': pick 0 to {length - 1}.")
        chosen[axis] = index
    return chosen


def _joined_chunks(shape: Triple, chunks: Triple | None) -> Triple:
    """Join chunks within a section until a block has a million voxels: dask is slow with millions of small blocks.

    Strips of one row, as many TIFF files have them, would be such blocks. Sections are not joined, as a viewer
    shows one at a time.
    """
    z, y, x = chunks or (1, 1, 1)
    x = min(shape[2], x * max(1, _BLOCK_VOXELS // (z * y * x)))
    y = min(shape[1], y * max(1, _BLOCK_VOXELS // (z * y * x)))
    return min(z, shape[0]), y, x


def _chunks_zyx(chunks: tuple[int, ...] | None, axes: str) -> Triple | None:
    if chunks is None:
        return None
    z, y, x = (int(chunks[axes.index(axis)]) for axis in "zyx")
    return z, y, x


def _with_voxel_size(volume: Volume, voxel_size_nm: VoxelSize) -> Volume:
    """Replace the finest level's voxel size; coarser ones keep their ratio to it, of sizes if known, else of shapes."""
    if as_voxel_size(voxel_size_nm) is None:
        raise VolumeError(volume.uri, f"cannot have the voxel size {voxel_size_nm}: give three positive numbers in nm.")
    finest, known = volume.shape, volume.voxel_size_nm
    levels = []
    for level in volume.levels:
        if known and level.voxel_size_nm:
            steps = [coarse / fine for coarse, fine in zip(level.voxel_size_nm, known, strict=True)]
        else:
            steps = [round(n / m) for n, m in zip(finest, level.shape, strict=True)]
        z, y, x = (size * step for size, step in zip(voxel_size_nm, steps, strict=True))
        levels.append(replace(level, voxel_size_nm=(z, y, x)))
    provenance = {**volume.provenance, "voxel_size_source": "given by the user"}
    return replace(volume, levels=tuple(levels), provenance=provenance)


def _short(error: Exception) -> str:
    """Return the first line of an error's text, for the end of a sentence."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
