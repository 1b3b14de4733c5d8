"""Where a volume lies is kept from the file to every export that has a place for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_tokenunify.config import ExportConfig, SegmentConfig
from napari_tokenunify.data import open_volume
from napari_tokenunify.export import export
from napari_tokenunify.segment import Segmentation, open_affinities, predict_volume, segment
from tests.segment.fake_networks import LabelNetwork, drive, label_image, settings

SIZE_NM = (40.0, 4.0, 5.0)
ORIGIN_NM = (4000.0, -16.0, 250.0)
BOX = "2:12,3:27,0:30"
START_NM = (4080.0, -4.0, 250.0)  # of the box
VOXELS = ["ome-zarr", "ome-zarr-0.4", "hdf5", "n5"] + ["precomputed"] * (find_spec("tensorstore") is not None)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = label_image((12, 28, 30))
        file["raw"].attrs.update({"resolution": SIZE_NM, "offset": ORIGIN_NM})
    return path


@pytest.fixture(scope="module")
def folder(image: Path) -> Path:
    """A segmentation of a part of the volume."""
    store, out = image.parent / "affinities.zarr", image.parent / "segmentation"
    volume = open_volume(f"{image}::raw")
    assert volume.origin_nm == ORIGIN_NM
    drive(predict_volume(volume, LabelNetwork(), store, settings((6, 14, 15))))
    drive(segment(SegmentConfig(affinities=str(store), out=str(out), box=BOX, block=(10, 12, 30), halo=(0, 4, 4))))
    return out


def test_affinities_and_segmentation_say_it(folder: Path):
    store, segmentation = open_affinities(folder.with_name("affinities.zarr")), Segmentation.open(folder)
    assert store.origin_nm == segmentation.origin_nm == ORIGIN_NM
    assert segmentation.spec["origin"] == [2, 3, 0]
    assert open_volume(f"{store.path}::0::c=0").origin_nm == ORIGIN_NM
    assert open_volume(folder / "fragments.zarr").origin_nm == START_NM


@pytest.mark.parametrize("kind", VOXELS)
def test_exports_of_voxels_open_again_in_their_place(folder: Path, tmp_path: Path, kind: str):
    out = tmp_path / "x"
    drive(export(ExportConfig(segmentation=str(folder), out=str(out), format=kind)))
    volume = open_volume(out)
    assert (volume.origin_nm, volume.voxel_size_nm) == (START_NM, SIZE_NM)
    np.testing.assert_array_equal(volume.levels[0][:, :, :], Segmentation.open(folder).view()[:])


@pytest.mark.parametrize("kind", ["ome-zarr", "hdf5"])
def test_exports_of_affinities_open_again_in_their_place(folder: Path, tmp_path: Path, kind: str):
    out = tmp_path / "x"
    drive(export(ExportConfig(affinities=str(folder.with_name("affinities.zarr")), out=str(out), format=kind)))
    inner = "volumes/affinities" if kind == "hdf5" else "0"
    assert open_volume(f"{out}::{inner}::c=0").origin_nm == ORIGIN_NM
    assert open_affinities(out if kind == "ome-zarr" else f"{out}::{inner}").origin_nm == ORIGIN_NM


def test_segments_of_affinities_from_elsewhere_keep_their_place(image: Path, tmp_path: Path):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["a"] = np.full((3, 6, 12, 12), 0.9, np.float32)
        file["a"].attrs.update({"resolution": SIZE_NM, "offset": ORIGIN_NM})
    out = tmp_path / "segmentation"
    drive(segment(SegmentConfig(affinities=f"{tmp_path / 'theirs.h5'}::a", out=str(out))))
    assert open_volume(out / "fragments.zarr").origin_nm == Segmentation.open(out).origin_nm == ORIGIN_NM
