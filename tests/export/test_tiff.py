from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ExportError
from napari_tokenunify.export import Content, tiff, write_export

IDS = np.random.default_rng(0).integers(0, 9, (5, 40, 50))


def write(array, path, **about):
    content = Content.of_array(array, **{"is_labels": True, "voxel_size_nm": (40.0, 4.0, 5.0), **about})
    list(write_export(content, path, "tiff"))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int16", "int64"])
def test_ids_of_any_type_become_uint32(tmp_path, dtype):
    path = write(IDS.astype(dtype), tmp_path / "x.tif")
    found = tifffile.imread(path)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, IDS)


def test_one_section_opens_again(tmp_path):
    found = open_volume(write(IDS[:1].astype(np.uint32), tmp_path / "x.tif"))
    assert found.voxel_size_nm == (40.0, 4.0, 5.0)
    np.testing.assert_array_equal(np.asarray(found.dask()), IDS[:1])


@pytest.mark.parametrize("values", [(-1, 3), (0, 2**32)])
def test_ids_that_do_not_fit_are_said(tmp_path, values):
    ids = np.zeros((2, 3, 4), np.int64)
    ids[0, 0, :2] = values
    with pytest.raises(ExportError, match="TIFF holds ids from 0 to 4294967295"):
        write(ids, tmp_path / "x.tif")
    assert not list(tmp_path.iterdir())


def test_tifffile_reads_one_stack_with_the_voxel_size(tmp_path):
    with tifffile.TiffFile(write(IDS, tmp_path / "x.tif", name="neurons")) as tif:
        (series,) = tif.series
        assert (series.axes, series.shape) == ("ZYX", IDS.shape)
        image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
        sizes = [image["Pixels"][f"PhysicalSize{axis}"] for axis in "ZYX"]
        assert (image["Name"], sizes, image["Pixels"]["PhysicalSizeXUnit"]) == ("neurons", [40, 4, 5], "nm")
        assert not tif.is_bigtiff


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16", "int16"])
def test_images_keep_their_values(tmp_path, dtype):
    image = IDS.astype(dtype)
    path = write(image, tmp_path / "x.tif", is_labels=False)
    np.testing.assert_array_equal(tifffile.imread(path), image)
    assert open_volume(path).voxel_size_nm == (40, 4, 5)


def test_images_of_other_types_are_said(tmp_path):
    with pytest.raises(ExportError, match="no images of the type uint64"):
        write(IDS.astype(np.uint64), tmp_path / "x.tif", is_labels=False)


def test_what_may_be_large_is_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_CLASSIC", 1000)
    path = write(IDS, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
    np.testing.assert_array_equal(open_volume(path).levels[0][:, :, :], IDS)


def test_large_sections_are_written_in_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_LARGEST_SECTION", 1000)
    monkeypatch.setattr(tiff, "_TILE", 16)
    path = write(IDS, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].is_tiled
        assert len(tif.pages) == len(IDS)
    np.testing.assert_array_equal(tifffile.imread(path), IDS)
    np.testing.assert_array_equal(open_volume(path).levels[0][:, :, :], IDS)


def test_a_name_in_any_script_is_kept(tmp_path):
    path = write(IDS, tmp_path / "x.tif", name="Nervenzellen ä 神経")
    with tifffile.TiffFile(path) as tif:
        assert tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Name"] == "Nervenzellen ä 神経"
