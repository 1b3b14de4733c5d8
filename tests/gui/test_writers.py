from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image, Labels
from npe2 import PluginManager, PluginManifest

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ExportError
from napari_tokenunify.export import formats
from tests.export.conftest import ORIGIN, SIZE_NM, folder, fragments, segmentation  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

PLUGIN = "napari-tokenunify"
ENDINGS = (".zarr", ".tif", ".tiff", ".h5", ".hdf5")


@pytest.fixture(autouse=True)
def installed():
    """What a viewer does when it opens: find the plugins."""
    PluginManager.instance().discover()


def nm(values):
    return {"scale": values, "units": ("nm",) * 3}


@pytest.fixture(params=ENDINGS)
def ending(request):
    return request.param


def test_segments_are_saved_as_they_are_shown(segmentation, tmp_path, ending):  # noqa: F811
    start = [a * s for a, s in zip(ORIGIN, SIZE_NM, strict=True)]
    about = {"tokenunify": {"project": "p.tokenunify"}}
    layer = Labels(segmentation.view(0.7), translate=start, metadata=about, **nm(SIZE_NM))
    path = tmp_path / f"x{ending}"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.levels[0][:, :, :], segmentation.view(0.7)[:])
    assert volume.voxel_size_nm == SIZE_NM
    if not ending.startswith(".tif"):
        assert volume.origin_nm == tuple(start)
    if ending == ".zarr":
        assert zarr.open_group(path, mode="r").attrs["tokenunify"]["layer"] == {"project": "p.tokenunify"}


def test_an_image_is_saved_with_its_voxel_size_in_any_unit(raw, tmp_path, ending):
    layer = Image(raw, name="em", scale=(0.04, 0.004, 0.005), units=("um",) * 3)
    path = tmp_path / f"x{ending}"
    layer.save(str(path), plugin=PLUGIN)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.levels[0][:, :, :], layer.data)
    assert volume.dtype == np.uint8
    np.testing.assert_allclose(volume.voxel_size_nm, (40, 4, 5))
    if ending.startswith(".tif"):
        with tifffile.TiffFile(path) as tif:
            assert tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Name"] == "em"


class Lazy:
    """An array that remembers how much was read of it at once."""

    dtype, ndim = np.dtype(np.uint16), 3

    def __init__(self, array):
        self.array, self.shape, self.reads = array, array.shape, []

    def __getitem__(self, index):
        block = self.array[index]
        self.reads.append(block.size)
        return block

    def __array__(self, *_, **__):
        raise AssertionError("all of it was read at once")


def test_lazy_layers_are_read_block_by_block(tmp_path, monkeypatch, ending):
    from napari_tokenunify.export import content, ome_zarr, tiff
    from napari_tokenunify.gui.writers import write_labels

    for module, name, value in (
        (content, "_BLOCK", (4, 16, 16)),
        (ome_zarr, "_CHUNK", (4, 16, 16)),
        (ome_zarr, "_SHARD", (4, 16, 16)),
        (tiff, "_SLAB", 1024),
    ):
        monkeypatch.setattr(module, name, value)
    lazy = Lazy(np.random.default_rng(0).integers(0, 9, (12, 32, 32)).astype(np.uint16))
    write_labels(str(tmp_path / f"x{ending}"), lazy, {"name": "lazy"})
    assert max(lazy.reads) <= 1024
    np.testing.assert_array_equal(open_volume(tmp_path / f"x{ending}").levels[0][:, :, :], lazy.array)


def test_dask_zarr_and_levels_are_saved(labels, tmp_path):
    stored = zarr.create_array(tmp_path / "a.zarr", data=labels)
    layers = [
        Labels(da.from_array(labels, chunks=(2, 8, 8))),
        Labels(stored),
        Labels([labels, labels[:, ::2, ::2]], multiscale=True),
        Labels(labels.astype(np.int64)),
        Labels(labels == 1),
    ]
    for number, layer in enumerate(layers):
        path = tmp_path / f"{number}.h5"
        assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
        expected = labels == 1 if number == 4 else labels
        np.testing.assert_array_equal(open_volume(path).levels[0][:, :, :], expected)
        assert open_volume(path).voxel_size_nm is None  # the layer counts in pixels


@pytest.mark.parametrize("shape", [(20, 20), (2, 6, 20, 20)])
def test_layers_with_other_axes_are_left_to_other_plugins(tmp_path, shape):
    layer = Image(np.zeros(shape, np.uint8), name="flat")
    with pytest.raises(ExportError, match=r"The layer flat has the shape .* save it with another plugin"):
        layer.save(str(tmp_path / "x.zarr"), plugin=PLUGIN)
    colours = Image(np.zeros((20, 20, 3), np.uint8), rgb=True)
    with pytest.raises(ExportError, match="without colours"):
        colours.save(str(tmp_path / "x.zarr"), plugin=PLUGIN)
    assert not list(tmp_path.iterdir())


def test_saving_again_replaces_what_we_have_saved_and_nothing_else(labels, tmp_path, ending):
    layer = Labels(labels)
    path = tmp_path / f"x{ending}"
    layer.save(str(path), plugin=PLUGIN)
    layer.data = labels * 3
    layer.save(str(path), plugin=PLUGIN)
    np.testing.assert_array_equal(open_volume(path).levels[0][:, :, :], labels * 3)
    foreign = tmp_path / f"y{ending}"
    foreign.write_text(json.dumps("mine"))
    with pytest.raises(ExportError, match="so it is not overwritten"):
        layer.save(str(foreign), plugin=PLUGIN)
    assert foreign.read_text() == '"mine"'


def test_napari_saves_what_is_selected_through_the_plugin(make_napari_viewer, labels, tmp_path):
    viewer = make_napari_viewer()
    viewer.add_labels(labels, **nm((40, 4, 4)))
    assert viewer.layers.save(str(tmp_path / "x.zarr"), selected=True) == [str(tmp_path / "x.zarr")]
    (opened,) = viewer.open(str(tmp_path / "x.zarr"), plugin=PLUGIN)
    np.testing.assert_array_equal(opened.scale, (40, 4, 4))
    np.testing.assert_array_equal(np.asarray(opened.data), labels)
    assert isinstance(opened, Labels)


def test_every_ending_of_the_manifest_is_known_to_the_writers():
    from napari_tokenunify.gui import writers

    manifest = PluginManifest.from_distribution(PLUGIN)
    endings = {ending for writer in manifest.contributions.writers for ending in writer.filename_extensions}
    assert endings == set(writers._KINDS) == set(ENDINGS)
    assert set(writers._KINDS.values()) <= set(formats.FORMATS)
