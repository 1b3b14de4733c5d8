from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_tokenunify.data import IntensityRange
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.train.pretraining import pretraining_task
from napari_tokenunify.train.pretraining.heads import PretrainingNetwork, build_head
from napari_tokenunify.train.pretraining.pretraining_task import Part, PretrainingTask
from napari_tokenunify.train.pretraining.recipes import load_recipe
from napari_tokenunify.train.task import PacedTask

CROP = (4, 32, 32)
CPU = torch.device("cpu")
SMALLEST = NETWORK_PRESETS["tiny"].replace(
    widths=(4, 4), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)), offsets=((0, 0, 0),)
)


@pytest.fixture
def part():
    array = np.random.default_rng(0).integers(0, 256, (12, 48, 48), dtype=np.uint8)
    return Part(Volume.from_array(array), IntensityRange(0, 255))


def task(part, **changes):
    recipe = load_recipe("paper").replace(token=(2, 8, 8), **changes)
    return PretrainingTask(recipe, [part], [part], CROP, store=lambda *_: None)


def network(recipe):
    torch.manual_seed(0)
    plain = build_network(SMALLEST)
    return PretrainingNetwork(plain, build_head(recipe, plain))


def test_it_is_paced_and_tells_of_each_objective(part):
    one = task(part)
    assert isinstance(one, PacedTask)
    assert one.pace(0.5) == 0.5
    loss = one.loss(network(one.recipe), [one.samples(CROP)[index] for index in range(4)], CPU)
    told = one.told()
    assert {name: value for name, (value, _) in told.items() if name.startswith("weight")} == pytest.approx(
        {"weight_random": 0.18, "weight_next": 0.73, "weight_next_all": 0.09}
    )
    assert told["loss_random"][1] + told["loss_next"][1] == 4
    assert told["loss_next"][1] == told["loss_next_all"][1]
    assert float(loss.detach()) > 0
    assert one.told()["loss_random"] == (0, 0)


def test_parts_of_a_batch_add_up_to_it(part):
    one = task(part)
    one.pace(0.5)
    net, samples = network(one.recipe), [one.samples(CROP)[index] for index in range(3)]
    whole = float(one.loss(net, samples, CPU).detach())
    apart = sum(float(one.loss(net, [sample], CPU).detach()) for sample in samples)
    assert whole == pytest.approx(apart, rel=1e-5)


def test_losses_are_added_with_their_weights(part):
    one = task(part, mixing="sum")
    one.pace(0.5)
    loss = float(one.loss(network(one.recipe), [one.samples(CROP)[0]], CPU).detach())
    told = one.told()
    expected = sum(told[f"loss_{name}"][0] * told[f"weight_{name}"][0] for name in one.recipe.objectives)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_drawing_gives_the_weighted_sum_in_the_mean(part):
    one = task(part)
    one.pace(0.9)
    totals = dict.fromkeys(one.recipe.objectives, 0.0)
    grid, sample = one._grid(CROP), one.samples(CROP)[0]
    for number in range(2000):
        for _, weights in one._questions(type(sample)(sample.clean, sample.clean, number, sample.box), grid, CPU):
            for name, weight in weights.items():
                totals[name] += weight / 2000
    assert totals == pytest.approx({"random": 0.09, "next": 0.18, "next_all": 0.73}, abs=0.03)


def test_what_is_held_out_is_measured_the_same_way_each_time(part, monkeypatch):
    monkeypatch.setattr(pretraining_task, "HELD_OUT_CROPS", 2)
    one = task(part)
    net = network(one.recipe)
    first, second = one.validate(net, CPU), one.validate(net, CPU)
    assert first == second
    assert first["random_against_mean"] == pytest.approx(
        first["validation_random"] * 2 / sum(each["random"]["mean"] for each in one._trivial if "random" in each)
    )


def test_nothing_is_measured_where_nothing_is_held_out(part):
    one = PretrainingTask(load_recipe("mae"), [part], [], CROP, store=lambda *_: None)
    assert one.validate(network(one.recipe), CPU) == {}
    assert one.preview(network(one.recipe), CPU, 0) is None
