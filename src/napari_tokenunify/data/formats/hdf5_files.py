"""HDF5 files: CREMI, FlyEM, MEC and ilastik layouts; opened anew for each read, so nothing stays locked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from napari_tokenunify.data.source import Location, Source, SourceLevel, as_voxel_size, choose_dataset, default_axes
from napari_tokenunify.errors import Candidate, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import VoxelSize

# Attribute of a dataset -> nm in one unit of it: CREMI and funlib write the first, Fiji the second.
_VOXEL_SIZE_ATTRIBUTES = {"resolution": 1.0, "element_size_um": 1000.0}


def open_source(location: Location) -> Source:
    """Open `file.h5::path/of/dataset`, or the only volume in the file.

    The voxel size is read from the attribute `resolution` (z, y, x in nm) or `element_size_um` (z, y, x in um) of
    the dataset, the origin from `offset` (nm), the axes from `axistags` (ilastik) or `DIMENSION_LABELS`.
    """
    if location.is_remote:
        raise VolumeError(location.uri, "HDF5 files are read from this machine only: download it first.")
    with _open(location) as file:
        dataset = _named_dataset(file, location)
        inner = location.inner if dataset is not None else choose_dataset(location, _candidates(file))
        dataset = file[inner] if dataset is None else dataset
        _check_readable(location, dataset)
        voxel_size, where = _voxel_size(dataset)
        level = SourceLevel(_Dataset(location, inner, dataset), voxel_size, dataset.chunks)
        return Source("HDF5", _axes(dataset), (level,), inner, _origin(dataset), where)


def _open(location: Location) -> h5py.File:
    """Open without a lock, so that a program that writes is never kept out, nor we by a lock left behind."""
    try:
        return h5py.File(location.path, "r", locking=False)
    except OSError as error:
        if "locking" not in str(error):
            raise
        return h5py.File(location.path, "r")  # open for writing in this very process, with whose locks we must agree


def _is_image(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and bool(item.shape) and item.dtype.kind in "uifcb"


def _named_dataset(file: h5py.File, location: Location) -> h5py.Dataset | None:
    """Return the dataset that was asked for by name; None if none was, or it is not there."""
    if not location.inner:
        return None
    try:
        item = file[location.inner]
    except KeyError:
        return None
    if isinstance(item, h5py.Dataset) and not _is_image(item):
        raise VolumeError(
            location.uri,
            f"the dataset '{location.inner}' holds {item.dtype}, not an array of numbers: name another one.",
        )
    return item if isinstance(item, h5py.Dataset) else None


def _candidates(file: h5py.File) -> list[Candidate]:
    """List every array of numbers in the file; links are not followed, so loops and other files cost nothing."""
    found: list[Candidate] = []

    def visit(name: str, item: Any) -> None:
        if _is_image(item):
            found.append(Candidate(name, item.shape, str(item.dtype)))

    file.visititems(visit)
    return found


def _check_readable(location: Location, dataset: h5py.Dataset) -> None:
    """Refuse voxels that are elsewhere (HDF5 gives zeros for what is missing) or packed by an unknown filter."""
    if dataset.external:
        raise VolumeError(
            location.uri,
            f"keeps its voxels in another file ({dataset.external[0][0]}): make one file of it with h5repack.",
        )
    folder = location.path.parent
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        is_here = source.file_name == "." or "%" in source.file_name  # "%b" counts through files
        if not is_here and not (folder / source.file_name).is_file():
            raise VolumeError(location.uri, f"takes voxels from the file {source.file_name}, which is missing.")
    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise VolumeError(
                location.uri,
                f"is compressed with the HDF5 filter {code} ({name.decode(errors='replace')}), which is not installed: "
                "repack it with gzip (h5repack -f GZIP=4), or install hdf5plugin and import it first.",
            )


def _axes(dataset: h5py.Dataset) -> str:
    """Return a letter an axis: as ilastik or the dimension labels name them, else the usual ones."""
    tags = dataset.attrs.get("axistags")
    names: Iterable[str] = ()
    if isinstance(tags, (str, bytes)):
        entries = json.loads(tags).get("axes", [])
        names = [str(entry.get("key", "")) for entry in entries]
    elif "DIMENSION_LABELS" in dataset.attrs:
        names = [dimension.label for dimension in dataset.dims]
    axes = "".join(name[:1].lower() for name in names)
    named = len(axes) == len(set(axes)) == dataset.ndim and set(axes) <= set("tczyx")
    return axes if named else default_axes(dataset.ndim)


def _voxel_size(dataset: h5py.Dataset) -> tuple[VoxelSize | None, str]:
    for name, nm_per_unit in _VOXEL_SIZE_ATTRIBUTES.items():
        voxel_size = as_voxel_size(dataset.attrs.get(name), nm_per_unit)
        if voxel_size is not None:
            return voxel_size, f"attribute {name}"
    return None, ""


def _origin(dataset: h5py.Dataset) -> VoxelSize:
    """Return the attribute `offset` (z, y, x in nm) as CREMI has it; zeros if there is none."""
    offset = np.asarray(dataset.attrs.get("offset", ()))
    if offset.shape != (3,) or offset.dtype.kind not in "iuf" or not np.isfinite(offset).all():
        return 0.0, 0.0, 0.0
    z, y, x = map(float, offset)
    return z, y, x


class _Dataset:
    """One dataset, read through a file that is open only meanwhile (0.4 ms a read).

    A file that stayed open could not be opened for writing by anybody else in this process, e.g. in the console
    of napari.
    """

    def __init__(self, location: Location, inner: str, dataset: h5py.Dataset) -> None:
        self.location, self.inner = location, inner
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        with _open(self.location) as file:
            dataset = file[self.inner]
            if dataset.shape != self.shape or dataset.dtype != self.dtype:
                raise VolumeError(self.location.uri, "has changed since it was opened: open it again.")
            block: NDArray[Any] = dataset[index]
            return block
