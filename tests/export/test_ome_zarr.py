from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from napari_tokenunify.data import open_volume
from napari_tokenunify.export import Content, Segments, write_export
from tests.export.test_pyramid import slow_majority

VERSIONS = {"ome-zarr": "0.5", "ome-zarr-0.4": "0.4"}


@pytest.fixture(params=VERSIONS)
def kind(request):
    return request.param


@pytest.fixture
def exported(segmentation, tmp_path, kind):
    out = tmp_path / "x.zarr"
    list(write_export(Segments.of(segmentation), out, kind))
    return out


def test_each_level_holds_the_majority_of_the_one_above(exported, segmentation):
    expected = segmentation.view()[:]
    group = zarr.open_group(exported, mode="r")
    levels = [group[str(n)][:] for n in range(2)]
    assert "2" not in group
    np.testing.assert_array_equal(levels[0], expected)
    np.testing.assert_array_equal(levels[1], slow_majority(levels[0], (1, 2, 2)))


def test_coarser_levels_lie_over_the_finest(exported):
    volume = open_volume(exported)
    assert [level.voxel_size_nm for level in volume.levels] == [(40, 4, 5), (40, 8, 10)]
    metadata = json.loads((exported / "zarr.json").read_text()) if (exported / "zarr.json").exists() else None
    attributes = metadata["attributes"]["ome"] if metadata else json.loads((exported / ".zattrs").read_text())
    moved = [level["coordinateTransformations"][1] for level in attributes["multiscales"][0]["datasets"]]
    assert [entry["translation"] for entry in moved] == [[520, -8, 75], [520, -6, 77.5]]


def test_it_is_the_version_that_was_asked_for_and_a_label_image(exported, kind):
    group = zarr.open_group(exported, mode="r")
    attributes = group.attrs.asdict()
    if kind == "ome-zarr":
        assert attributes["ome"]["version"] == "0.5"
        assert "image-label" in attributes["ome"]
        assert group["0"].metadata.dimension_names == ("z", "y", "x")
    else:
        assert attributes["multiscales"][0]["version"] == "0.4"
        assert attributes["image-label"] == {"version": "0.4"}
        assert group["0"].metadata.dimension_separator == "/"
    assert group.metadata.zarr_format == (3 if kind == "ome-zarr" else 2)


def test_the_library_ome_zarr_reads_it(exported, segmentation):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    location = parse_url(exported)
    assert location is not None
    (image, *_) = list(Reader(location)())
    np.testing.assert_array_equal(image.data[0].compute(), segmentation.view()[:])
    assert len(image.data) == 2
    assert [axis["unit"] for axis in image.metadata["axes"]] == ["nanometer"] * 3


def test_images_have_means_on_coarser_levels(tmp_path, kind):
    image = np.random.default_rng(0).integers(0, 255, (4, 100, 80), np.uint8)
    content = Content.of_array(image, is_labels=False, voxel_size_nm=(8.0, 8.0, 8.0), name="em")
    list(write_export(content, tmp_path / "x.zarr", kind))
    volume = open_volume(tmp_path / "x.zarr")
    np.testing.assert_array_equal(volume.levels[0][:, :, :], image)
    expected = image.reshape(2, 2, 50, 2, 40, 2).mean(axis=(1, 3, 5))
    assert np.abs(volume.levels[1][:, :, :] - expected).max() <= 0.5


def test_without_a_voxel_size_nothing_is_said_of_it(tmp_path, kind):
    content = Content.of_array(np.ones((3, 4, 5), np.uint16), is_labels=True)
    list(write_export(content, tmp_path / "x.zarr", kind))
    assert open_volume(tmp_path / "x.zarr").voxel_size_nm is None
