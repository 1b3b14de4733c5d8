"""Hold-out: both sides are told apart to the last pair, for dense labels, sections and scribbles."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.data import Annotations, CropSampler, IntensityRange, Volume, open_volume
from napari_tokenunify.train.holdout import LEAST, MOST_BOXES, PairCounts, hold_out

SHAPE = (40, 96, 96)
CROP = (8, 32, 32)
LONG = (*DEFAULT_OFFSETS, (-3, 0, 0), (0, 9, -9))


@pytest.fixture(scope="module")
def dense():
    """Cells of about 12 voxels with a membrane of 0 between them, cheaply made."""
    rng = np.random.default_rng(0)
    seeds = rng.random((60, 3)) * SHAPE
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return (np.stack([((grid - seed) ** 2).sum(-1) for seed in seeds]).argmin(0) + 1).astype(np.uint32)


def sections(labels, z):
    sparse = np.zeros_like(labels)
    sparse[z] = labels[z]
    return sparse


def scribbles(labels, boundary_id):
    """Strokes in every eighth section: along x, and across membranes that are painted too."""
    sparse = np.zeros_like(labels)
    border = np.zeros(labels.shape, bool)
    border[..., 1:] = labels[..., 1:] != labels[..., :-1]
    for z in range(0, SHAPE[0], 8):
        for y in range(4, SHAPE[1], 16):
            sparse[z, y : y + 2] = np.where(border[z, y : y + 2], boundary_id, labels[z, y : y + 2])
    return sparse


def count(annotations, offsets, where):
    """Count the pairs with p in `where`, from the whole volume at once."""
    target, mask = annotations.known(offsets)
    joined = int(np.count_nonzero(target & where))
    return PairCounts(joined, int(np.count_nonzero(mask & where)) - joined)


def check(annotations, offsets, held, share=0.2):
    """Everything a hold-out promises, by brute force."""
    inside = np.zeros(annotations.shape, int)
    for box in held.boxes:
        assert box.clipped(annotations.shape) == box
        assert all(n <= most for n, most in zip(box.shape, CROP, strict=True))
        own = np.zeros(annotations.shape, bool)
        own[box.slices] = True
        assert count(annotations, offsets, own).reaches(1, 1)
        inside += own
    assert 1 <= len(held.boxes) <= MOST_BOXES
    assert inside.max() == 1  # none overlap
    total = count(annotations, offsets, np.True_)
    assert held.held == count(annotations, offsets, inside == 1)
    assert held.left == count(held.training, offsets, np.True_)
    assert held.left.joined >= (1 - share) * total.joined
    assert held.left.apart >= (1 - share) * total.apart
    assert held.held.reaches(LEAST, LEAST)
    _, mask = held.training.known(offsets)
    for channel, offset in zip(mask, offsets, strict=True):
        p = np.argwhere(channel)
        assert not inside[tuple(p.T)].any()
        assert not inside[tuple((p + offset).T)].any()


@pytest.mark.parametrize("offsets", [DEFAULT_OFFSETS, LONG])
@pytest.mark.parametrize("seed", range(3))
def test_of_dense_labels_a_fifth_at_most_is_taken(dense, offsets, seed):
    annotations = Annotations.from_array(dense)
    held, sentence = hold_out(annotations, offsets, CROP, seed=seed)
    check(annotations, offsets, held)
    assert held.held.known > 0.04 * count(annotations, offsets, np.True_).known
    assert f"{held.held.known:,} of" in sentence


@pytest.mark.parametrize("z", [[3, 20, 33], list(range(2, 40, 7)), [11]])
@pytest.mark.parametrize("seed", range(3))
def test_of_a_few_sections_a_part_is_taken(dense, z, seed):
    annotations = Annotations.from_array(sections(dense, z))
    held, _ = hold_out(annotations, DEFAULT_OFFSETS, CROP, seed=seed)
    check(annotations, DEFAULT_OFFSETS, held)


def test_of_many_small_sections_whole_ones_are_taken(dense):
    annotations = Annotations.from_array(sections(dense, list(range(2, 40, 7)))[:, :32, :32])
    held, _ = hold_out(annotations, DEFAULT_OFFSETS, CROP)
    check(annotations, DEFAULT_OFFSETS, held)
    assert held.boxes[0].shape == CROP


@pytest.mark.parametrize("seed", range(3))
def test_of_scribbles_some_are_taken(dense, seed):
    annotations = Annotations.from_array(scribbles(dense, 999), boundary_id=999)
    held, _ = hold_out(annotations, DEFAULT_OFFSETS, CROP, seed=seed)
    check(annotations, DEFAULT_OFFSETS, held)


def test_where_0_is_boundary_the_held_out_part_is_unlabelled_and_no_boundary(dense):
    annotations = Annotations.from_array(np.where(dense % 3 == 0, 0, dense), zero_is_boundary=True)
    held, _ = hold_out(annotations, LONG, CROP)
    check(annotations, LONG, held)
    assert (held.training.read(held.boxes[0]) == 0).all()


def test_the_seed_decides(dense):
    annotations = Annotations.from_array(dense)
    boxes = [hold_out(annotations, DEFAULT_OFFSETS, CROP, seed=seed)[0].boxes for seed in (0, 0, 1)]
    assert boxes[0] == boxes[1] != boxes[2]


def test_the_file_decides_nothing(dense, tmp_path):
    stored = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, dtype=np.uint32, chunks=(7, 40, 33), fill_value=0)
    stored[...] = dense
    lazy = Annotations(open_volume(tmp_path / "labels.zarr"))
    ours, theirs = (hold_out(a, DEFAULT_OFFSETS, CROP)[0] for a in (lazy, Annotations.from_array(dense)))
    assert (ours.boxes, ours.held, ours.left) == (theirs.boxes, theirs.held, theirs.left)


def test_no_crop_for_training_shows_what_is_held_out(dense):
    annotations = Annotations.from_array(dense)
    held, _ = hold_out(annotations, DEFAULT_OFFSETS, CROP)
    image = Volume.from_array(np.zeros(SHAPE, np.uint8))
    crops = CropSampler(image, held.training, CROP, IntensityRange(0, 255))
    hidden = np.zeros(SHAPE, bool)
    for box in held.training.hidden:
        hidden[box.slices] = True
    seen = np.zeros(SHAPE, bool)
    for crop in (crops[i] for i in range(60)):
        np.testing.assert_array_equal(crop.labels, np.where(hidden, 0, dense)[crop.box.slices])
        seen[crop.box.slices] |= crop.labels > 0
    assert seen.any()
    assert not (seen & hidden).any()


class Endless:
    """Labels of a terabyte that are made when they are read: one patch of annotated sections, and nothing else."""

    dtype = np.dtype(np.uint64)
    shape = (4000, 16000, 16000)

    def __init__(self):
        self.read = 0

    def filled(self):
        return np.array([[1000.0, 8000.0, 8000.0]]), np.array([[1003.0, 8255.0, 8255.0]])

    def __getitem__(self, index):
        z, y, x = np.meshgrid(*(np.arange(part.start, part.stop) for part in index), indexing="ij")
        self.read += z.size
        inside = (z >= 1000) & (z < 1004) & (y >= 8000) & (y < 8256) & (x >= 8000) & (x < 8256)
        return np.where(inside, 1 + y // 20 * 1000 + x // 20, 0).astype(np.uint64)


def test_a_huge_volume_is_not_read_where_nothing_is_drawn():
    labels = Endless()
    held, _ = hold_out(Annotations.from_array(labels), DEFAULT_OFFSETS, (16, 64, 64))
    assert held.held.reaches(LEAST, LEAST)
    assert labels.read < 5e7
    again = held.training.read(held.boxes[0])
    assert again.shape == held.boxes[0].shape
    assert not again.any()


def test_too_few_labels_are_all_trained_on_and_the_reason_is_said(dense):
    one = np.where(dense == dense[20, 48, 48], dense, 0)
    held, sentence = hold_out(Annotations.from_array(one), DEFAULT_OFFSETS, CROP)
    assert held is None
    assert "Too little is annotated" in sentence
    assert "0 to be apart" in sentence
    patch = np.zeros_like(dense)
    patch[20, 40:48, 40:52], patch[20, 48:56, 40:52], patch[20, 40:48, 52:64], patch[20, 48:56, 52:64] = 1, 2, 3, 4
    held, sentence = hold_out(Annotations.from_array(patch), DEFAULT_OFFSETS, (8, 64, 64), share=0.05)
    assert held is None
    assert "too close together" in sentence or "Too little" in sentence


def test_of_a_small_patch_in_three_sections_places_are_held_out_with_flat_wide_crops_too(dense):
    patch = sections(dense, [10, 11, 12])
    patch[:, 64:], patch[:, :, 64:] = 0, 0
    held, sentence = hold_out(Annotations.from_array(patch), DEFAULT_OFFSETS, (8, 128, 128))
    assert held is not None, sentence
    assert held.held.reaches(LEAST, LEAST)
