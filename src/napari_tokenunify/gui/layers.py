"""Volumes as napari layers: lazy, multiscale where the file has levels, with scale, units and axis labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Layer
    from napari.types import LayerData

    from napari_tokenunify.data import Volume
    from napari_tokenunify.geometry import Triple

LABEL_WORDS = re.compile(
    r"label|seg|neuron|annot|mask|(^|_)ids?$|fragment|watershed|supervoxel|ground.?truth|(^|_)gt(_|$)|ffn"
)


def volume_layer(volume: Volume, *, name: str | None = None, as_labels: bool | None = None) -> LayerData:
    """Make what napari needs to show a volume.

    Parameters
    ----------
    volume : Volume
        Shown lazily: napari reads what is on the screen.
    name : str, optional
        Name of the layer; by default made from the address.
    as_labels : bool, optional
        Whether it holds ids. By default true for integers of 32 bits or more, and for smaller ones whose dataset
        or file is named like labels.

    Returns
    -------
    tuple
        (data, layer attributes, "image" or "labels"), as a napari reader returns it. The scale is in nm where the
        voxel size is known; where it is not, the layer counts in pixels and its metadata says so.
    """
    labels = _holds_labels(volume) if as_labels is None else as_labels
    levels = [volume.dask(level) for level in range(len(volume.levels))]
    kind: Literal["image", "labels"] = "labels" if labels else "image"
    attributes: dict[str, Any] = {
        "name": name or layer_name(volume),
        **grid_of(volume),
        "multiscale": len(levels) > 1,
        "metadata": {"tokenunify": {**volume.provenance, "voxel_size_nm": volume.voxel_size_nm}},
    }
    if labels:
        attributes["opacity"] = 0.4  # the membranes below stay visible
    return levels if len(levels) > 1 else levels[0], attributes, kind


def grid_of(volume: Volume, origin: Triple = (0, 0, 0)) -> dict[str, Any]:
    """Return scale, translate, units and axis labels of a layer whose first voxel is this one (z, y, x) of a volume."""
    known = volume.voxel_size_nm is not None
    size, start = volume.voxel_size_nm or (1.0, 1.0, 1.0), volume.origin_nm if known else (0.0, 0.0, 0.0)
    return {
        "scale": size,
        "translate": [first + step * voxel for first, step, voxel in zip(start, origin, size, strict=True)],
        "units": ("nm" if known else "pixel",) * 3,
        "axis_labels": ("z", "y", "x"),
    }


def layer_address(layer: Layer) -> str | None:
    """Return where a layer's data lie, if that is a file we can open; None if they are in memory."""
    ours = layer.metadata.get("tokenunify", {})
    if "uri" in ours:
        return str(ours["uri"])
    return None if layer.source.path is None else str(layer.source.path)


def own_layer(viewer: Viewer, name: str) -> Any:
    """Return the layer that was made here under a name, whatever it is called now; None if there is none.

    The user may have one of that name, and copies of ours, so a layer is known by what its metadata say.
    """
    ours = [layer for layer in viewer.layers if layer.metadata.get("tokenunify", {}).get("layer") == name]
    return next((layer for layer in ours if layer.name == name), ours[0] if ours else None)


def own_metadata(segments: Layer, name: str) -> dict[str, Any]:
    """Return the metadata of a layer that is made here for the same project as another one."""
    return {"tokenunify": {**segments.metadata.get("tokenunify", {}), "layer": name}}


def layer_name(volume: Volume) -> str:
    """Return a short name: the file's, and the dataset's where there is one."""
    where = Path(str(volume.provenance.get("uri", volume.uri)).split("::")[0].rstrip("/"))
    stem = where.name.split(".")[0] or where.name
    inner = str(volume.provenance.get("inner", ""))
    return f"{stem} {inner.split('/')[-1]}" if inner else stem


def _holds_labels(volume: Volume) -> bool:
    if volume.dtype.kind == "f":
        return False
    if volume.dtype.itemsize >= 4:
        return True
    inner = str(volume.provenance.get("inner", "")).lower()
    name = inner or layer_name(volume).lower()
    return any(LABEL_WORDS.search(part) for part in name.split("/"))


def volume_layers(volumes: Sequence[Volume]) -> list[LayerData]:
    """Make layers of several volumes of one file: images below labels, and only the first of each kind visible."""
    layers = sorted((volume_layer(volume) for volume in volumes), key=lambda layer: layer[2] == "labels")
    seen: set[str] = set()
    for _, attributes, kind in layers:
        attributes["visible"] = kind not in seen
        seen.add(kind)
    return layers
