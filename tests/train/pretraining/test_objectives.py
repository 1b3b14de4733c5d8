from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.train.pretraining.heads import PretrainingNetwork, build_head
from napari_tokenunify.train.pretraining.objectives import answer, ask_after_prefix, ask_random, squared_error
from napari_tokenunify.train.pretraining.recipes import Recipe, load_recipe
from napari_tokenunify.train.pretraining.tokens import TokenGrid, coarser

CROP = (8, 32, 32)
GRID = TokenGrid(CROP, (4, 16, 16))
SMALLEST = NETWORK_PRESETS["tiny"].replace(
    widths=(4, 4), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)), offsets=((0, 0, 0),)
)


def recipe(**changes):
    values = {"title": "t", "description": "d", "phases": [{"until": 1, "weights": {"next": 1}}]}
    return Recipe.model_validate({**values, **changes})


def crop(seed=0, shape=CROP):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ask(kind, clean, seed=3, perturbed=None, grid=GRID, **changes):
    function = ask_random if kind == "random" else ask_after_prefix
    return function(
        clean, clean if perturbed is None else perturbed, grid, recipe(**changes), np.random.default_rng(seed)
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    plain = build_network(SMALLEST)
    return PretrainingNetwork(plain, build_head(recipe(), plain)).eval()


def predict(network, question, grid=GRID):
    tokens = question.asked["next"].tokens if "next" in question.asked else None
    logits, of_tokens = network(question.image[None, None], None if tokens is None else tokens[None], grid)
    first = None if of_tokens is None else of_tokens[0]
    return {name: answer(asked, logits[0], first, grid) for name, asked in question.asked.items()}


KINDS = [
    ("random", {"mask": 0.5}),
    ("random", {"mask": [0.2, 0.8], "fill": "zeros"}),
    ("prefix", {}),
    ("prefix", {"unit": "cell", "order": "hilbert"}),
    ("prefix", {"unit": "spread", "fill": "zeros"}),
    ("prefix", {"order": "near-to-far"}),
]


@pytest.mark.parametrize(("kind", "changes"), KINDS)
def test_no_hidden_voxel_reaches_the_answer(network, kind, changes):
    clean = crop()
    question = ask(kind, clean, **changes)
    other = torch.where(question.visible, clean, crop(seed=1))
    assert not torch.equal(other, clean)
    again = ask(kind, other, **changes)
    assert torch.equal(question.image, again.image)
    before, after = predict(network, question), predict(network, again)
    for name in before:
        assert torch.equal(before[name], after[name])


@pytest.mark.parametrize(("kind", "changes"), KINDS)
def test_the_loss_is_on_the_tokens_asked_for_alone(network, kind, changes):
    question = ask(kind, crop(), **changes)
    for name, asked in question.asked.items():
        target = asked.target.clone().requires_grad_()
        found = predict(network, question)[name]
        loss = squared_error(type(asked)(asked.voxels, target, asked.tokens), found)
        (gradient,) = torch.autograd.grad(loss, target)
        assert (gradient[~asked.voxels] == 0).all()
        assert (gradient[asked.voxels] != 0).float().mean() > 0.99
        assert not (asked.voxels & question.visible).any()
        expected = (found - asked.target)[asked.voxels].square().mean()
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_unit_comes_next_and_everything_else_that_is_hidden_after_it():
    for seed in range(20):
        question = ask("prefix", crop(), seed)
        number = int(GRID.to_tokens(question.visible.float()).mean(dim=(1, 2, 3)).sum())
        assert 1 <= number < GRID.count
        assert question.asked["next"].tokens.tolist() == [number]
        assert torch.equal(question.asked["next_all"].voxels, ~question.visible)


def test_prefixes_of_all_lengths_are_drawn():
    lengths = {int(ask("prefix", crop(), seed).asked["next"].tokens) for seed in range(100)}
    assert lengths == set(range(1, GRID.count))


def test_the_share_hidden_is_the_one_of_the_recipe():
    grid = TokenGrid((16, 160, 160))
    question = ask("random", torch.zeros(16, 160, 160), mask=0.4, grid=grid)
    assert float((~question.visible).float().mean()) == pytest.approx(0.4)
    shares = [float((~ask("random", crop(), seed, mask=[0.2, 0.8]).visible).float().mean()) for seed in range(40)]
    assert min(shares) < 0.3 < 0.6 < max(shares)


def test_hidden_voxels_are_noise_or_zeros_and_the_same_for_the_same_seed():
    question = ask("random", crop(), mask=0.5)
    noise = question.image[~question.visible]
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert torch.equal(question.image, ask("random", crop(), mask=0.5).image)
    assert (ask("random", crop(), fill="zeros", mask=0.5).image[~question.visible] == 0).all()


def test_perturbed_crops_are_shown_and_clean_ones_asked_for():
    clean, perturbed = crop(), crop(1)
    question = ask("prefix", clean, perturbed=perturbed)
    assert torch.equal(question.image[question.visible], perturbed[question.visible])
    assert torch.equal(question.asked["next"].target, clean)
    official = ask("prefix", clean, perturbed=perturbed, next_target="perturbed")
    assert torch.equal(official.asked["next"].target, perturbed)
    assert torch.equal(official.asked["next_all"].target, clean)


def test_the_official_code_scores_all_voxels_and_one_prefix_a_crop():
    official = load_recipe("official-code")
    grid = TokenGrid((16, 160, 160), official.token, official.order)
    assert grid.count == 400
    clean = crop(shape=(16, 160, 160))
    for function, name in ((ask_random, "random"), (ask_after_prefix, "next_all")):
        question = function(clean, clean, grid, official, np.random.default_rng(0))
        assert question.asked[name].voxels.all()
        assert not question.visible.all()
        assert float(question.image[~question.visible].std()) == pytest.approx(1, abs=0.02)
    assert question.asked["next"].tokens.shape == (1,)


def test_with_scales_only_coarse_means_are_seen(network):
    clean = crop()
    question = ask("prefix", clean, unit="scale")
    assert torch.allclose(question.image, coarser(clean, question.coarse))
    assert torch.allclose(coarser(question.asked["next"].target, question.coarse), question.image, atol=1e-6)
    assert not torch.allclose(question.asked["next"].target, question.image)
    detail = crop(1) - coarser(crop(1), question.coarse)
    again = ask("prefix", clean + detail, unit="scale")
    before, after = predict(network, question), predict(network, again)
    assert torch.allclose(before["next"], after["next"], atol=1e-4)
    assert torch.allclose(before["next_all"], after["next_all"], atol=1e-4)


def test_the_position_reaches_the_head(network):
    image = crop()[None, None]
    _, tokens = network(image, torch.tensor([[0, 5]]), GRID)
    assert not torch.allclose(tokens[0, 0], tokens[0, 1], atol=1e-6)
    _, alone = network(image, torch.tensor([[5]]), GRID)
    assert torch.allclose(alone[0, 0], tokens[0, 1], atol=1e-5)
