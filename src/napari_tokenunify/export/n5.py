"""N5: levels s0, s1, ... with the attributes of n5-viewer and Paintera, for BigDataViewer, Paintera and MoBIE.

The blocks are written here, as N5 is a page of text and no library of our own dependencies writes it; tests read the
result with z5py and tensorstore. Format: https://github.com/saalfeldlab/n5#file-system-specification.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.export.content import KEY
from napari_tokenunify.export.levels import level_shapes, level_sizes, write_levels
from napari_tokenunify.export.pyramid import level_steps

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Triple

_CHUNK: Final = (64, 64, 64)
_BLOCK: Final = (64, 256, 256)  # what is written at once, in several files
_HEADER: Final = struct.Struct(">2H3I")  # mode, number of axes, extent x, y, z
_GZIP: Final = 31  # for zlib: with the header of gzip


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write N5, gzip, into an empty folder or one that `write` has begun.

    Parameters
    ----------
    content : Content
        What to write.
    path : Path
        The folder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    content = content.as_type(np.dtype(np.float32)) if content.dtype == np.float16 else content
    _write_json(path / "attributes.json", {"n5": "4.0.0"})
    levels = _Levels(path, content)
    yield from write_levels(content, levels, path)
    _write_json(path / "attributes.json", {"n5": "4.0.0", **levels.about(), KEY: content.provenance})


def is_ours(path: Path) -> bool:
    """Whether a folder is one that `write` made."""
    return KEY in json.loads((path / "attributes.json").read_text(encoding="utf-8"))


class _Levels:
    """The levels of a container."""

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.content = path, content
        self.block, self.piece = _BLOCK, _CHUNK
        self._steps = level_steps(content.shape, content.voxel_size_nm)
        unit = level_sizes(None, self._steps)
        self.factors = [[int(x), int(y), int(z)] for z, y, x in unit]

    def create(self, level: int, shape: Triple) -> _Level:
        """Make a level, or open it if it is there."""
        folder = self.path / f"s{level}"
        folder.mkdir(exist_ok=True)
        about: dict[str, Any] = {
            "dimensions": shape[::-1],
            "blockSize": _CHUNK[::-1],
            "dataType": self.content.dtype.name,
            "compression": {"type": "gzip", "level": 1},
            "downsamplingFactors": self.factors[level],
        }
        _write_json(folder / "attributes.json", {**about, **self._place()})
        return _Level(folder, shape, self.content.dtype)

    def about(self) -> dict[str, Any]:
        """Return the attributes of the group."""
        finest = level_shapes(self.content.shape, self._steps)[0]
        return {"multiScale": True, "scales": self.factors, "dimensions_s0": finest[::-1], **self._place()}

    def _place(self) -> dict[str, Any]:
        size = self.content.voxel_size_nm
        if size is None:
            return {}
        resolution = list(size[::-1])
        return {
            "pixelResolution": {"unit": "nm", "dimensions": resolution},
            "resolution": resolution,
            "offset": list(self.content.start[::-1]),
        }


class _Level:
    """One dataset, an array (z, y, x)."""

    def __init__(self, folder: Path, shape: Triple, dtype: np.dtype[Any]) -> None:
        self.folder, self.shape, self.dtype = folder, shape, dtype

    def __setitem__(self, index: tuple[slice, ...], voxels: NDArray[Any]) -> None:
        """Write a box that begins with a chunk, and ends with one or with the array."""
        for place in product(*(range(0, n, c) for n, c in zip(voxels.shape, _CHUNK, strict=True))):
            chunk = voxels[tuple(slice(a, a + c) for a, c in zip(place, _CHUNK, strict=True))]
            number = [(part.start + a) // c for part, a, c in zip(index, place, _CHUNK, strict=True)]
            packer = zlib.compressobj(1, wbits=_GZIP)
            packed = packer.compress(chunk.astype(self.dtype.newbyteorder(">")).tobytes()) + packer.flush()
            path = self.folder.joinpath(*map(str, reversed(number)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_HEADER.pack(0, 3, *reversed(chunk.shape)) + packed)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read a box."""
        return open_volume(self.folder).levels[0][index]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - of a path that may be a name in use
