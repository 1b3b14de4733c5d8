"""OME-Zarr: 0.5 on Zarr v3 with shards, 0.4 on Zarr v2; coarser levels hold majorities, or means of images.

The metadata are a page of JSON, written here for the reason that `data.labelled_zarr` gives; tests read the result with
`ome-zarr`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numcodecs
import zarr
from zarr.codecs import ZstdCodec

from napari_tokenunify.export.content import KEY
from napari_tokenunify.export.levels import level_sizes, write_levels
from napari_tokenunify.export.pyramid import level_steps

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import numpy as np

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Triple

_CHUNK: Final = (32, 128, 128)
_SHARD: Final = (32, 512, 512)  # what is written at once


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write OME-Zarr 0.5, a Zarr v3 group, into an empty folder.

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
    yield from _write(content, path, "0.5")


def write_04(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write OME-Zarr 0.4, a Zarr v2 group, for programs that read no Zarr v3; as `write` else."""
    yield from _write(content, path, "0.4")


def is_ours(path: Path) -> bool:
    """Whether a folder is one that `write` or `write_04` made."""
    return KEY in zarr.open_group(path, mode="r").attrs


def _write(content: Content, path: Path, version: str) -> Generator[Event, None, None]:
    group = zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2)
    yield from write_levels(content, _Levels(group, content.dtype), path)
    group.attrs.update({**_ome(content, version), KEY: content.provenance})


class _Levels:
    """The levels of a group, called 0, 1, ..."""

    def __init__(self, group: zarr.Group, dtype: np.dtype[Any]) -> None:
        self.group, self.dtype = group, dtype
        self.block, self.piece = _SHARD, _CHUNK

    def create(self, level: int, shape: Triple) -> Any:
        """Make a level, or open it if it is there."""
        name = str(level)
        return self.group[name] if name in self.group else _create(self.group, name, shape, self.dtype)


def _create(group: zarr.Group, name: str, shape: Triple, dtype: np.dtype[Any]) -> Any:
    chunks = tuple(min(chunk, n) for chunk, n in zip(_CHUNK, shape, strict=True))
    if group.metadata.zarr_format == 2:
        return group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            compressors=numcodecs.Zstd(level=3),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )
    shards = tuple(-(-min(shard, n) // chunk) * chunk for shard, n, chunk in zip(_SHARD, shape, chunks, strict=True))
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("z", "y", "x"),
        fill_value=0,
    )


def _ome(content: Content, version: str) -> dict[str, Any]:
    """Return the attributes that make the group an image, or a label image."""
    sizes = level_sizes(content.voxel_size_nm, level_steps(content.shape, content.voxel_size_nm))
    datasets = []
    for level, size in enumerate(sizes):
        centre = [a + (s - f) / 2 for a, s, f in zip(content.start, size, sizes[0], strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(size)}]
        if any(centre):
            transforms.append({"type": "translation", "translation": centre})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    unit = {"unit": "nanometer"} if content.voxel_size_nm else {}
    image = {
        "name": content.name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": datasets,
        "type": "majority" if content.is_labels else "mean",
    }
    if version == "0.5":
        ome: dict[str, Any] = {"version": version, "multiscales": [image]}
        return {"ome": {**ome, "image-label": {}} if content.is_labels else ome}
    old: dict[str, Any] = {"multiscales": [{"version": version, **image}]}
    return {**old, "image-label": {"version": version}} if content.is_labels else old
