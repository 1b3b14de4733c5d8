"""Annotations: what is read, what is known, and what is refused."""

import pickle

import numpy as np
import pytest

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data.annotations import BACKGROUND_ID, Annotations, open_annotations
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import AnnotationError, VolumeError
from napari_tokenunify.geometry import Box

OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (2, 0, 0), (-1, 3, 0), (0, 0, 5)]


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 4, (9, 20, 25)).astype(np.uint16)


@pytest.fixture
def volume():
    return Volume.from_array(np.zeros((9, 20, 25), np.uint8), (40.0, 4.0, 4.0), "image")


def saved(tmp_path, labels, voxel_size_nm=(40.0, 4.0, 4.0)):
    path = tmp_path / "labels.npz"
    np.savez(path, labels=labels, voxel_size_nm=voxel_size_nm)
    return path


@pytest.mark.parametrize("boundary_id", [None, 2])
@pytest.mark.parametrize("box", ["0:9,0:20,0:25", "0:3,5:6,20:25", "4:9,3:17,0:8", "8:9,19:20,24:25"])
def test_what_is_known_of_a_box_is_cut_from_what_is_known_of_the_whole(labels, boundary_id, box):
    annotations = Annotations.from_array(labels, boundary_id=boundary_id)
    whole = known_affinities(labels, OFFSETS, boundary_id)
    cut = (slice(None), *Box.parse(box).slices)
    for part, everything in zip(annotations.known(OFFSETS, Box.parse(box)), whole, strict=True):
        np.testing.assert_array_equal(part, everything[cut])
    for part, everything in zip(annotations.known(OFFSETS), whole, strict=True):
        np.testing.assert_array_equal(part, everything)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u4", "i8", "u8"])
def test_labels_of_any_integer_type_are_read_as_uint64(labels, dtype):
    box = Box.parse("2:5,0:10,3:20")
    ids = Annotations.from_array(labels.astype(dtype)).read(box)
    assert ids.dtype == np.uint64
    np.testing.assert_array_equal(ids, labels[box.slices])


def test_the_largest_ids_stay_what_they_are():
    large = np.array([[[0, 2**64 - 1, 2**64 - 2]]], np.uint64)
    np.testing.assert_array_equal(Annotations.from_array(large).read(Box.whole((1, 1, 3))), large)


def test_zero_becomes_a_new_boundary_id_where_that_is_chosen(labels):
    annotations = Annotations.from_array(labels, zero_is_boundary=True)
    ids = annotations.read(Box.whole(labels.shape))
    assert annotations.boundary_id == BACKGROUND_ID
    np.testing.assert_array_equal(ids, np.where(labels == 0, BACKGROUND_ID, labels.astype(np.uint64)))
    np.testing.assert_array_equal(annotations.known(OFFSETS)[1], known_affinities(labels, OFFSETS, boundary_id=0)[1])


def test_zero_becomes_the_boundary_id_that_is_named(labels):
    ids = Annotations.from_array(labels, boundary_id=3, zero_is_boundary=True).read(Box.whole(labels.shape))
    np.testing.assert_array_equal(ids == 3, (labels == 0) | (labels == 3))


@pytest.mark.parametrize("boundary_id", [None, 2])
def test_labelled_blocks_hold_each_known_pair_once(labels, boundary_id, monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._BLOCK_VOXELS", 500)
    labels[:, 9:] = 0
    labels[4:, :, 12:] = 0
    labels[8, 19, 24] = 2
    expected_target, expected_mask = known_affinities(labels, OFFSETS, boundary_id)
    target, mask, seen = np.zeros_like(expected_target), np.zeros_like(expected_mask), np.zeros(labels.shape, int)
    for block in Annotations.from_array(labels, boundary_id=boundary_id).labelled_blocks(OFFSETS):
        cut = (slice(None), *block.box.slices)
        inner = (slice(None), *block.inner.slices)
        target[cut], mask[cut] = (part[inner] for part in known_affinities(block.around, OFFSETS, boundary_id))
        np.testing.assert_array_equal(block.ids, labels[block.box.slices])
        seen[block.box.slices] += 1
    assert seen.max() == 1
    assert seen.mean() < 0.8
    np.testing.assert_array_equal(target, expected_target)
    np.testing.assert_array_equal(mask, expected_mask)


def test_a_label_file_is_opened_on_its_volume(tmp_path, labels, volume):
    annotations = open_annotations(saved(tmp_path, labels), volume, boundary_id=1)
    assert (annotations.shape, annotations.voxel_size_nm) == (labels.shape, (40.0, 4.0, 4.0))
    again = pickle.loads(pickle.dumps(annotations))
    np.testing.assert_array_equal(again.known()[0], known_affinities(labels, boundary_id=1)[0])


def test_labels_without_a_voxel_size_take_that_of_the_volume(tmp_path, labels, volume):
    np.save(tmp_path / "labels.npy", labels)
    assert open_annotations(tmp_path / "labels.npy", volume).voxel_size_nm == (40.0, 4.0, 4.0)


def test_labels_of_another_shape_are_refused_with_both_shapes(tmp_path, labels, volume):
    with pytest.raises(AnnotationError, match=r"labels have 9, 20, 24 voxels .* image has 9, 20, 25"):
        open_annotations(saved(tmp_path, labels[..., :24]), volume)


def test_labels_of_another_voxel_size_are_refused_with_both_sizes(tmp_path, labels, volume):
    with pytest.raises(AnnotationError, match=r"size of 40, 4, 5 nm .* image has 40, 4, 4 nm"):
        open_annotations(saved(tmp_path, labels, (40.0, 4.0, 5.0)), volume)
    open_annotations(saved(tmp_path, labels, (40.0, 4.0, 4.01)), volume)


def test_a_missing_label_file_is_said_by_the_volume_reader(tmp_path, volume):
    with pytest.raises(VolumeError, match="nothing is there"):
        open_annotations(tmp_path / "missing.npy", volume)


def test_negative_ids_are_refused(labels):
    negative = labels.astype(np.int32)
    negative[5, 5, 5] = -7
    annotations = Annotations.from_array(negative)
    annotations.read(Box.parse("0:5,0:20,0:25"))
    with pytest.raises(AnnotationError, match="negative id -7"):
        annotations.read(Box.parse("5:6,0:20,0:25"))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), bool), np.zeros((3, 4), "u1")])
def test_arrays_that_are_no_labels_are_refused(wrong):
    with pytest.raises(AnnotationError):
        Annotations.from_array(wrong)


@pytest.mark.parametrize("boundary_id", [0, -1])
def test_a_boundary_id_that_is_no_id_is_refused(labels, boundary_id):
    with pytest.raises(AnnotationError, match="cannot be used"):
        Annotations.from_array(labels, boundary_id=boundary_id)
