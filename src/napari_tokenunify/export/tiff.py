"""TIFF: one file of sections with OME metadata, a BigTIFF where it may grow beyond 4 GB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tifffile

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Progress
from napari_tokenunify.export.content import KEY
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content

_LARGEST_SECTION: Final = 1 << 24  # voxels; larger ones are written in tiles, so that no section need fit into memory
_TILE: Final = 512
_SLAB: Final = 1 << 23  # voxels that are read at once
_CLASSIC: Final = 1 << 32  # bytes that addresses of 32 bits reach
_PAGE: Final = 1 << 12  # bytes that a section takes beside its voxels, at most
_TYPES: Final = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")  # of OME


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write a TIFF of sections, packed with deflate; ids as uint32.

    Parameters
    ----------
    content : Content
        What to write.
    path : Path
        The file.

    Raises
    ------
    ExportError
        If ids or values do not fit into the types of OME.
    OSError
        If it cannot be written.
    """
    content = content.as_type((yield from _dtype(content)))
    depth, y, x = content.shape
    in_tiles = y * x > _LARGEST_SECTION
    largest = depth * (y * x * content.dtype.itemsize + _PAGE)  # should nothing be packed
    how: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "compressionargs": {"level": 1}}
    with tifffile.TiffWriter(path, bigtiff=largest >= _CLASSIC) as tif:
        sections: Iterator[Any] = _tiled_sections(content) if in_tiles else _sections(content)
        for z, section in enumerate(sections):
            yield Progress(z, depth, "writing sections")
            about = _ome_xml(content) if z == 0 else None
            tile = (_TILE, _TILE) if in_tiles else None
            tif.write(section, shape=(y, x), dtype=content.dtype, tile=tile, description=about, metadata=None, **how)
    yield Progress(depth, depth, "writing sections")


def is_ours(path: Path) -> bool:
    """Whether a file is one that `write` made."""
    with tifffile.TiffFile(path) as tif:
        return f'"{KEY}"' in (tif.ome_metadata or "").replace("&quot;", '"')


def _dtype(content: Content) -> Generator[Event, None, np.dtype[Any]]:
    """Return the type to write; for ids of 64 bits, look for the largest first."""
    dtype = content.dtype
    if not content.is_labels:
        dtype = np.dtype(np.float32) if dtype == np.float16 else dtype
        if dtype.name not in _TYPES:
            raise ExportError(f"TIFF holds no images of the type {dtype}; choose OME-Zarr or HDF5.")
        return dtype
    if np.can_cast(dtype, np.uint32):
        return np.dtype(np.uint32)
    low, high = 0, 0
    grid = content.grid()
    for block in grid:
        yield Progress(block.index, len(grid), "looking for the largest id")
        ids = content.read(block.core)
        low, high = min(low, int(ids.min())), max(high, int(ids.max()))
    if low < 0 or high >= 1 << 32:
        raise ExportError(
            f"TIFF holds ids from 0 to 4294967295, and these go from {low} to {high}; choose OME-Zarr or HDF5."
        )
    return np.dtype(np.uint32)


def _sections(content: Content) -> Iterator[NDArray[Any]]:
    """Yield the sections; as many are read at once as fit."""
    depth, y, x = content.shape
    slab = max(1, _SLAB // (y * x))
    for z in range(0, depth, slab):
        yield from content.read(Box((z, 0, 0), (min(z + slab, depth), y, x)))


def _tiled_sections(content: Content) -> Iterator[Iterator[NDArray[Any]]]:
    """Yield for each section its tiles, row by row."""
    depth, y, x = content.shape
    for z in range(depth):
        yield (
            content.read(Box((z, a, b), (z + 1, min(a + _TILE, y), min(b + _TILE, x))))[0]
            for a in range(0, y, _TILE)
            for b in range(0, x, _TILE)
        )


def _ome_xml(content: Content) -> bytes:
    """Return the description of the first page."""
    depth, y, x = content.shape
    about: dict[str, Any] = {"Name": content.name, "Description": json.dumps({KEY: content.provenance})}
    if content.voxel_size_nm is not None:
        for axis, size in zip("ZYX", content.voxel_size_nm, strict=True):
            about |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
    xml = tifffile.OmeXml()
    xml.addimage(content.dtype, content.shape, (depth, 1, 1, y, x, 1), axes="ZYX", **about)
    return str(xml.tostring(declaration=True)).encode()
