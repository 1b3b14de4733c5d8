"""A folder of sections: one TIFF, PNG or JPG image each, in natural order (2 before 10)."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile
from PIL import JpegImagePlugin, PngImagePlugin

from napari_tokenunify.data.formats.tiff_headers import (
    BITS,
    LENGTH,
    PLANES,
    SAMPLE_FORMAT,
    SAMPLES,
    WIDTH,
    read_headers,
)
from napari_tokenunify.data.formats.tiff_pages import open_series, quiet_tifffile
from napari_tokenunify.data.source import Location, Source, SourceLevel
from napari_tokenunify.errors import TokenUnifyError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_KINDS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPG", ".jpeg": "JPG"}
# Pillow's own classes: `Image.open` would refuse sections above 179 million pixels as an attack.
_READERS: dict[str, Any] = {"PNG": PngImagePlugin.PngImageFile, "JPG": JpegImagePlugin.JpegImageFile}
# The best that both can do: deflate packs 1000 bytes, each of 8 pixels, in one; JPEG needs a bit for 64 pixels.
_MAX_PIXELS_A_BYTE = {"PNG": 10_000, "JPG": 600}
_MODES = {
    "1": ((), "bool"),
    "L": ((), "uint8"),
    "I;16": ((), "uint16"),
    "I;16B": ((), "uint16"),
    "I": ((), "uint16"),  # what older Pillow calls a PNG of 16 bits
    "LA": ((2,), "uint8"),
    "RGB": ((3,), "uint8"),
    "RGBA": ((4,), "uint8"),
}
_SAMPLE_FORMATS = {1: "uint", 2: "int", 3: "float"}
_CACHE_BYTES = 64 << 20
_THREADS = 8  # headers wait for the disk: on a network drive eight at once are eight times as fast


class Section(NamedTuple):
    """What the header of an image says: shape (y, x) or (y, x, channels), and data type."""

    shape: tuple[int, ...]
    dtype: str


def open_source(location: Location) -> Source:
    """Open a folder of sections, all of one kind, size and data type; other files in it are left alone.

    The voxel size is not in such files. Sections in colour get a channel axis, `folder::c=0`.
    """
    if location.inner:
        raise VolumeError(location.uri, "is a folder of sections: leave out the part after '::'.")
    kind, paths = _sections(location)
    first = _header(kind, paths[0])
    _check_alike(location, kind, paths, first)
    stack = _Stack(location.uri, kind, paths, first)
    axes = "zyx" + ("c" if len(first.shape) == 3 else "")
    return Source(f"folder of {kind} sections", axes, (SourceLevel(stack, None, (1, *first.shape)),))


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts names with numbers as people do: "s2.png" before "s10.png"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _sections(location: Location) -> tuple[str, list[Path]]:
    """Return the one kind of image in the folder, and its files in order."""
    with os.scandir(location.path) as entries:  # tells files from folders without asking the disk for each
        files = [location.path / e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    images = [path for path in files if path.suffix.lower() in _KINDS]
    kinds = Counter(_KINDS[path.suffix.lower()] for path in images)
    if not kinds:
        found = f"holds no TIFF, PNG or JPG images, but {files[0].name}" if files else "is an empty folder"
        raise VolumeError(location.uri, f"{found}: name the folder that holds the sections of a stack, or a file.")
    if len(kinds) > 1:
        counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        raise VolumeError(location.uri, f"mixes {counts}: keep the sections of one stack, of one kind, in a folder.")
    return next(iter(kinds)), sorted(images, key=lambda path: (natural_key(path.name), path.name))


def _header(kind: str, path: Path) -> Section:
    """Read what an image holds from its first bytes.

    Raises
    ------
    VolumeError
        If the image cannot be a section; the sentence names the file.
    """
    try:
        return _tiff_header(path) if kind == "TIFF" else _picture_header(kind, path)
    except TokenUnifyError:
        raise
    except Exception as error:
        raise VolumeError(str(path), f"is no readable {kind} image ({error}): replace it or take it away.") from error


def _picture_header(kind: str, path: Path) -> Section:
    with path.open("rb") as file:
        image = _READERS[kind](file)
        width, height = image.size
        mode = image.mode
    if width * height > _MAX_PIXELS_A_BYTE[kind] * path.stat().st_size:
        raise VolumeError(str(path), f"claims {width} x {height} pixels, more than it can hold: it seems damaged.")
    if mode not in _MODES:
        raise VolumeError(str(path), f"has the colours of mode {mode}: save the sections as grey images.")
    channels, dtype = _MODES[mode]
    return Section((height, width, *channels), dtype)


def _tiff_header(path: Path) -> Section:
    pages = read_headers(str(path), path)
    if len(pages) > 1:
        raise VolumeError(
            str(path), f"has {len(pages)} pages, but a section is one image: open this file itself, or split it."
        )
    (tags,) = pages.values()
    samples, bits = tags.get(SAMPLES, (1,))[0], tags.get(BITS, (1,))[0]
    dtype = f"{_SAMPLE_FORMATS.get(tags.get(SAMPLE_FORMAT, (1,))[0])}{bits}" if bits > 1 else "bool"
    is_planar = samples > 1 and tags.get(PLANES, (1,))[0] == 2
    if is_planar or dtype not in np.sctypeDict:
        raise VolumeError(str(path), f"has {samples} samples of {bits} bits: save the sections as grey, 8 or 16 bit.")
    return Section((tags[LENGTH][0], tags[WIDTH][0], *((samples,) if samples > 1 else ())), dtype)


def _check_alike(location: Location, kind: str, paths: Sequence[Path], first: Section) -> None:
    """Read every header; refuse the first section that differs from the first of all."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for path, header in zip(paths, pool.map(lambda path: _header(kind, path), paths), strict=True):
            if header != first:
                raise VolumeError(
                    location.uri,
                    f"has sections of different size or type: {path.name} is {_described(header)}, {paths[0].name} is "
                    f"{_described(first)}; make them equal or take the odd ones away.",
                )
    finally:
        pool.shutdown(cancel_futures=True)


