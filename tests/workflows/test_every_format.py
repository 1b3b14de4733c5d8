from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from volume_formats import VOXEL_SIZE_NM, WITHOUT_VOXEL_SIZE, WRITERS

from napari_tokenunify.data import Volume, list_datasets, open_volume
from napari_tokenunify.geometry import Box

SHAPE = (6, 37, 45)
BOX = Box((1, 5, 17), (6, 30, 45))


@pytest.fixture(params=["uint8", "uint16"])
def array(request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(request.param) * (1 + (request.param == "uint16"))


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_array_in_every_format_gives_the_same_shape_voxel_size_and_checksum(
    tmp_path: Path, array: np.ndarray, name: str
):
    uri = WRITERS[name](tmp_path, array)
    expected = Volume.from_array(array)

    volume = open_volume(uri)

    assert volume.voxel_size_nm == (None if name in WITHOUT_VOXEL_SIZE else pytest.approx(VOXEL_SIZE_NM))
    assert (volume.shape, volume.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(volume.read(BOX), array[BOX.slices])
    np.testing.assert_array_equal(volume.dask().compute(scheduler="synchronous"), array)
    assert volume.checksum() == expected.checksum()
    assert volume.checksum(BOX) == expected.checksum(BOX) != expected.checksum()


@pytest.mark.parametrize("name", WRITERS)
def test_the_user_can_say_the_voxel_size_in_every_format(tmp_path: Path, array: np.ndarray, name: str):
    volume = open_volume(WRITERS[name](tmp_path, array), voxel_size_nm=(30.0, 5.0, 5.0))
    assert volume.voxel_size_nm == (30.0, 5.0, 5.0)
    assert volume.provenance["voxel_size_source"] == "given by the user"


@pytest.mark.parametrize("name", WRITERS)
def test_reading_changes_nothing_on_disk_in_any_format(tmp_path: Path, array: np.ndarray, name: str):
    uri = WRITERS[name](tmp_path, array)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    volume = open_volume(uri)
    volume.checksum()
    list_datasets(uri)
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
