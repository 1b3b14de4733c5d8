from __future__ import annotations

import json
import pickle
import warnings

import h5py
import numpy as np
import ome_zarr.reader
import pytest
import zarr
from ome_zarr.io import parse_url

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import open_affinities, write_affinities
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from tests.segment.fake_networks import small_cells

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0))


@pytest.fixture
def affinities():
    return np.random.default_rng(0).random((3, 6, 20, 12)).astype(np.float32)


@pytest.mark.parametrize(("dtype", "error"), [("uint8", 0.5 / 255), ("float16", 2.0**-12)])
def test_what_is_written_is_read_again(tmp_path, affinities, dtype, error, monkeypatch):
    small_cells(monkeypatch)
    path = write_affinities(tmp_path / "a.zarr", affinities, voxel_size_nm=(40, 4, 4), dtype=dtype)
    store = open_affinities(path)
    assert (store.shape, store.voxel_size_nm, store.complete, store.failed) == ((6, 20, 12), (40, 4, 4), True, ())
    box = Box((1, 3, 5), (6, 20, 11))
    read = store.read(box)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, affinities[(slice(None), *box.slices)], atol=error * 1.01, rtol=0)
    assert not list(tmp_path.glob(".*"))


def test_uint8_is_kept_as_it_is(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    path = write_affinities(tmp_path / "a.zarr", stored, offsets=((0, 0, -3),))
    store = open_affinities(path)
    assert store.offsets == ((0, 0, -3),)
    np.testing.assert_array_equal(store.read(Box.whole(store.shape)), stored.astype(np.float32) / 255)


def test_a_store_crosses_to_another_process(tmp_path, affinities):
    store = open_affinities(write_affinities(tmp_path / "a.zarr", affinities))
    there = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(there.read(Box.whole(there.shape)), store.read(Box.whole(store.shape)))


def test_other_programs_can_open_it(tmp_path, affinities):
    path = write_affinities(tmp_path / "a.zarr", affinities, voxel_size_nm=(40, 4, 4))
    volume = open_volume(f"{path}::c=1")
    assert (volume.voxel_size_nm, volume.shape) == ((40, 4, 4), (6, 20, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        (node,) = ome_zarr.reader.Reader(parse_url(path))()
        assert node.data[0].shape == (3, 6, 20, 12)
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "z", "y", "x"]


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_what_is_no_affinity_is_refused(tmp_path, affinities, bad):
    affinities[1, 2, 3, 4] = bad
    with pytest.raises(SegmentError, match="is not written"):
        write_affinities(tmp_path / "a.zarr", affinities)
    assert not list(tmp_path.iterdir())
    theirs = zarr.create_array(tmp_path / "theirs.zarr", data=affinities)
    assert theirs.shape == affinities.shape
    store = open_affinities(tmp_path / "theirs.zarr")
    assert store.read(Box((3, 0, 0), (6, 20, 12))).shape == (3, 3, 20, 12)
    with pytest.raises(SegmentError, match=r"holds NaN" if np.isnan(bad) else r"affinities lie in 0\.\.1"):
        store.read(Box((0, 0, 0), (4, 20, 12)))


def test_affinities_of_others_need_offsets_unless_there_are_three_channels(tmp_path, affinities):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["affs"] = affinities
        file["four"] = np.concatenate([affinities, affinities[:1]])
    store = open_affinities(f"{tmp_path / 'a.h5'}::affs")
    assert store.offsets == OFFSETS[:3]
    assert store.settings == {}
    np.testing.assert_array_equal(store.read(Box.whole(store.shape)), affinities)
    four = f"{tmp_path / 'a.h5'}::four"
    with pytest.raises(SegmentError, match="has 4 channels, but no offsets"):
        open_affinities(four)
    with pytest.raises(SegmentError, match="has 4 channels, but 3 offsets"):
        open_affinities(four, OFFSETS[:3])
    assert open_affinities(four, OFFSETS).offsets == OFFSETS


def test_a_missing_store_is_said_in_one_sentence(tmp_path):
    with pytest.raises(SegmentError, match="nothing is there") as caught:
        open_affinities(tmp_path / "none.zarr")
    assert str(caught.value).startswith(f"{tmp_path / 'none.zarr'}: nothing")


def test_what_has_no_channels_or_other_types_is_refused(tmp_path):
    np.save(tmp_path / "three.npy", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(SegmentError, match="no axis 'c'"):
        open_affinities(tmp_path / "three.npy")
    np.save(tmp_path / "labels.npy", np.zeros((3, 2, 3, 4), np.uint16))
    with pytest.raises(SegmentError, match="data type uint16"):
        open_affinities(tmp_path / "labels.npy")
    with pytest.raises(SegmentError, match="axes c, z, y, x"):
        write_affinities(tmp_path / "b.zarr", np.zeros((2, 3, 4), np.float32))
    with pytest.raises(SegmentError, match="3 channels, but 1 offsets"):
        write_affinities(tmp_path / "b.zarr", np.zeros((3, 2, 3, 4), np.float32), ((0, 0, 1),))


def test_other_offsets_than_the_stored_ones_are_refused(tmp_path, affinities):
    path = write_affinities(tmp_path / "a.zarr", affinities)
    with pytest.raises(SegmentError, match="leave out --offsets"):
        open_affinities(path, OFFSETS[1:])


def test_a_box_outside_is_refused(tmp_path, affinities):
    store = open_affinities(write_affinities(tmp_path / "a.zarr", affinities))
    with pytest.raises(SegmentError, match="reaches outside"):
        store.read(Box((0, 0, 0), (6, 20, 13)))


def test_nothing_is_overwritten(tmp_path, affinities):
    write_affinities(tmp_path / "a.zarr", affinities)
    with pytest.raises(SegmentError, match="is there already"):
        write_affinities(tmp_path / "a.zarr", affinities)


def test_blocks_that_are_not_there_yet_are_named(tmp_path, monkeypatch):
    small_cells(monkeypatch)
    layout = AffinityLayout((8, 16, 8), OFFSETS[:3])
    writer = AffinityWriter.create(tmp_path / "a.zarr", layout)
    writer.write((1, 0, 0), np.full((3, 4, 8, 8), 7, np.uint8))
    store = open_affinities(tmp_path / "a.zarr")
    assert not store.complete
    assert (store.read(Box((4, 0, 0), (8, 8, 8))) == np.float32(7) / 255).all()
    assert store.missing(Box((3, 0, 0), (8, 8, 8))) == (Box((0, 0, 0), (4, 8, 8)),)
    assert len(store.missing()) == 3
    writer.write((1, 1, 0), np.full((3, 4, 8, 8), 7, np.uint8))
    with pytest.raises(SegmentError, match=r"2 of the 4 blocks .*, 0:4,0:8,0:8 first: they are not predicted yet"):
        store.read(Box.whole(store.shape))


def test_a_lost_or_damaged_file_is_said(tmp_path, affinities, monkeypatch):
    small_cells(monkeypatch)
    path = write_affinities(tmp_path / "a.zarr", affinities)
    chunk = path / "0" / "c" / "0" / "0" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 255
    chunk.write_bytes(content)
    store = open_affinities(path)
    with pytest.raises(SegmentError, match="seems damaged"):
        store.read(Box.whole(store.shape))
    chunk.unlink()
    with pytest.raises(SegmentError, match="files were lost"):
        store.read(Box.whole(store.shape))
    assert store.read(Box((0, 0, 0), (4, 8, 8))).shape == (3, 4, 8, 8)


def test_a_store_whose_metadata_is_damaged_is_no_store(tmp_path, affinities):
    path = write_affinities(tmp_path / "a.zarr", affinities)
    (path / "zarr.json").write_text(json.dumps({"attributes": []})[:-3])
    with pytest.raises(SegmentError):
        open_affinities(path)