def _described(section: Section) -> str:
    return f"{'x'.join(map(str, section.shape))} {section.dtype}"


class _Stack:
    """Sections as one array (z, y, x) or (z, y, x, channel); only those asked for are read.

    Of a TIFF only the strips and tiles asked for are decoded. A PNG or JPG can only be decoded whole, so the last
    few are kept, up to 64 MB.
    """

    def __init__(self, uri: str, kind: str, paths: list[Path], section: Section) -> None:
        self.uri, self.kind, self.paths, self.section = uri, kind, paths, section
        self.shape: tuple[int, ...] = (len(paths), *section.shape)
        self.dtype: np.dtype[Any] = np.dtype(section.dtype)
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read a part; `index` has a slice or an integer for each axis."""
        z, *inner = index
        numbers = range(len(self.paths))[z] if isinstance(z, slice) else [z]
        read = self._read_tiff if self.kind == "TIFF" else self._read_picture
        parts = [read(number, tuple(inner)) for number in numbers]
        return np.stack(parts) if isinstance(z, slice) else parts[0]

    def _read_tiff(self, number: int, index: tuple[slice | int, ...]) -> NDArray[Any]:
        path = self.paths[number]
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            array, _ = open_series(str(path), tifffile.TiffPageSeries([tif.pages.first]))
        self._check_unchanged(path, array)
        return np.asarray(array[index])

    def _read_picture(self, number: int, index: tuple[slice | int, ...]) -> NDArray[Any]:
        with self._lock:
            kept = self._kept.get(number)
            if kept is not None:
                self._kept.move_to_end(number)
                return kept[index]
        path = self.paths[number]
        with path.open("rb") as file:
            pixels = np.asarray(_READERS[self.kind](file)).astype(self.dtype, copy=False)
        self._check_unchanged(path, pixels)
        with self._lock:
            self._kept[number] = pixels
            while sum(array.nbytes for array in self._kept.values()) > _CACHE_BYTES:
                self._kept.popitem(last=False)
        return pixels[index]

    def _check_unchanged(self, path: Path, array: Any) -> None:
        if array.shape != self.section.shape or array.dtype != self.dtype:
            raise VolumeError(str(path), "has changed since the folder was opened: open it again.")
