from __future__ import annotations

import h5py
import numpy as np

from napari_tokenunify.data import open_volume
from napari_tokenunify.export import Content, Segments, write_export


def test_h5py_finds_what_cremi_has(segmentation, tmp_path):
    list(write_export(Segments.of(segmentation), tmp_path / "x.h5", "hdf5"))
    with h5py.File(tmp_path / "x.h5") as file:
        dataset = file["volumes/labels/neuron_ids"]
        assert file.attrs["file_format"] == "0.2"
        np.testing.assert_array_equal(dataset.attrs["resolution"], (40, 4, 5))
        np.testing.assert_array_equal(dataset.attrs["offset"], (520, -8, 75))
        np.testing.assert_array_equal(dataset[:], segmentation.view()[:])
        assert dataset.compression == "gzip"


def test_images_are_raw_and_without_voxel_size_nothing_is_said(tmp_path):
    image = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32)
    list(write_export(Content.of_array(image, is_labels=False), tmp_path / "x.h5", "hdf5"))
    volume = open_volume(tmp_path / "x.h5")
    assert (volume.provenance["inner"], volume.voxel_size_nm) == ("volumes/raw", None)
    np.testing.assert_array_equal(volume.levels[0][:, :, :], image)
