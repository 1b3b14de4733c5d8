from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from napari_tokenunify.data import open_volume
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import affinity_writer, open_affinities
from napari_tokenunify.segment.affinity_writer import (
    AffinityLayout,
    AffinityWriter,
    decode,
    encode,
    read_done,
)
from tests.segment.fake_networks import small_cells

LAYOUT = AffinityLayout((8, 10, 8), ((0, 0, -1),), origin=(1, 2, 3), voxel_size_nm=(40, 4, 4), settings={"a": 1})


@pytest.fixture
def writer(tmp_path, monkeypatch):
    small_cells(monkeypatch)
    return AffinityWriter.create(tmp_path / "a.zarr", LAYOUT)


def block(shape, value=9):
    return np.full((1, *shape), value, np.uint8)


def test_a_store_is_complete_once_all_cells_are_done(writer):
    shapes = {(0, 0, 0): (4, 8, 8), (0, 1, 0): (4, 2, 8), (1, 0, 0): (4, 8, 8), (1, 1, 0): (4, 2, 8)}
    assert LAYOUT.grid == (2, 2, 1)
    for cell, shape in shapes.items():
        assert not writer.finish()
        writer.write(cell, block(shape))
    assert writer.finish()
    assert not writer.work.exists()
    store = open_affinities(writer.path)
    assert (store.complete, store.origin, store.settings) == (True, (1, 2, 3), {"a": 1})
    assert open_volume(f"{writer.path}::c=0").origin_nm == (40, 8, 12)


def test_what_failed_is_kept_with_the_store(writer):
    for cell, shape in {(0, 0, 0): (4, 8, 8), (0, 1, 0): (4, 2, 8), (1, 0, 0): (4, 8, 8), (1, 1, 0): (4, 2, 8)}.items():
        writer.write(cell, block(shape))
    box = Box((0, 0, 0), (4, 5, 6))
    assert not writer.finish([box])
    assert open_affinities(writer.path).failed == (box,)


def test_done_cells_are_known_when_it_is_opened_again(writer):
    writer.write((1, 0, 0), block((4, 8, 8)))
    with (writer.work / "done.jsonl").open("ab") as file:
        file.write(b"[1, 1")  # a kill cut it off
    again = AffinityWriter(writer.path, LAYOUT)
    assert again.done == {(1, 0, 0)}
    again.write((0, 1, 0), block((4, 2, 8)))
    assert read_done(again.work) == [(1, 0, 0), (0, 1, 0)]


def test_blank_cells_are_files_too(writer):
    writer.write((0, 0, 0), block((4, 8, 8), 0))
    assert (writer.path / "0" / "c" / "0" / "0" / "0" / "0").is_file()


def test_what_was_being_written_at_a_kill_is_removed(writer):
    torn = writer.path / "0" / "c" / "0.deadbeef.partial"
    torn.parent.mkdir(exist_ok=True)
    torn.write_bytes(b"x")
    AffinityWriter(writer.path, LAYOUT)
    assert not torn.exists()


def test_a_cell_on_a_full_disk_is_not_done(writer, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(affinity_writer, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write((0, 0, 0), block((4, 8, 8)))
    assert not writer.done
    assert not read_done(writer.work)


def test_uint8_rounds_to_the_nearest():
    values = np.array([0, 0.4 / 255, 0.6 / 255, 1], np.float32)
    assert encode(values, "uint8").tolist() == [0, 0, 1, 255]
    assert decode(np.array([0, 51, 255], np.uint8)).tolist() == [0, np.float32(0.2), 1]
