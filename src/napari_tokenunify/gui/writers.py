"""What napari calls when layers are saved: labels and images with the axes z, y, x, block by block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.utils import progress

from napari_tokenunify.data.formats.placement import nm_per_unit
from napari_tokenunify.data.source import as_voxel_size
from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Progress

if TYPE_CHECKING:
    from napari_tokenunify.export import Content
    from napari_tokenunify.geometry import VoxelSize

_KINDS: Final = {".zarr": "ome-zarr", ".tif": "tiff", ".tiff": "tiff", ".h5": "hdf5", ".hdf5": "hdf5"}


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer with the axes z, y, x.

    Parameters
    ----------
    path : str
        Ends in .zarr (OME-Zarr 0.5), .tif, .tiff, .h5 or .hdf5 (as CREMI has it).
    data : array-like, or sequence of them for a layer with levels
        Read block by block; of several levels the finest is written.
    attributes : dict
        Of the layer; `scale`, `units`, `translate`, `name` and what the metadata say of its making are kept.

    Returns
    -------
    list of str
        The path, as napari asks for it.

    Raises
    ------
    ExportError
        If the layer has other axes, something else is at `path`, or it cannot be written.
    VolumeError
        If the data cannot be read, or are neither intensities nor labels.
    """
    return _write(path, data, attributes, is_labels=True)


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an Image layer with the axes z, y, x; as `write_labels`."""
    return _write(path, data, attributes, is_labels=False)


def _write(path: str, data: Any, attributes: dict[str, Any], *, is_labels: bool) -> list[str]:
    from napari_tokenunify.export import write_export

    content = _content(data, attributes, is_labels=is_labels)
    target = Path(path).expanduser().absolute()
    kind = _KINDS.get(target.suffix.lower())
    if kind is None:
        raise ExportError(f"{path}: has none of the endings {', '.join(_KINDS)}, which say the format: give it one.")
    with progress(total=None, desc=f"Saving {content.name}") as bar:
        for event in write_export(content, target, kind, overwrite=True):
            if isinstance(event, Progress):
                bar.total = event.total
                bar.update(event.done - bar.n)
    return [str(target)]


def _content(data: Any, attributes: dict[str, Any], *, is_labels: bool) -> Content:
    """Return a layer's voxels with their size and place."""
    from napari_tokenunify.export import Content

    name = str(attributes.get("name") or ("labels" if is_labels else "image"))
    finest = data[0] if attributes.get("multiscale") else data
    if len(finest.shape) != 3 or attributes.get("rgb"):
        raise ExportError(
            f"The layer {name} has the shape {tuple(finest.shape)}; written are layers of the three axes z, y, x "
            "without colours: save it with another plugin."
        )
    if finest.dtype == np.bool_ or finest.dtype == np.int8:
        finest = finest.astype(np.uint8 if finest.dtype == np.bool_ else np.int16)
    size, first = _placement(attributes)
    content = Content.of_array(finest, is_labels=is_labels, voxel_size_nm=size, name=name)
    known = attributes.get("metadata", {}).get("tokenunify")
    return replace(
        content,
        volume=replace(content.volume, origin_nm=first),
        facts={"layer": known} if isinstance(known, dict) else {},
    )


def _placement(attributes: dict[str, Any]) -> tuple[VoxelSize | None, VoxelSize]:
    """Return voxel size and first corner in nm; None and zeros for a layer that counts in pixels."""
    units = [nm_per_unit(unit) for unit in attributes.get("units") or ()]
    if len(units) != 3 or None in units:
        return None, (0.0, 0.0, 0.0)
    nm = [unit or 0.0 for unit in units]
    scale, shift = attributes.get("scale", (1.0,) * 3), attributes.get("translate", (0.0,) * 3)
    size = as_voxel_size([float(a) * unit for a, unit in zip(scale, nm, strict=True)])
    z, y, x = (float(a) * unit for a, unit in zip(shift, nm, strict=True))
    return size, (z, y, x)
