"""Time and memory of opening a volume and of reading one crop, for each format, up to 100 GB (sparse stores).

Each measurement is a fresh process. `peak` is the largest resident size of that whole process, Python and libraries
included; `cost` is what opening and reading added to it. Target: one crop from a 100 GB store costs less than 300 MB.

    python benchmarks/open_volume.py                     # 1, 10 and 100 GB
    python benchmarks/open_volume.py --gigabytes 1 --formats hdf5 tiff
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rows import Row, Rows, add_json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.geometry import Triple

TARGET_MB = 300
PLANE = 5000  # voxels along y and x
CHUNK = (64, 64, 64)
CROP = (32, 160, 160)
PROBE = """
import json, resource, sys, time
from napari_tokenunify.data import open_volume
from napari_tokenunify.geometry import Box
def now(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
before, start = now(), time.perf_counter()
volume = open_volume(sys.argv[1]); opened = time.perf_counter()
block = volume.read(volume.centre_box(tuple(json.loads(sys.argv[2])))); read = time.perf_counter()
peak = next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"open_s": opened - start, "crop_s": read - opened, "peak_mb": peak, "cost_mb": peak - before,
                  "sum": int(block.sum())}))
"""


def _texture(shape: Triple) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, shape, np.uint8)


def _middle(shape: Triple) -> tuple[slice, ...]:
    """Return slices of a region around the middle, aligned to chunks, that holds the crop."""
    return tuple(slice((n // 2 - 128) // 64 * 64, (n // 2 + 128) // 64 * 64) for n in shape)


def _fill(array: object, shape: Triple) -> None:
    part = _middle(shape)
    array[part] = _texture(tuple(s.stop - s.start for s in part))  # type: ignore[index]


def make_zarr2(folder: Path, shape: Triple) -> str:
    import zarr

    _fill(zarr.create_array(folder / "a.zarr", shape=shape, chunks=CHUNK, dtype="u1", zarr_format=2), shape)
    return str(folder / "a.zarr")


def make_zarr3(folder: Path, shape: Triple) -> str:
    import zarr

    _fill(zarr.create_array(folder / "b.zarr", shape=shape, chunks=CHUNK, dtype="u1", zarr_format=3), shape)
    return str(folder / "b.zarr")


def make_ome_zarr(folder: Path, shape: Triple) -> str:
    import zarr

    group = zarr.open_group(folder / "c.zarr", mode="w")
    datasets = []
    for level in range(3):
        size = (shape[0], shape[1] >> level, shape[2] >> level)
        _fill(group.create_array(str(level), shape=size, chunks=CHUNK, dtype="u1"), size)
        scale = [40.0, 4.0 * 2**level, 4.0 * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(folder / "c.zarr")


def make_n5(folder: Path, shape: Triple) -> str:
    """Write N5 with tensorstore: blocks that are not written do not exist."""
    import tensorstore as ts

    metadata = {
        "dimensions": shape[::-1],
        "blockSize": CHUNK[::-1],
        "dataType": "uint8",
        "compression": {"type": "gzip"},
    }
    store = {"driver": "file", "path": str(folder / "d.n5" / "volume")}
    array = ts.open({"driver": "n5", "kvstore": store, "metadata": metadata}, create=True).result()
    part = _middle(shape)
    array[part[::-1]] = _texture(tuple(s.stop - s.start for s in part)).T
    return f"{folder / 'd.n5'}::volume"


def make_precomputed(folder: Path, shape: Triple) -> str:
    import tensorstore as ts

    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(folder / "e.precomputed")},
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {
            "size": shape[::-1],
            "encoding": "raw",
            "chunk_size": CHUNK[::-1],
            "resolution": [4, 4, 40],
            "voxel_offset": [0, 0, 0],
        },
    }
    array = ts.open(spec, create=True).result()
    part = _middle(shape)
    array[(*part[::-1], 0)] = _texture(tuple(s.stop - s.start for s in part)).T
    return str(folder / "e.precomputed")


def make_hdf5(folder: Path, shape: Triple) -> str:
    import h5py

    with h5py.File(folder / "f.h5", "w") as file:
        _fill(file.create_dataset("main", shape, "u1", chunks=CHUNK, compression="gzip"), shape)
    return str(folder / "f.h5")


def make_bigtiff(folder: Path, shape: Triple) -> str:
    import tifffile

    path = folder / "g.tif"
    _fill(tifffile.memmap(path, shape=shape, dtype="u1", bigtiff=True, metadata={"axes": "ZYX"}), shape)
    return str(path)


def make_sections(folder: Path, shape: Triple) -> str:
    """One compressed section under many names: as many files to look at as a real stack has."""
    import tifffile

    sections = folder / "sections"
    sections.mkdir()
    first = sections / "section_0.tif"
    tifffile.imwrite(first, np.tile(_texture((1, 100, 100))[0], (PLANE // 100, PLANE // 100)), compression="zlib")
    for number in range(1, shape[0]):
        os.link(first, sections / f"section_{number}.tif")
    return str(sections)


def make_npy(folder: Path, shape: Triple) -> str:
    path = folder / "h.npy"
    array = np.lib.format.open_memmap(path, "w+", "u1", shape)
    _fill(array, shape)
    return str(path)


MAKERS: dict[str, Callable[[Path, Triple], str]] = {
    "OME-Zarr 0.5": make_ome_zarr,
    "Zarr v3": make_zarr3,
    "Zarr v2": make_zarr2,
    "N5": make_n5,
    "precomputed": make_precomputed,
    "HDF5": make_hdf5,
    "BigTIFF": make_bigtiff,
    "folder of TIFF": make_sections,
    ".npy": make_npy,
}


def measure(uri: str) -> dict[str, float]:
    """Open and read one crop in a fresh process."""
    words = [sys.executable, "-c", PROBE, uri, json.dumps(CROP)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Print one Markdown row a format and size; exit 1 if a crop costs more than the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", nargs="+", type=float, default=[1, 10, 100])
    parser.add_argument("--formats", nargs="+", choices=MAKERS, default=list(MAKERS))
    add_json_option(parser)
    arguments = parser.parse_args()
    print("| format | GB | open s | crop s | cost MB | peak MB |\n|---|---:|---:|---:|---:|---:|")
    worst = 0.0
    for name in arguments.formats:
        for gigabytes in arguments.gigabytes:
            shape = (max(256, round(gigabytes * 1e9 / PLANE**2)), PLANE, PLANE)
            with tempfile.TemporaryDirectory() as folder:
                row = measure(MAKERS[name](Path(folder), shape))
            if not row["sum"]:
                sys.exit(f"{name}: the crop came back empty")
            worst = max(worst, row["cost_mb"])
            size = np.prod(shape) / 1e9
            times = f"{row['open_s']:.2f} | {row['crop_s']:.2f}"
            print(f"| {name} | {size:.0f} | {times} | {row['cost_mb']:.0f} | {row['peak_mb']:.0f} |", flush=True)
    print()
    rows = Rows()
    rows.add(Row("memory of opening a volume and reading a crop, the worst", worst, TARGET_MB, unit="MB"))
    rows.end(arguments.json)


if __name__ == "__main__":
    main()
