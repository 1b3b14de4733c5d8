"""Which module reads a location: by signature, by what lies in a folder, then by the ending of the name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from napari_tokenunify.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.data.source import Location, Source

_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "hdf5_files"),
    (b"II*\0", "tiff_files"),
    (b"MM\0*", "tiff_files"),
    (b"II+\0", "tiff_files"),
    (b"MM\0+", "tiff_files"),
    (b"\x93NUMPY", "numpy_files"),
)
_SUFFIXES = {
    ".h5": "hdf5_files",
    ".hdf5": "hdf5_files",
    ".hdf": "hdf5_files",
    ".tif": "tiff_files",
    ".tiff": "tiff_files",
    ".npy": "numpy_files",
    ".npz": "numpy_files",
    ".zarr": "zarr_files",
    ".zip": "zarr_files",
    ".ozx": "zarr_files",
    ".n5": "n5_files",
    ".precomputed": "precomputed_files",
}
_MARKERS = (
    ("zarr.json", "zarr_files"),
    (".zgroup", "zarr_files"),
    (".zarray", "zarr_files"),
    (".zattrs", "zarr_files"),
    ("attributes.json", "n5_files"),
    ("s0/attributes.json", "n5_files"),
    ("info", "precomputed_files"),
)


def format_reader(location: Location) -> Callable[[Location], Source]:
    """Return the function `open_source` of the module for a location, and load no other.

    Raises
    ------
    VolumeError
        If nothing is there, or it is of no known format.
    """
    module = import_module(f"napari_tokenunify.data.formats.{_format_module(location)}")
    reader: Callable[[Location], Source] = module.open_source
    return reader


def _format_module(location: Location) -> str:
    """Name the module that reads `location`: by what is inside, then by the ending of the name."""
    by_suffix = next((_SUFFIXES[s] for s in reversed(location.suffixes) if s in _SUFFIXES), None)
    if location.is_remote:
        scheme = location.where.split("://")[0]
        return "precomputed_files" if scheme == "precomputed" else by_suffix or "zarr_files"
    path = location.path
    if path.is_dir():
        by_marker = next((module for name, module in _MARKERS if (path / name).is_file()), None)
        return by_marker or by_suffix or "section_files"
    if not path.is_file():
        raise VolumeError(location.uri, "nothing is there: check the path, and that the drive is connected.")
    with path.open("rb") as file:
        head = file.read(8)
    by_signature = next((module for signature, module in _SIGNATURES if head.startswith(signature)), None)
    if by_signature or by_suffix:
        return by_signature or by_suffix or ""
    if {".png", ".jpg", ".jpeg"} & set(location.suffixes):
        raise VolumeError(location.uri, "is one 2-D image: give the folder that holds all sections of the stack.")
    raise VolumeError(
        location.uri,
        "is of no known format: convert it to OME-Zarr, HDF5 or a multi-page TIFF (known are also Zarr, N5, "
        "NPY, NPZ, Neuroglancer precomputed and folders of TIFF, PNG or JPG sections).",
    )
