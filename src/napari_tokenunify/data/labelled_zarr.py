"""Writing OME-Zarr: a volume with its labels, for the samples, and empty labels to be painted.

OME-Zarr 0.5 on Zarr 3 is the released version of the specification and what current readers take (napari-ome-zarr,
ome-zarr, Neuroglancer, WEBKNOSSOS). The metadata is a page of JSON, so it is written here: the library `ome-zarr`
would bring a web server and two HTTP stacks as dependencies. Tests read the result with that library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import zarr

from napari_tokenunify.errors import VolumeError
from napari_tokenunify.project import whole_folder

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

_CHUNK = (32, 128, 128)
_PAINTED = (4, 256, 256)  # a stroke lies in one section: few sections a chunk, so that little is written for it
_MOST_LEVELS = 3
_SMALLEST_LEVEL = 64  # voxels along y or x: a coarser level would be smaller than a thumbnail


def write_labelled(
    folder: Path, raw: NDArray[np.uint8], labels: NDArray[np.unsignedinteger[Any]], voxel_size_nm: VoxelSize
) -> Path:
    """Write raw data, and labels under `labels/neurons`, with two or three levels; all of it or nothing.

    Parameters
    ----------
    folder : Path
        What to create; its parent folders are made.
    raw : ndarray of uint8, shape (Z, Y, X)
        Grey values; coarser levels hold means.
    labels : ndarray of unsigned integers, shape (Z, Y, X)
        Neurons; coarser levels hold every second voxel.
    voxel_size_nm : tuple of float
        (z, y, x) in nm.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    VolumeError
        If something is there already, or it cannot be written.
    """
    with whole_folder(folder, _as_volume_error) as unfinished:
        _write(unfinished, folder.stem, raw, labels, voxel_size_nm)
    return folder


def create_labels(folder: Path, shape: Triple, voxel_size_nm: VoxelSize | None, dtype: str = "uint32") -> Path:
    """Make an OME-Zarr of labels that are 0 everywhere, to be painted; no chunk takes room before it is.

    Parameters
    ----------
    folder : Path
        What to create; its parent folders are made.
    shape : tuple of int
        (z, y, x) in voxels.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm; None if unknown.
    dtype : str
        An unsigned integer type.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    VolumeError
        If something is there already, or it cannot be written.
    """
    with whole_folder(folder, _as_volume_error) as unfinished:
        group = zarr.open_group(unfinished, mode="w", zarr_format=3)
        if voxel_size_nm is not None:
            scales = _multiscales(folder.stem, voxel_size_nm, [(1, 1, 1)])
            group.attrs["ome"] = {"version": "0.5", "multiscales": [scales], "image-label": {}}
        chunks = tuple(min(chunk, n) for chunk, n in zip(_PAINTED, shape, strict=True))
        group.create_array("0", shape=shape, dtype=dtype, chunks=chunks, dimension_names=("z", "y", "x"), fill_value=0)
    return folder


def _as_volume_error(sentence: str) -> VolumeError:
    uri, _, problem = sentence.partition(": ")
    return VolumeError(uri, problem)


def _write(
    folder: Path,
    name: str,
    raw: NDArray[np.uint8],
    labels: NDArray[np.unsignedinteger[Any]],
    voxel_size_nm: VoxelSize,
) -> None:
    factors = _factors(raw.shape, voxel_size_nm)
    scales = [(1, 1, 1), *factors]
    image = zarr.open_group(folder, mode="w", zarr_format=3)
    image.attrs["ome"] = {"version": "0.5", "multiscales": [_multiscales(name, voxel_size_nm, scales)]}
    image.create_group("labels").attrs["ome"] = {"version": "0.5", "labels": ["neurons"]}
    neurons = image.create_group("labels/neurons")
    neurons.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [_multiscales("neurons", voxel_size_nm, scales)],
        "image-label": {"source": {"image": "../../"}},
    }
    for level, scale in enumerate(scales):
        _put(image, str(level), _means(raw, scale))
        thinned = tuple(slice(0, n // step * step, step) for n, step in zip(labels.shape, scale, strict=True))
        _put(neurons, str(level), labels[thinned])


def _put(group: zarr.Group, name: str, array: NDArray[Any]) -> None:
    chunks = tuple(min(chunk, n) for chunk, n in zip(_CHUNK, array.shape, strict=True))
    stored = group.create_array(
        name, shape=array.shape, dtype=array.dtype, chunks=chunks, dimension_names=("z", "y", "x"), fill_value=0
    )
    stored[:] = array


def _factors(shape: tuple[int, ...], voxel_size_nm: VoxelSize) -> list[Triple]:
    """Return how much coarser each further level is: halved along the axes of finest voxels, so they become cubes."""
    factors: list[Triple] = []
    factor = [1, 1, 1]
    while len(factors) < _MOST_LEVELS - 1:
        size = [f * s for f, s in zip(factor, voxel_size_nm, strict=True)]
        factor = [f * 2 if s < 1.5 * min(size) else f for f, s in zip(factor, size, strict=True)]
        smaller = [n // f for n, f in zip(shape, factor, strict=True)]
        if min(smaller) < 1 or max(smaller[1:]) < _SMALLEST_LEVEL:
            break
        factors.append((factor[0], factor[1], factor[2]))
    return factors


def _means(raw: NDArray[np.uint8], factor: Triple) -> NDArray[np.uint8]:
    """Return the mean of each block of voxels, rounded; what does not fill a block at the end is left out."""
    z, y, x = (n // f for n, f in zip(raw.shape, factor, strict=True))
    blocks = raw[: z * factor[0], : y * factor[1], : x * factor[2]].reshape(z, factor[0], y, factor[1], x, factor[2])
    count = math.prod(factor)
    total = blocks.sum(axis=(1, 3, 5), dtype="uint32")
    means: NDArray[np.uint8] = ((total + count // 2) // count).astype("uint8")
    return means


def _multiscales(name: str, voxel_size_nm: VoxelSize, scales: list[Triple]) -> dict[str, Any]:
    datasets = []
    for level, scale in enumerate(scales):
        size = [s * n for s, n in zip(scale, voxel_size_nm, strict=True)]
        centre = [(s - n) / 2 for s, n in zip(size, voxel_size_nm, strict=True)]  # of a level's first voxel
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": size}]
        if level:
            transforms.append({"type": "translation", "translation": centre})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    return {"name": name, "axes": axes, "datasets": datasets}
