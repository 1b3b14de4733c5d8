"""OME-Zarr: 0.5 on Zarr v3 with shards, 0.4 on Zarr v2; coarser levels hold majorities, or means of images.

The metadata are a page of JSON, written here for the reason that `data.labelled_zarr` gives; tests read the result with
`ome-zarr`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from napari_tokenunify.events import Progress
from napari_tokenunify.export.content import KEY
from napari_tokenunify.export.pyramid import coarser, level_steps, majority, mean
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.geometry import Box, Triple

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
    steps = level_steps(content.shape, content.voxel_size_nm)
    shapes = [content.shape]
    for step in steps:
        shapes.append(coarser(shapes[-1], step))
    grids = [BlockGrid(shape, _SHARD, (0, 0, 0)) for shape in shapes]
    total, done = sum(map(len, grids)), 0
    group = zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2)
    what = "writing segments" if content.is_labels else "writing"
    above: Any = None
    for level, grid in enumerate(grids):
        array = _create(group, str(level), grid.shape, content.dtype)
        for block in grid:
            yield Progress(done, total, what)
            if level == 0:
                array[block.core.slices] = content.read(block.core)
            else:
                array[block.core.slices] = _reduced(above, block.core, steps[level - 1], is_labels=content.is_labels)
            done += 1
        above = array
    group.attrs.update({**_ome(content, steps, version), KEY: content.provenance})
    yield Progress(total, total, what)


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


def _reduced(above: Any, box: Box, step: Triple, *, is_labels: bool) -> NDArray[Any]:
    """Return a box of the next level, made of the level above piece by piece."""
    out = np.empty(box.shape, above.dtype)
    for piece in BlockGrid(box.shape, _CHUNK, (0, 0, 0)):
        there = piece.core.shifted(box.start)
        fine = tuple(
            slice(a * f, min(b * f, n)) for a, b, f, n in zip(there.start, there.stop, step, above.shape, strict=True)
        )
        out[piece.core.slices] = (majority if is_labels else mean)(above[fine], step)
    return out


def _ome(content: Content, steps: list[Triple], version: str) -> dict[str, Any]:
    """Return the attributes that make the group an image, or a label image."""
    size = finest = content.voxel_size_nm or (1.0, 1.0, 1.0)
    datasets = []
    for level, step in enumerate([(1, 1, 1), *steps]):
        size = size[0] * step[0], size[1] * step[1], size[2] * step[2]
        centre = [a + (s - f) / 2 for a, s, f in zip(content.start, size, finest, strict=True)]
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
