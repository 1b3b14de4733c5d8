"""Neuroglancer precomputed: levels in shards, written with tensorstore (extra `precomputed`), and segment properties.

Formats: https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed.
"""

from __future__ import annotations

import csv
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Message
from napari_tokenunify.export.content import KEY, Segments
from napari_tokenunify.export.levels import level_sizes, write_levels
from napari_tokenunify.export.pyramid import level_steps
from napari_tokenunify.metrics import ContingencySum, contingency

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Triple, VoxelSize

AGGLOMERATION: Final = "agglomeration.csv"
LAYER: Final = "neuroglancer_layer.json"
_CHUNK: Final = (64, 64, 64)
_BLOCK: Final = (256, 256, 256)  # of one shard, which is written at once
PROPERTIES: Final = "segment_properties"
_TYPES: Final = ("uint8", "uint16", "uint32", "uint64", "float32")


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write a precomputed volume into an empty folder or one that `write` has begun.

    Parameters
    ----------
    content : Content
        What to write.
    path : Path
        The folder.

    Raises
    ------
    ExportError
        If tensorstore is not installed, or the format has no such type of voxels.
    OSError
        If it cannot be written.
    """
    content = content.as_type(np.dtype(np.float32)) if content.dtype == np.float16 else content
    if content.dtype.name not in _TYPES:
        raise ExportError(f"Neuroglancer shows no voxels of the type {content.dtype}; choose OME-Zarr or HDF5.")
    if content.voxel_size_nm is None:
        yield Message("The voxel size is unknown, and Neuroglancer needs one: 1 nm is written.", "warning")
    sizes = ContingencySum()

    def count(ids: NDArray[Any]) -> None:
        sizes.add(contingency(ids, ids, ignore=(0,)))

    yield from write_levels(content, _Levels(path, content), path, count if content.is_labels else None)
    info = json.loads((path / "info").read_text(encoding="utf-8"))
    if content.is_labels:
        found = sizes.result()
        write_properties(path / PROPERTIES, found.segments, found.voxels, content.voxel_size_nm)
        info[PROPERTIES] = PROPERTIES
    info[KEY] = content.provenance
    (path / "info").write_text(json.dumps(info), encoding="utf-8")


def write_fragments(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write the fragments as a precomputed volume, and which segment each is in: a CSV file, and a layer for a viewer.

    Parameters
    ----------
    content : Content
        Segments.
    path : Path
        The folder.

    Raises
    ------
    ExportError
        As `write`, or if it is an array without fragments.
    OSError
        If it cannot be written.
    """
    if not isinstance(content, Segments):
        raise ExportError(f"{content.name}: has no fragments, it is an array; choose precomputed.")
    fragments = content.fragments()
    yield from write(fragments, path)
    rows = np.flatnonzero(fragments.written)
    rows = rows[rows > 0]
    segments = content.table[rows]
    content.written[segments] = True
    with (path / AGGLOMERATION).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("fragment", "segment"))
        table.writerows(zip(rows.tolist(), segments.tolist(), strict=True))
    order = np.argsort(segments, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(segments[order])) + 1)
    layer = {
        "type": "segmentation",
        "source": "precomputed://http://HOST/" + path.name.removeprefix(".").removesuffix(".part"),
        "equivalences": [[str(row) for row in group.tolist()] for group in groups if len(group) > 1],
    }
    (path / LAYER).write_text(json.dumps(layer), encoding="utf-8")


def is_ours(path: Path) -> bool:
    """Whether a folder is one that `write` or `write_fragments` made."""
    return KEY in json.loads((path / "info").read_text(encoding="utf-8"))


def write_properties(folder: Path, ids: NDArray[np.uint64], voxels: NDArray[np.int64], size: VoxelSize | None) -> None:
    """Write the size of each segment where Neuroglancer looks for what it lists.

    Parameters
    ----------
    folder : Path
        Is made.
    ids : ndarray of uint64, shape (n,)
        Segments.
    voxels : ndarray, shape (n,)
        How many each has.
    size : tuple of float or None
        Voxel size (z, y, x) in nm.
    """
    properties: list[dict[str, Any]] = [
        {"id": "voxels", "type": "number", "data_type": "float32", "values": voxels.astype(float).tolist()}
    ]
    if size is not None:
        volume = (voxels * (size[0] * size[1] * size[2] / 1e9)).tolist()
        properties.append({"id": "volume_um3", "type": "number", "data_type": "float32", "values": volume})
    inline = {"ids": [str(number) for number in ids.tolist()], "properties": properties}
    folder.mkdir(exist_ok=True)
    about = {"@type": "neuroglancer_segment_properties", "inline": inline}
    (folder / "info").write_text(json.dumps(about), encoding="utf-8")


