"""What a fingerprint sees: every label, and whether a volume is another one."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_tokenunify.data import Annotations, Volume, data_hash, open_volume

SHAPE = (40, 150, 160)


@pytest.fixture
def labels():
    labels = np.zeros(SHAPE, np.uint16)
    labels[7, 10:60, 20:90] = 3
    labels[7, 60:99, 20:90] = 4
    labels[30, 149, 159] = 5
    return labels


def stored(path, array, chunks):
    zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=chunks, fill_value=0)[...] = array
    return open_volume(path)


def test_the_same_labels_have_the_same_fingerprint_in_any_file(labels, tmp_path):
    wanted = data_hash(Annotations.from_array(labels))
    assert data_hash(Annotations.from_array(labels.astype(np.int64))) == wanted
    for number, chunks in enumerate([(1, 64, 64), (16, 31, 160)]):
        assert data_hash(Annotations(stored(tmp_path / f"{number}.zarr", labels, chunks))) == wanted


def test_every_label_counts(labels):
    before = data_hash(Annotations.from_array(labels))
    others = [labels.copy() for _ in range(4)]
    others[0][7, 10, 20] = 4  # another id
    others[1][30, 149, 159] = 0  # erased
    others[2][20, 75, 80] = 1  # painted
    others[3][7, 59], others[3][7, 60] = labels[7, 60], labels[7, 59]  # two rows swapped
    hashes = {before, *(data_hash(Annotations.from_array(other)) for other in others)}
    assert len(hashes) == 5


def test_the_meaning_of_labels_counts(labels):
    kinds = [{}, {"boundary_id": 3}, {"zero_is_boundary": True}]
    assert len({data_hash(Annotations.from_array(labels, **kind)) for kind in kinds}) == 3


def test_the_same_volume_has_the_same_fingerprint_in_any_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    wanted = data_hash(Volume.from_array(image))
    assert len(wanted) == 32
    assert data_hash(stored(tmp_path / "image.zarr", image, (16, 31, 160))) == wanted
    assert data_hash(Volume.from_array(image[:-1])) != wanted
    assert data_hash(Volume.from_array(image.astype(np.uint16))) != wanted
    for place in [(0, 0, 0), (39, 149, 159), (20, 75, 80)]:
        other = image.copy()
        other[place] ^= 1
        assert data_hash(Volume.from_array(other)) != wanted


class Huge:
    dtype = np.dtype(np.uint8)
    shape = (10_000, 100_000, 100_000)

    def __init__(self):
        self.read = 0

    def __getitem__(self, index):
        block = np.zeros([part.stop - part.start for part in index], np.uint8)
        self.read += block.size
        return block


def test_of_a_huge_volume_little_is_read():
    image = Huge()
    data_hash(Volume.from_array(image))
    assert image.read == 27 * 16 * 64 * 64


def test_a_volume_of_one_voxel_has_a_fingerprint():
    assert data_hash(Volume.from_array(np.zeros((1, 1, 1), np.uint8)))
