from __future__ import annotations

import pytest
import torch

from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.train import choices
from napari_tokenunify.train.choices import candidate_crops

LARGE = (500, 500, 500)
FIB, CUT = (10.0, 10.0, 10.0), (50.0, 4.0, 4.0)


def test_without_a_word_on_labels_crops_are_deep_and_for_thick_sections_flat():
    assert candidate_crops(FIB, LARGE)[0] == candidate_crops(None, LARGE)[0] == (32, 160, 160)
    assert candidate_crops(CUT, LARGE)[-1] == (16, 64, 64)


@pytest.mark.parametrize(
    ("labelled", "depth"),
    [
        (range(500), 32),
        (range(0, 500, 5), 32),  # no flat crop holds more of these for its voxels
        (range(100, 112), 16),
        ((100, 101, 102), 8),
        ((100, 101, 102, 300, 301, 302), 8),
        ((17,), 8),
    ],
)
def test_crops_are_as_flat_as_the_stretches_of_labelled_sections_are_short(labelled, depth):
    assert {crop[0] for crop in candidate_crops(FIB, LARGE, labelled)} == {depth}


@pytest.mark.parametrize("voxel_size", [FIB, CUT])
def test_flat_crops_have_about_as_many_voxels(voxel_size):
    for deep, flat in zip(candidate_crops(voxel_size, LARGE), candidate_crops(voxel_size, LARGE, (7, 8)), strict=True):
        voxels = [z * y * x for z, y, x in (deep, flat)]
        assert flat[0] == 8
        assert voxels[1] == pytest.approx(voxels[0], rel=0.15)


def test_a_thin_volume_that_is_labelled_throughout_gets_no_wider_crops():
    for depth in (8, 16):
        thin = (depth, 500, 500)
        assert candidate_crops(FIB, thin, range(depth)) == candidate_crops(FIB, thin)
        assert candidate_crops(CUT, thin, range(depth)) == candidate_crops(CUT, thin)


def test_a_crop_is_not_much_larger_than_the_volume_nor_there_twice():
    assert candidate_crops(FIB, (30, 100, 64)) == [(32, 104, 64), (32, 96, 64), (32, 64, 64)]
    assert candidate_crops(FIB, (20, 64, 64)) == [(24, 64, 64)]


@pytest.mark.parametrize("crop", [(8, 32, 32), None])
def test_a_step_of_more_crops_takes_longer_and_so_there_are_fewer_steps(monkeypatch: pytest.MonkeyPatch, crop):
    monkeypatch.setattr(choices, "step_seconds", lambda *_: 0.5)
    network = torch.nn.Conv3d(1, 3, 1)
    steps = {}
    for batch in (1, 4):
        config = FinetuneConfig(volume="v", annotations="a", out="o", minutes=10, crop=crop, batch=batch)
        plan, said = choices.choose_plan(config, network, None, [(16, 64, 64), (8, 32, 32)], "fp32", labelled=False)
        assert plan.batch == batch
        steps[batch] = int(said.split()[1].replace(",", ""))
    assert steps[4] == pytest.approx(steps[1] / 4, abs=1)
