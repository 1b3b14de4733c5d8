from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_tokenunify.train.pretraining.objectives import ask_after_prefix, ask_random, squared_error
from napari_tokenunify.train.pretraining.recipes import load_recipe
from napari_tokenunify.train.pretraining.tokens import TokenGrid
from napari_tokenunify.train.pretraining.trivial import TRIVIAL, inpainted, nearest_token, trivial_answers


def slope(shape):
    z, y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in shape), indexing="ij")
    return 0.2 * z + 0.3 * y + 0.5 * x


def test_visible_voxels_stay_and_a_grey_crop_is_restored():
    visible = torch.rand(9, 33, 20) > 0.7
    grey = torch.full((9, 33, 20), 0.25)
    assert torch.allclose(inpainted(torch.where(visible, grey, torch.randn(9, 33, 20)), visible), grey)
    image = torch.rand(9, 33, 20)
    assert torch.equal(inpainted(image, visible)[visible], image[visible])


def test_the_nearest_token_is_the_one_a_search_finds():
    grid = TokenGrid((7, 30, 34), (4, 8, 8))
    rng = np.random.default_rng(0)
    image = torch.rand(grid.crop)
    chosen = np.sort(rng.permutation(grid.count)[:20])
    visible = ~grid.voxels_of(chosen)
    found = nearest_token(image, visible, grid)
    assert torch.equal(found[visible], image[visible])
    shown = np.setdiff1d(np.arange(grid.count), chosen)
    for token in chosen:
        away = np.square((grid.places[shown] - grid.places[token]) * grid.token).sum(axis=1)
        start = grid.places[token] * grid.token
        ends = {
            float(image[tuple(np.minimum(grid.places[near] * grid.token, np.array(grid.crop) - 1))])
            for near in shown[away == away.min()]
        }
        assert float(found[tuple(start)]) in ends


def test_of_a_slope_inpainting_is_better_than_the_nearest_token_and_that_than_the_mean():
    grid = TokenGrid((16, 96, 96))
    clean = slope(grid.crop)
    question = ask_random(clean, clean, grid, load_recipe("official-code"), np.random.default_rng(0))
    errors = {
        name: float(squared_error(question.asked["random"], found))
        for name, found in trivial_answers(question, grid).items()
    }
    assert errors["inpainting"] < errors["nearest"] < errors["mean"]


@pytest.mark.parametrize("unit", ["token", "scale"])
def test_what_is_hidden_is_not_looked_at(unit):
    grid = TokenGrid((8, 48, 48))
    recipe = load_recipe("paper").replace(unit=unit)
    clean = torch.rand(grid.crop)
    question = ask_after_prefix(clean, clean, grid, recipe, np.random.default_rng(0))
    found = trivial_answers(question, grid)
    assert set(found) == set(TRIVIAL)
    assert all(answer.shape == clean.shape and bool((answer < 1).all()) for answer in found.values())