class _Levels:
    """The scales of a volume."""

    def __init__(self, path: Path, content: Content) -> None:
        try:
            import tensorstore
        except ImportError as error:
            raise ExportError(
                "Neuroglancer precomputed needs tensorstore: pip install 'napari-tokenunify[precomputed]'."
            ) from error
        self._tensorstore, self._path, self._content = tensorstore, path, content
        self.block, self.piece = _BLOCK, _CHUNK
        self._sizes = level_sizes(content.voxel_size_nm, level_steps(content.shape, content.voxel_size_nm))

    def create(self, level: int, shape: Triple) -> _Scale:
        """Make a scale, or open it if it is there."""
        size = self._sizes[level]
        offset = [round(a / s) for a, s in zip(self._content.start, size, strict=True)]
        scale: dict[str, Any] = {
            "key": "_".join(f"{s:g}" for s in size[::-1]),
            "size": shape[::-1],
            "resolution": size[::-1],
            "voxel_offset": offset[::-1],
            "chunk_size": _CHUNK[::-1],
            "encoding": "raw",
            "sharding": _sharding(shape),
        }
        is_labels = self._content.is_labels
        if is_labels and self._content.dtype.itemsize >= 4:
            scale |= {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
        about = {"type": "segmentation" if is_labels else "image", "data_type": self._content.dtype.name}
        with _OsErrors():
            store = self._tensorstore.open(
                {
                    "driver": "neuroglancer_precomputed",
                    "kvstore": {"driver": "file", "path": f"{self._path}/"},
                    "multiscale_metadata": {**about, "num_channels": 1},
                    "scale_metadata": scale,
                },
                open=True,
                create=True,
            ).result()
        return _Scale(store, tuple(offset), shape)


def _sharding(shape: Triple) -> dict[str, Any]:
    """Return how chunks are laid into shards: those of a block lie in one, and nothing else does.

    The number of a chunk takes one bit of x, y, z in turn, as long as there are chunks along an axis, so the lowest six
    bits number the 4 x 4 x 4 chunks of a block.
    """
    grid = [-(-n // c) for n, c in zip(shape, _CHUNK, strict=True)]
    bits = [max(0, n - 1).bit_length() for n in grid]
    inside = [(b // c - 1).bit_length() for b, c in zip(_BLOCK, _CHUNK, strict=True)]
    low = sum(min(a, b) for a, b in zip(bits, inside, strict=True))
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": low,
        "minishard_bits": 0,
        "shard_bits": sum(bits) - low,
        "hash": "identity",
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }


class _Scale:
    """One scale as an array (z, y, x) whose first voxel is at zero."""

    def __init__(self, store: Any, offset: tuple[int, ...], shape: Triple) -> None:
        self._store, self._offset, self.shape = store, offset, shape
        self.dtype = np.dtype(store.dtype.numpy_dtype)

    def __setitem__(self, index: tuple[slice, ...], voxels: NDArray[Any]) -> None:
        """Write a box, whole shards of it."""
        with _OsErrors():
            self._there(index).write(voxels.transpose(2, 1, 0)).result()

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Read a box."""
        with _OsErrors():
            voxels: NDArray[Any] = self._there(index).read().result().transpose(2, 1, 0)
        return voxels

    def _there(self, index: tuple[slice, ...]) -> Any:
        z, y, x = (slice(part.start + o, part.stop + o) for part, o in zip(index, self._offset, strict=True))
        return self._store[x, y, z, 0]


class _OsErrors:
    """Turn what tensorstore raises for a full disk into what everybody else does."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise an OSError in place of an error that tells of one."""
        found = re.search(r"os_error_code='(\d+)'", str(error)) if error is not None else None
        if found:
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
