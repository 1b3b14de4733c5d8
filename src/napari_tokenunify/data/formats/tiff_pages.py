"""The pages of a TIFF file as one lazy array, read strip by strip or tile by tile.

`tifffile` understands the pages and decodes what is in them. What it would fill with zeros or leave out (a
missing page, a strip past the end of the file) is refused here: a damaged file never passes for a dark one.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.formats.flat_file import FlatFile
from napari_tokenunify.data.formats.tiff_headers import PageHeader, read_headers
from napari_tokenunify.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tifffile
    from numpy.typing import NDArray

_MAX_GROWTH = 5000  # deflate packs 1000 to 1 at best, LZW 2500 to 1
_JPEG = {6, 7, 33007, 34892}  # values of the tag Compression
_SMALL_SEGMENT_BYTES = 1 << 28


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep what tifffile logs in this thread off the screen: what matters of it is checked, and said once."""
    thread = threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log = logging.getLogger("tifffile")
    log.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        log.removeFilter(is_of_another_thread)


def stored(series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape of a series, without those of length 1; a section whose depth OME-XML says keeps it."""
    axes, shape = series.get_axes(True), tuple(int(n) for n in series.get_shape(True))
    if axes == "YX" and series.kind == "ome" and "PhysicalSizeZ=" in (series.keyframe.parent.ome_metadata or ""):
        return "ZYX", (1, *shape)
    return axes, shape


def open_series(uri: str, series: tifffile.TiffPageSeries) -> tuple[PageArray | FlatFile, tuple[int, ...] | None]:
    """Return the array of a series and its chunks: read in place where the file is plain, decoded else.

    Parameters
    ----------
    uri : str
        Address for messages.
    series : tifffile.TiffPageSeries
        The series, its file still open.

    Returns
    -------
    array : FlatFile or PageArray
        Lazy; shape and axes are those that `stored` says.
    chunks : tuple of int or None
        What is decoded at once; None where the values lie one after the other in the file.

    Raises
    ------
    VolumeError
        If a page is missing or lies past the end of the file.
    """
    _, shape = stored(series)
    keyframe = series.keyframe
    if series.dtype is None or series.dtype != keyframe.dtype:
        raise VolumeError(uri, "has a data type that cannot be read from TIFF: save it as 8 or 16 bit.")
    if series.dataoffset is None or series.is_multifile or not keyframe.is_memmappable:
        array = PageArray(uri, shape, series)
        return array, array.chunks
    handle = keyframe.parent.filehandle
    if series.dataoffset + math.prod(shape) * series.dtype.itemsize > handle.size:
        raise VolumeError(uri, "is cut off: it ends before its last section; copy or save the file again.")
    dtype = series.dtype.newbyteorder(keyframe.parent.byteorder)
    return FlatFile(Path(handle.path).open("rb"), series.dataoffset, shape, dtype), None


class PageArray:
    """An array over the pages of one series that decodes only the strips and tiles it is asked for.

    Every read opens the file anew, so threads share no position in it.

    Parameters
    ----------
    uri : str
        Address for messages.
    shape : tuple of int
        Shape of the series; its last axes are those of a page, the others count pages.
    series : tifffile.TiffPageSeries
        The series, its file still open.

    Raises
    ------
    VolumeError
        If a page is missing or lies past the end of the file.
    """

    def __init__(self, uri: str, shape: tuple[int, ...], series: tifffile.TiffPageSeries) -> None:
        self.uri, self.shape = uri, shape
        self.dtype: np.dtype[Any] = series.dtype
        page = series.keyframe
        self._page_shape: tuple[int, ...] = page.shaped  # separate samples, depth, length, width, samples
        self._segment = _segment_shape(page)
        self._grid = tuple(-(-n // m) for n, m in zip(self._page_shape, self._segment, strict=True))
        self._page_axes = _page_axes(uri, shape, self._page_shape)
        self._homes: list[tuple[str, Any]] = []  # path and key frame of each file of the series
        self._is_compressed = page.compression != 1
        self._collect(series)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is decoded at once, along the axes of the array."""
        leading = len(self.shape) - len(self._page_axes)
        inner = [1 if axis is None else self._segment[axis] for axis in self._page_axes]
        return (1,) * leading + tuple(map(min, inner, self.shape[leading:]))

    def _collect(self, series: tifffile.TiffPageSeries) -> None:
        """Note where each strip or tile of each page lies, and check that all of it is there."""
        number, segments = math.prod(self.shape) // math.prod(self._page_shape), math.prod(self._grid)
        pages: list[Any] = [page for page in series if page is not None]
        if len(pages) != number or len(series) != number:
            raise VolumeError(self.uri, f"should have {number} sections, but only {len(pages)} are there.")
        self._table = np.zeros((number, 2, segments), np.uint64)
        self._home_of = np.zeros(number, np.uint32)
        self._jpeg_tables: dict[int, bytes] = {}
        homes: dict[str, int] = {}
        headers: list[dict[int, PageHeader]] = []
        for i, page in enumerate(pages):
            handle, keyframe = page.parent.filehandle, page.keyframe
            home = homes.setdefault(handle.path, len(homes))
            if home == len(self._homes):
                self._check_decoder(keyframe)
                self._homes.append((handle.path, keyframe))
                headers.append(read_headers(self.uri, Path(handle.path)))
            self._home_of[i] = home
            if page.offset in headers[home] and headers[home][page.offset] != headers[home].get(keyframe.offset):
                raise VolumeError(self.uri, f"has a section {i} of another size or type than the first: save it again.")
            if page.jpegtables is not None:
                self._jpeg_tables[i] = page.jpegtables
            if min(len(page.dataoffsets), len(page.databytecounts)) < segments:
                raise self._lost(i)
            self._table[i] = page.dataoffsets[:segments], page.databytecounts[:segments]
            offsets, counts = self._table[i]
            if not offsets.all() or not counts.all() or (offsets + counts > handle.size).any():
                raise self._lost(i)

    def _check_decoder(self, keyframe: tifffile.TiffPage) -> None:
        """Make the decoder now (in two threads at once it is not safe), and see that its codec is installed."""
        try:
            keyframe.decode(None, 0)
        except (ValueError, NotImplementedError) as error:
            raise self._undecodable(error) from error

    def _undecodable(self, error: Exception) -> VolumeError:
        return VolumeError(
            self.uri,
            f"is stored in a way that cannot be decoded here ({error}): install imagecodecs, or save it without "
            "compression.",
        )

    def _lost(self, page: int) -> VolumeError:
        return VolumeError(self.uri, f"is cut off or damaged: section {page} is not wholly in the file.")

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Decode a part; `index` has a slice or an integer for each axis."""
        parts = [
            range(n)[i] if isinstance(i, slice) else range(i, i + 1) for i, n in zip(index, self.shape, strict=True)
        ]
        block = np.empty([len(part) for part in parts], self.dtype)
        leading = len(self.shape) - len(self._page_axes)
        region = [range(1)] * 5
        for axis, part in zip(self._page_axes, parts[leading:], strict=True):
            if axis is not None:
                region[axis] = part
        numbers = np.arange(len(self._table)).reshape(self.shape[:leading])
        wanted = numbers[np.ix_(*parts[:leading])].ravel() if leading else numbers.ravel()
        pages = block.reshape(len(wanted), *(len(part) for part in region))
        for page, number in zip(pages, wanted, strict=True):
            self._read_page(int(number), region, page)
        return block[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]

    def _read_page(self, number: int, region: list[range], out: NDArray[Any]) -> None:
        """Decode every strip or tile that a region of a page touches, and copy what is wanted of it to `out`."""
        path, _ = self._homes[self._home_of[number]]
        touched = [range(r.start // m, -(-r.stop // m)) for r, m in zip(region, self._segment, strict=True)]
        with open(path, "rb") as file:  # noqa: PTH123  tifffile gives a text
            for place in product(*touched):
                segment = int(np.ravel_multi_index(place, self._grid))
                offset, count = (int(value) for value in self._table[number, :, segment])
                self._check_growth(count)
                file.seek(offset)
                data = self._decoded(number, segment, file.read(count))
                source, target = [], []
                for r, m, p in zip(region, self._segment, place, strict=True):
                    low, high = max(r.start, p * m), min(r.stop, (p + 1) * m)
                    source.append(slice(low - p * m, high - p * m))
                    target.append(slice(low - r.start, high - r.start))
                wanted = data[tuple(source)]
                if wanted.shape != out[tuple(target)].shape:
                    raise self._lost(number)
                out[tuple(target)] = wanted

    def _decoded(self, number: int, segment: int, data: bytes) -> NDArray[Any]:
        """Decode a strip or tile to an array of the five axes of a page."""
        _, keyframe = self._homes[self._home_of[number]]
        if keyframe.compression in _JPEG and _jpeg_pixels(data) > math.prod(self._segment[:4]):
            raise self._lost(number)
        tables = {"jpegtables": self._jpeg_tables.get(number), "jpegheader": keyframe.jpegheader}
        try:
            decoded, _, _ = keyframe.decode(data, segment, **tables)
        except ImportError as error:
            raise self._undecodable(error) from error
        array: NDArray[Any] = decoded[None]
        return array

    def _check_growth(self, count: int) -> None:
        """Refuse what cannot be so large: a damaged header must not claim the memory of the machine."""
        nbytes = math.prod(self._segment) * self.dtype.itemsize
        if self._is_compressed and nbytes > max(count * _MAX_GROWTH, _SMALL_SEGMENT_BYTES):
            raise VolumeError(self.uri, f"claims {nbytes} bytes in {count} stored ones: the file seems damaged.")


def _jpeg_pixels(data: bytes) -> int:
    """Return the pixels that the frame header of a JPEG claims: decoding would fill them all, even if damaged."""
    at = 2
    while at + 9 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in {0xFFC4, 0xFFC8, 0xFFCC}:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return int(height * width)
        at += 2 + length
    return 0


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, ...]:
    """Return the shape of a strip or tile along the five axes of a page."""
    samples = page.shaped[4]
    if page.is_tiled:
        return 1, page.tiledepth, page.tilelength, page.tilewidth, samples
    return 1, 1, page.rowsperstrip, page.imagewidth, samples


def _page_axes(uri: str, shape: tuple[int, ...], page_shape: tuple[int, ...]) -> list[int | None]:
    """Return which axis of a page each of the last axes of a series is; None for one of length 1.

    Raises
    ------
    VolumeError
        If the series is not a stack of such pages.
    """
    axes = [axis for axis, n in enumerate(page_shape) if n > 1]
    for leading in range(len(shape) + 1):
        inner = shape[leading:]
        if math.prod(inner) == math.prod(page_shape) and [n for n in inner if n > 1] == [page_shape[a] for a in axes]:
            of_length = iter(axes)
            return [next(of_length) if n > 1 else None for n in inner]
    raise VolumeError(
        uri, f"has pages that do not make up its shape {shape}: save it again as a plain multi-page TIFF."
    )
