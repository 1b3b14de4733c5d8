"""Blocks of labels: all of them once, and without those that are known to be empty."""

import numpy as np
import pytest
import zarr
from scipy.ndimage import maximum_filter

from napari_tokenunify.data.drawn_labels import Drawing, DrawnLabels, Pen, Polygon
from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.geometry import Box

SHAPE = (12, 40, 50)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._BLOCK_VOXELS", 500)
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._CHUNK_VOXELS", 300)


def times_seen(volume, margin=(0, 0, 0), with_empty=False):
    seen = np.zeros(volume.shape, int)
    for box in label_blocks(volume, margin, with_empty):
        assert np.prod(box.shape) <= 500
        seen[box.slices] += 1
    return seen


def check_left_out(volume, margin):
    """Blocks come once; what is left out is empty, as is all around it; and much is left out."""
    whole, seen = volume.read(Box.whole(volume.shape)), times_seen(volume, margin)
    assert seen.max() == 1
    assert (seen == 0).mean() > 0.3
    near = maximum_filter(whole != 0, [2 * m + 1 for m in margin], mode="constant")
    assert not near[seen == 0].any()
    assert (times_seen(volume, margin, with_empty=True) == 1).all()


@pytest.mark.parametrize("chunks", [None, (2, 7, 6), (1, 40, 50), (12, 5, 5)])
def test_blocks_cover_a_volume_once(chunks):
    volume = Volume.from_array(np.zeros(SHAPE, np.uint8))
    object.__setattr__(volume.levels[0], "chunks", chunks)
    assert (times_seen(volume) == 1).all()


@pytest.mark.parametrize("margin", [(0, 0, 0), (1, 3, 7)])
def test_where_nothing_is_drawn_nothing_is_read(margin, monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._SPARSE_BLOCK", (3, 7, 8))
    lines = np.array([[[1, 10, 20], [3, 14, 22]], [[8, 39, 49], [8, 39, 49]]], float)
    outline = Polygon(9, 1, 33, np.array([(2.0, 41.0), (2, 48), (9, 48)]))
    drawing = Drawing(lines, np.ones(2, np.uint64), (outline,))
    labels = DrawnLabels(drawing, SHAPE, Pen(radius_nm=2).ball((1.0, 1.0, 1.0)))
    check_left_out(Volume.from_array(labels), margin)


@pytest.mark.parametrize("margin", [(0, 0, 0), (1, 3, 7)])
@pytest.mark.parametrize("name", ["", "annotations/hand 2"])
@pytest.mark.parametrize(
    "layout",
    [
        {"zarr_format": 2, "chunks": (3, 8, 8)},
        {"zarr_format": 2, "chunks": (3, 8, 8), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        {"zarr_format": 3, "chunks": (3, 8, 8)},
        {"zarr_format": 3, "chunks": (1, 4, 8), "shards": (3, 8, 8)},
    ],
)
def test_chunks_that_are_not_on_disk_are_not_read(tmp_path, layout, name, margin):
    array = zarr.create_array(tmp_path / "l.zarr", name=name or None, shape=SHAPE, dtype="u4", **layout)
    array[2, 10:20, 20:23] = 5
    array[11, 39, 49] = 6
    volume = open_volume(f"{tmp_path / 'l.zarr'}::{name}" if name else tmp_path / "l.zarr")
    check_left_out(volume, margin)


def test_missing_chunks_that_are_not_zero_are_read(tmp_path):
    zarr.create_array(tmp_path / "l.zarr", shape=SHAPE, chunks=(3, 8, 8), dtype="u4", fill_value=4)
    assert (times_seen(open_volume(tmp_path / "l.zarr")) == 1).all()


def test_a_store_without_any_chunk_has_no_block(tmp_path):
    zarr.create_array(tmp_path / "l.zarr", shape=SHAPE, chunks=(3, 8, 8), dtype="u4")
    assert not times_seen(open_volume(tmp_path / "l.zarr")).any()
