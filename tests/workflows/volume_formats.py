"""One array written in every format the plugin opens: for tests that ask the same of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import tifffile
import z5py
import zarr
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

VOXEL_SIZE_NM = (40.0, 8.0, 4.0)
CHUNKS = (4, 16, 16)
Z_NM, Y_NM, X_NM = VOXEL_SIZE_NM


def _npy(folder: Path, array: np.ndarray) -> str:
    np.save(folder / "a.npy", array)
    return str(folder / "a.npy")


def _npy_big_endian(folder: Path, array: np.ndarray) -> str:
    np.save(folder / "a.npy", array.astype(array.dtype.newbyteorder(">")))
    return str(folder / "a.npy")


def _npy_fortran(folder: Path, array: np.ndarray) -> str:
    np.save(folder / "a.npy", np.asfortranarray(array))
    return str(folder / "a.npy")


def _npz(folder: Path, array: np.ndarray) -> str:
    np.savez(folder / "a.npz", raw=array, meta=json.dumps({"voxel_size_nm": VOXEL_SIZE_NM}))
    return str(folder / "a.npz")


def _npz_compressed(folder: Path, array: np.ndarray) -> str:
    np.savez_compressed(folder / "a.npz", raw=array, voxel_size_nm=VOXEL_SIZE_NM)
    return f"{folder / 'a.npz'}::raw"


def _hdf5(folder: Path, array: np.ndarray) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=array).attrs["resolution"] = VOXEL_SIZE_NM
    return str(folder / "a.h5")


def _hdf5_gzip(folder: Path, array: np.ndarray) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        options = {"chunks": CHUNKS, "compression": "gzip", "fletcher32": True}
        dataset = file.create_dataset("main", data=array.astype(array.dtype.newbyteorder(">")), **options)
        dataset.attrs["element_size_um"] = np.array(VOXEL_SIZE_NM) / 1000
    return f"{folder / 'a.h5'}::main"


def _tiff(folder: Path, array: np.ndarray) -> str:
    tifffile.imwrite(folder / "a.tif", array, metadata=None)
    return str(folder / "a.tif")


def _tiff_big_endian(folder: Path, array: np.ndarray) -> str:
    options = {"byteorder": ">", "compression": "zlib", "predictor": True, "rowsperstrip": 7}
    tifffile.imwrite(folder / "a.tif", array, metadata=None, **options)
    return str(folder / "a.tif")


def _bigtiff(folder: Path, array: np.ndarray) -> str:
    tifffile.imwrite(folder / "a.tif", array, bigtiff=True, tile=(16, 16), compression="lzma")
    return str(folder / "a.tif")


def _ome_tiff(folder: Path, array: np.ndarray) -> str:
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", VOXEL_SIZE_NM, strict=True)}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"}
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, array, metadata={"axes": "ZYX", **sizes, **units}, tile=(16, 16), compression="zlib")
    return str(path)


def _imagej_tiff(folder: Path, array: np.ndarray) -> str:
    metadata = {"axes": "ZYX", "spacing": Z_NM / 1000, "unit": "um"}
    tifffile.imwrite(folder / "a.tif", array, imagej=True, resolution=(1000 / X_NM, 1000 / Y_NM), metadata=metadata)
    return str(folder / "a.tif")


def _png_folder(folder: Path, array: np.ndarray) -> str:
    for number, section in enumerate(array):
        Image.fromarray(section).save(folder / f"section_{number}.png")
    return str(folder)


def _tiff_folder(folder: Path, array: np.ndarray) -> str:
    for number, section in enumerate(array):
        tifffile.imwrite(folder / f"section_{number}.tif", section, compression="zlib")
    return str(folder)


def _zarr(folder: Path, array: np.ndarray, version: int) -> str:
    path = folder / "a.zarr"
    stored = zarr.create_array(path, shape=array.shape, chunks=CHUNKS, dtype=array.dtype, zarr_format=version)
    stored[:] = array
    stored.attrs["resolution"] = VOXEL_SIZE_NM
    return str(path)


def _zarr_2(folder: Path, array: np.ndarray) -> str:
    return _zarr(folder, array, 2)


def _zarr_3(folder: Path, array: np.ndarray) -> str:
    return _zarr(folder, array, 3)


def _ome_zarr(folder: Path, array: np.ndarray, version: str) -> str:
    path = folder / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(2):
        part = array[:, :: 2**level, :: 2**level]
        separator = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == "0.4" else {}
        group.create_array(str(level), shape=part.shape, chunks=CHUNKS, dtype=part.dtype, **separator)[:] = part
        scale = [Z_NM, Y_NM * 2**level, X_NM * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    image = {"axes": axes, "datasets": datasets, "name": "image"}
    if version == "0.4":
        group.attrs["multiscales"] = [{**image, "version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    return str(path)


def _ome_zarr_04(folder: Path, array: np.ndarray) -> str:
    return _ome_zarr(folder, array, "0.4")


def _ome_zarr_05(folder: Path, array: np.ndarray) -> str:
    return _ome_zarr(folder, array, "0.5")


def _n5(folder: Path, array: np.ndarray) -> str:
    with z5py.File(str(folder / "a.n5"), "w") as file:
        dataset = file.create_dataset("volumes/raw", data=array, chunks=CHUNKS, compression="gzip")
        dataset.attrs["resolution"] = VOXEL_SIZE_NM[::-1]
        dataset.attrs["units"] = ["nm", "nm", "nm"]
    return f"{folder / 'a.n5'}::volumes/raw"


def _precomputed(folder: Path, array: np.ndarray) -> str:
    ts = pytest.importorskip("tensorstore", reason="the extra 'precomputed' is not installed")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(folder / "a.precomputed")},
        "multiscale_metadata": {"type": "image", "data_type": array.dtype.name, "num_channels": 1},
        "scale_metadata": {
            "size": array.shape[::-1],
            "encoding": "raw",
            "chunk_size": CHUNKS[::-1],
            "resolution": VOXEL_SIZE_NM[::-1],
            "voxel_offset": [0, 0, 0],
        },
    }
    ts.open(spec, create=True).result()[..., 0] = array.T
    return str(folder / "a.precomputed")


# Format -> what writes an array to an empty folder and returns its address.
WRITERS: dict[str, Callable[[Path, np.ndarray], str]] = {
    "npy": _npy,
    "npy big-endian": _npy_big_endian,
    "npy Fortran": _npy_fortran,
    "npz": _npz,
    "npz compressed": _npz_compressed,
    "HDF5": _hdf5,
    "HDF5 gzip": _hdf5_gzip,
    "TIFF": _tiff,
    "TIFF big-endian": _tiff_big_endian,
    "BigTIFF": _bigtiff,
    "OME-TIFF": _ome_tiff,
    "ImageJ TIFF": _imagej_tiff,
    "PNG folder": _png_folder,
    "TIFF folder": _tiff_folder,
    "Zarr v2": _zarr_2,
    "Zarr v3": _zarr_3,
    "OME-Zarr 0.4": _ome_zarr_04,
    "OME-Zarr 0.5": _ome_zarr_05,
    "N5": _n5,
    "precomputed": _precomputed,
}
# These cannot say how large a voxel is.
WITHOUT_VOXEL_SIZE = {
    "npy", "npy big-endian", "npy Fortran", "TIFF", "TIFF big-endian", "BigTIFF", "PNG folder", "TIFF folder"
}  # fmt: skip
