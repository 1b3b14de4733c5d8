from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import zarr

from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.labelled_zarr import create_labels
from napari_tokenunify.data.resampled import Resampling, resampled, resampled_annotations
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.prediction.resample import resample

COARSER = Resampling((50, 4, 4), (50, 10, 10))
FINER = Resampling((50, 4, 4), (10, 4, 4))


@pytest.mark.parametrize("how", [COARSER, FINER, Resampling((8, 8, 8), (10, 5, 16))])
def test_what_a_training_sees_is_what_predict_shows_the_network(how):
    image = np.random.default_rng(0).random((10, 40, 60), np.float32)
    seen = resampled(Volume.from_array(image), how)
    wanted = resample(torch.from_numpy(image)[None, None], seen.shape)[0, 0].numpy()
    np.testing.assert_allclose(seen.read(Box.whole(seen.shape)), wanted, atol=1e-5)
    assert seen.voxel_size_nm == how.after


def test_an_axis_keeps_its_extent_and_at_least_one_voxel():
    assert Resampling((40, 4, 4), (20, 8, 8)).shape((16, 160, 160)) == (32, 80, 80)
    assert Resampling((10, 4, 4), (80, 4, 4)).shape((1, 160, 160)) == (1, 160, 160)


def test_a_box_reads_as_the_same_part_of_everything_does():
    seen = resampled(Volume.from_array(np.random.default_rng(0).random((9, 33, 47))), COARSER)
    box = Box((2, 3, 5), (7, 9, 12))
    np.testing.assert_allclose(seen.read(box), seen.read(Box.whole(seen.shape))[box.slices], atol=1e-6)


def test_values_come_back_to_where_they_were():
    z, y, x = np.mgrid[:8, :60, :80]
    smooth = (np.sin(y / 15) + np.cos(x / 20) + z / 8).astype(np.float32)
    box = Box((1, 10, 12), (7, 50, 68))
    seen = resampled(Volume.from_array(smooth), COARSER)
    around = COARSER.box(box, seen.shape)
    back = COARSER.back.values(seen.read(around), around, box)
    assert back.shape == box.shape
    np.testing.assert_allclose(back[:, 6:-6, 6:-6], smooth[box.slices][:, 6:-6, 6:-6], atol=0.05)


def test_a_new_voxel_has_the_id_at_its_middle():
    labels = np.arange(1, 1 + 4 * 10 * 10, dtype=np.uint32).reshape(4, 10, 10)
    seen = resampled_annotations(Annotations.from_array(labels), Resampling((1, 1, 1), (0.5, 5, 5)))
    assert seen.shape == (8, 2, 2)
    expected = labels[np.ix_([0, 0, 1, 1, 2, 2, 3, 3], [2, 7], [2, 7])]
    np.testing.assert_array_equal(seen.read(Box.whole(seen.shape)), expected)


def test_thin_strokes_do_not_break_and_a_voxel_that_two_share_stays_unknown():
    labels = np.zeros((1, 15, 15), np.uint8)
    labels[0, 0, :] = 3  # at the edge of the new voxels, not at their middle
    labels[0, 10, 0], labels[0, 14, 4] = 5, 6
    seen = resampled_annotations(Annotations.from_array(labels), Resampling((5, 1, 1), (5, 5, 5)))
    np.testing.assert_array_equal(seen.read(Box.whole(seen.shape))[0], [[3, 3, 3], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("factor", [1.25, 1.3, 1.5, 2, 2.5, 4, 8, 10])
def test_every_labelled_voxel_is_seen_in_exactly_one_new_one(factor):
    how = Resampling((1, 4, 4), (factor, 4, 4))
    for section in range(40):
        labels = np.zeros((40, 2, 2), np.uint16)
        labels[section] = 9
        seen = resampled_annotations(Annotations.from_array(labels), how)
        whole = seen.read(Box.whole(seen.shape))
        assert np.count_nonzero(whole[:, 0, 0]) == 1, section
        parts = [seen.read(Box((z, 0, 0), (z + 1, 2, 2))) for z in range(seen.shape[0])]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_where_zero_is_boundary_it_is_not_painted_over():
    labels = np.full((1, 10, 10), 4, np.uint8)
    labels[0, :, 2] = 0
    how = Resampling((5, 1, 1), (5, 5, 5))
    seen = resampled_annotations(Annotations.from_array(labels, zero_is_boundary=True), how)
    edge = seen.boundary_id
    np.testing.assert_array_equal(seen.read(Box.whole(seen.shape))[0], [[edge, 4], [edge, 4]])


def test_empty_chunks_are_left_out_as_they_are_without(tmp_path):
    create_labels(tmp_path / "labels.zarr", (256, 512, 512), (50, 4, 4), "uint32")
    array = zarr.open_array(tmp_path / "labels.zarr" / "0", mode="r+")
    array[40:42, 300:310, 300:310] = 7
    seen = resampled_annotations(Annotations(open_volume(tmp_path / "labels.zarr")), COARSER)
    boxes = list(label_blocks(seen.labels, (1, 1, 1)))
    assert sum(np.prod(box.shape) for box in boxes) < np.prod(seen.shape) / 2
    assert sum(np.count_nonzero(seen.read(box)) for box in boxes) == 2 * 4 * 4


def test_a_resampled_file_crosses_to_another_process(tmp_path):
    np.save(tmp_path / "raw.npy", np.random.default_rng(0).random((5, 20, 20)))
    seen = resampled(open_volume(tmp_path / "raw.npy"), COARSER)
    box = Box.whole(seen.shape)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(seen)).read(box), seen.read(box))


def test_a_voxel_that_is_no_number_does_not_spread():
    image = np.ones((8, 40, 40), np.float32)
    image[4, 20, 20] = np.nan
    seen = resampled(Volume.from_array(image), COARSER)
    values = seen.read(Box.whole(seen.shape))
    assert np.isfinite(values).all()
    assert np.count_nonzero(values < 0.999) < 40
