from __future__ import annotations

import numpy as np
import pytest
import z5py

from napari_tokenunify.data import open_volume
from napari_tokenunify.export import Content, Segments, n5, write_export
from tests.export.test_pyramid import slow_majority


@pytest.fixture
def exported(segmentation, tmp_path, monkeypatch):
    monkeypatch.setattr(n5, "_CHUNK", (4, 16, 32))
    monkeypatch.setattr(n5, "_BLOCK", (4, 32, 64))
    out = tmp_path / "x.n5"
    list(write_export(Segments.of(segmentation), out, "n5"))
    return out


def test_z5py_reads_every_level(exported, segmentation):
    finest = segmentation.view()[:]
    levels = [finest, slow_majority(finest, (1, 2, 2))]
    with z5py.File(str(exported), "r") as file:
        assert sorted(file) == ["s0", "s1"]
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(file[f"s{number}"][:], level)


def test_tensorstore_reads_it(exported, segmentation):
    tensorstore = pytest.importorskip("tensorstore", reason="the extra 'precomputed' is not installed")
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{exported}/s0/"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result().T, segmentation.view()[:])


def test_levels_lie_over_each_other(exported):
    volume = open_volume(exported)
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 5), (40, 8, 10)]
    assert open_volume(f"{exported}::s1").origin_nm == pytest.approx(volume.origin_nm)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float16"])
def test_images_keep_their_values(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, 99, (5, 30, 40)).astype(dtype)
    list(write_export(Content.of_array(image, is_labels=False), tmp_path / "x.n5", "n5"))
    volume = open_volume(tmp_path / "x.n5")
    np.testing.assert_array_equal(volume.levels[0][:, :, :], image)
    assert volume.voxel_size_nm is None
