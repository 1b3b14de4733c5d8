"""Layers that are in no file: where their data lie, or how they are kept in the project so that a job can read them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.annotation_files import read_drawing
from napari_tokenunify.data.formats.placement import nm_per_unit
from napari_tokenunify.errors import ConfigError, ProjectError
from napari_tokenunify.gui.layers import layer_address
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.layers import Image, Labels, Layer, Points
    from numpy.typing import NDArray

    from napari_tokenunify.data import Volume
    from napari_tokenunify.data.drawn_labels import Unit
    from napari_tokenunify.geometry import VoxelSize

_IDS = ("id", "neuron", "label")  # columns of a Points layer that may hold neurons


def finest(layer: Image | Labels) -> Any:
    """Return a layer's data, of a multiscale layer its finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def file_of(layer: Layer) -> str | None:
    """Return the address of a layer's data if `open_volume` may open it; None if they are in memory alone."""
    address = layer_address(layer)
    if address is not None or not hasattr(layer, "multiscale"):
        return address
    data = finest(layer)
    import zarr  # here, as a widget that opens would wait for it
    from zarr.storage import LocalStore

    if isinstance(data, zarr.Array) and isinstance(data.store, LocalStore):
        return str(Path(data.store.root) / data.path)
    return None


def in_memory(layer: Image | Labels) -> NDArray[Any]:
    """Return the array of a layer, to be kept.

    Raises
    ------
    ConfigError
        If it has not three axes, or lies in no memory.
    """
    array = array_of(layer)
    if array is None:
        raise ConfigError(
            f"{layer.name}: is neither opened from a file nor a 3-D array (z, y, x) in memory: save it to a file, open "
            "that, and choose it here."
        )
    return array


def array_of(layer: Image | Labels) -> NDArray[Any] | None:
    """Return the array (z, y, x) of a layer, of a kind that can be kept; None if it is not in memory."""
    data = finest(layer)
    if not isinstance(data, np.ndarray) or data.ndim != 3 or layer.ndim != 3:  # a picture's third axis may be colours
        return None
    return data.astype(np.uint8) if data.dtype in {np.dtype(bool), np.dtype(np.int8)} else data


def keep_array(array: NDArray[Any], path: Path) -> str:
    """Write an array as .npy, and return its address; for a thread.

    Raises
    ------
    ProjectError
        If it cannot be written.
    """
    with whole_file(path, ProjectError) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return str(path)


def keep_image(array: NDArray[Any], path: Path, voxel_size_nm: VoxelSize, origin_nm: VoxelSize) -> str:
    """Write an array as OME-Zarr, which says where in the world it lies, and return its address; for a thread.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    from napari_tokenunify.export import Content, write_export  # here, as they load zarr

    content = Content.of_array(array, is_labels=False, voxel_size_nm=voxel_size_nm, name="image")
    content = replace(content, volume=replace(content.volume, origin_nm=origin_nm))
    for _ in write_export(content, path, "ome-zarr", overwrite=True):
        pass
    return str(path)


@dataclass(frozen=True, eq=False)
class Nodes:
    """Points of a layer in voxels of a volume.

    Attributes
    ----------
    voxels : ndarray of float, shape (N, 3)
        z, y, x.
    neurons : ndarray of int64, shape (N,)
        The id of each.
    """

    voxels: NDArray[np.float64]
    neurons: NDArray[np.int64]

    @classmethod
    def of(cls, layer: Points, volume: Volume) -> Nodes:
        """Take the points of a layer; a column id, neuron or label says whose they are, else each is a neuron.

        Raises
        ------
        ConfigError
            If there are no points, they are not in 3-D or in units that cannot be compared with the volume's, or a
            column of ids holds other things.
        """
        if layer.ndim != 3 or not len(layer.data):
            raise ConfigError(f"{layer.name}: has no points in 3-D (z, y, x): add some, or choose another layer.")
        voxels = _in_voxels(layer, volume)
        column = next((name for name in _IDS if name in layer.features), None)
        ids = np.arange(1, len(voxels) + 1) if column is None else np.asarray(layer.features[column])
        try:
            whole = ids.astype(np.int64)
            is_whole = bool((whole == ids.astype(float)).all() and (whole > 0).all())
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise ConfigError(f"{layer.name}: its column {column} must hold whole numbers from 1: the neuron of each.")
        return cls(voxels, whole)

    def keep(self, path: Path) -> str:
        """Write them as a CSV that `open_annotations` reads, and return its address; for a thread.

        Raises
        ------
        ProjectError
            If it cannot be written.
        """
        rows = zip(self.voxels.tolist(), self.neurons.tolist(), strict=True)
        return _keep_table(path, ("z", "y", "x", "id"), ([*voxel, neuron] for voxel, neuron in rows))


def _in_voxels(layer: Points, volume: Volume) -> NDArray[np.float64]:
    """Return where points lie in a volume; one that counts in pixels has the numbers of the image below it."""
    world = np.array([layer.data_to_world(point) for point in layer.data], float)
    units = [str(unit) for unit in layer.units]
    factors = [1.0 if unit == "pixel" else nm_per_unit(unit) for unit in units]
    if None in factors or (volume.voxel_size_nm is None and set(units) != {"pixel"}):
        raise ConfigError(
            f"{layer.name}: counts in {', '.join(dict.fromkeys(units))}, which cannot be compared with the image's "
            f"{'pixels' if volume.voxel_size_nm is None else 'nm'}: give the layer the units and scale of the image."
        )
    if volume.voxel_size_nm is None:
        return world
    inside: NDArray[np.float64] = (world * np.array(factors, float) - volume.origin_nm) / volume.voxel_size_nm
    return inside


def keep_skeletons(files: Sequence[Path], volume: Volume, unit: Unit, path: Path) -> str:
    """Write the skeletons of SWC files, which do not say their unit, as a CSV in voxels; return its address.

    Raises
    ------
    AnnotationError
        If a file is damaged.
    ProjectError
        If it cannot be written.
    """
    drawing = read_drawing(files, volume, unit)
    edges = enumerate(zip(drawing.lines.tolist(), drawing.neurons.tolist(), strict=True))
    rows = ([i, "line", end, *ends[end], neuron] for i, (ends, neuron) in edges for end in (0, 1))
    return _keep_table(path, ("index", "shape-type", "vertex-index", "axis-0", "axis-1", "axis-2", "id"), rows)


def _keep_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    with whole_file(path, ProjectError) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
    return str(path)
