from __future__ import annotations

import pytest
import torch

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.network.card import ModelCard, TrainingRun
from napari_tokenunify.network.device import is_out_of_memory
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.segment.prediction.memory import (
    Batches,
    batch_for,
    choose_batch,
    default_tile,
    fit_tile,
)

CPU = torch.device("cpu")


class Machine:
    """Computes squares, as many at once as fit."""

    def __init__(self, room, error):
        self.room, self.error, self.sizes = room, error, []

    def __call__(self, items):
        self.sizes.append(len(items))
        if len(items) > self.room:
            raise self.error
        return [item**2 for item in items]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_the_batch_is_halved_when_memory_runs_out_and_nothing_is_lost(error):
    batches, machine = Batches(8), Machine(3, error)
    assert batches.run(range(11), machine) == [i**2 for i in range(11)]
    assert machine.sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batches.size == 2


def test_a_tile_that_does_not_fit_is_said_in_one_sentence():
    with pytest.raises(SegmentError, match="choose a smaller --tile"):
        Batches(4).run(range(4), Machine(0, torch.OutOfMemoryError("CUDA out of memory.")))


def test_other_errors_are_not_taken_for_a_full_memory():
    batches = Batches(4)
    with pytest.raises(RuntimeError, match="shapes"):
        batches.run(range(4), Machine(0, RuntimeError("shapes do not fit")))
    assert batches.size == 4
    assert not is_out_of_memory(ValueError("wrong"))


def test_the_tile_is_twice_as_deep_as_the_crop_of_the_latest_training_that_names_one_and_wide():
    runs = tuple(
        TrainingRun(stage="finetune", steps=1, started="", seconds=1, settings=settings)
        for settings in ({"crop": [9, 9, 9]}, {"crop": [8, 96, 64]}, {"crop": "large"}, {})
    )
    card = ModelCard(network=NETWORK_PRESETS["tiny"])
    assert default_tile(card.replace(history=[run.model_dump() for run in runs])) == (16, 160, 160)
    assert default_tile(card) == (32, 160, 160)
    assert default_tile(ModelCard(network=NETWORK_PRESETS["base"])) == (16, 160, 160)


def test_a_tile_shrinks_by_whole_strides_until_it_fits():
    network = NETWORK_PRESETS["tiny"]  # total stride 8, 16, 16
    assert fit_tile((32, 160, 160), network, 1 << 40) == (32, 160, 160)
    assert fit_tile((32, 160, 160), network, 2 * 384 * 32 * 80 * 160) == (32, 80, 160)
    assert fit_tile((32, 160, 160), network, 0) == (8, 16, 16)
    assert fit_tile((4, 10, 10), network, 0) == (4, 10, 10)


def test_the_batch_takes_at_most_four_fifths_of_the_memory():
    assert [batch_for(10, free) for free in (0, 24, 25, 49, 50, 10_000)] == [1, 1, 2, 2, 4, 16]
    assert choose_batch(lambda: pytest.fail("no need to measure"), CPU) == 1
