"""The headers of TIFF pages, read cheaply, to see that the chain is whole and the pages are alike.

`tifffile` stops at the first broken link of the chain, and takes for granted that all pages of a stack are like
the first. So these two questions are asked here, from the TIFF 6.0 and BigTIFF specifications.
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

from napari_tokenunify.errors import VolumeError

if TYPE_CHECKING:
    from pathlib import Path

PageHeader = dict[int, tuple[int, ...]]  # tag -> its values

WIDTH, LENGTH, BITS, SAMPLES, PLANES, SAMPLE_FORMAT = 256, 257, 258, 277, 284, 339
# The others: compression, photometric, fill order, rows in a strip, predictor, width and length of a tile.
_LAYOUT_TAGS = {WIDTH, LENGTH, BITS, SAMPLES, PLANES, SAMPLE_FORMAT, 259, 262, 266, 278, 317, 322, 323}
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_MAX_VALUES = 64  # more samples a pixel than this are not told apart


def read_headers(uri: str, path: Path) -> dict[int, PageHeader]:
    """Follow the chain of pages to its end.

    Parameters
    ----------
    uri : str
        Address for messages.
    path : Path
        A TIFF or BigTIFF file.

    Returns
    -------
    dict of int to dict
        For each page, by its position in the file, the tags that say how it is stored.

    Raises
    ------
    VolumeError
        If it is no TIFF file, or the chain of pages leaves the file, runs in a circle, or has no page: as in a
        truncated or damaged file.
    """
    pages: dict[int, PageHeader] = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) not in _MAGIC:
            raise VolumeError(uri, "is no TIFF file, whatever its name says: look where it comes from.")
        file.seek(0)
        try:
            reader = _Reader(file)
            at = reader.first
            while at:
                if at in pages or at >= size:
                    raise _broken(uri, len(pages))
                pages[at], at = reader.page(at)
        except struct.error:
            raise _broken(uri, len(pages)) from None
    if not pages:
        raise VolumeError(uri, "is a TIFF file without any page: it was not written to its end; save it again.")
    return pages


def _broken(uri: str, found: int) -> VolumeError:
    return VolumeError(uri, f"is cut off or damaged after page {found}: copy or save the file again.")


class _Reader:
    """Reads numbers of an open TIFF file; raises struct.error where the file ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.order = "<" if file.read(2) == b"II" else ">"
        self.is_big = self._numbers("H") == (43,)
        if self.is_big:
            self._numbers("I")  # size of an offset, always 8
        self.count, self.entry, self.pointer = ("Q", "HHQ8s", "Q") if self.is_big else ("H", "HHI4s", "I")
        (self.first,) = self._numbers(self.pointer)

    def _numbers(self, kinds: str) -> tuple[int, ...]:
        return struct.unpack(self.order + kinds, self.file.read(struct.calcsize(self.order + kinds)))

    def page(self, at: int) -> tuple[PageHeader, int]:
        """Return the layout tags of the page at a position, and the position of the next page (0: none)."""
        self.file.seek(at)
        (count,) = self._numbers(self.count)
        if count > 4096:
            raise struct.error
        form = struct.Struct(self.order + self.entry)
        entries = self.file.read(form.size * count)
        (following,) = self._numbers(self.pointer)
        tags = {
            tag: self._values(kind, number, value)
            for tag, kind, number, value in form.iter_unpack(entries)
            if tag in _LAYOUT_TAGS and kind in _TYPES and number <= _MAX_VALUES
        }
        return tags, following

    def _values(self, kind: int, number: int, value: bytes) -> tuple[int, ...]:
        """Unpack the values of a tag: in the entry itself where they fit, elsewhere in the file else."""
        form = struct.Struct(f"{self.order}{number}{_TYPES[kind]}")
        if form.size > len(value):
            (at,) = struct.unpack(self.order + self.pointer, value)
            self.file.seek(at)
            value = self.file.read(form.size)
        return form.unpack(value[: form.size])
