from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.errors import TrainError
from napari_tokenunify.train.pretraining.tokens import TokenGrid, coarser, hilbert_number, scales

ORDERS = ("raster", "hilbert", "near-to-far")
sizes = st.tuples(st.integers(1, 13), st.integers(1, 21), st.integers(1, 21))
small = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
points = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=60, deadline=None)
@given(sizes, small, st.sampled_from(ORDERS), points)
def test_voxels_come_back_from_tokens_exactly_for_any_size_and_order(crop, token, order, near):
    grid = TokenGrid(crop, token, order, near)
    voxels = torch.arange(2 * int(np.prod(crop)), dtype=torch.float32).reshape(2, *crop) + 1
    tokens = grid.to_tokens(voxels)
    assert tokens.shape == (2, grid.count, *token)
    assert torch.equal(grid.to_voxels(tokens), voxels)
    assert torch.equal(grid.to_tokens(grid.to_voxels(tokens)), tokens)
    assert sorted(grid.sequence) == list(range(grid.count))


@settings(max_examples=40, deadline=None)
@given(sizes, small, st.sampled_from(ORDERS), st.sampled_from(["token", "cell", "spread"]), small)
def test_units_hold_every_token_once(crop, token, order, unit, size):
    grid = TokenGrid(crop, token, order)
    try:
        units = grid.units(unit, size)
    except TrainError:
        return
    assert sorted(np.concatenate(units)) == list(range(grid.count))


def test_the_official_crop_has_400_tokens_that_follow_x_first():
    grid = TokenGrid((16, 160, 160))
    assert (grid.shape, grid.count) == ((4, 10, 10), 400)
    voxels = torch.rand(16, 160, 160)
    tokens = grid.to_tokens(voxels)
    assert torch.equal(tokens[1], voxels[:4, :16, 16:32])
    assert torch.equal(tokens[10], voxels[:4, 16:32, :16])
    assert torch.equal(tokens[100], voxels[4:8, :16, :16])


@pytest.mark.parametrize(("axes", "extent"), [(2, 8), (3, 2), (3, 4), (3, 8)])
def test_hilberts_curve_steps_from_neighbour_to_neighbour(axes, extent):
    places = np.stack(np.meshgrid(*[np.arange(extent)] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    number = hilbert_number(places, extent)
    assert sorted(number) == list(range(extent**axes))
    walk = places[np.argsort(number)]
    assert (np.abs(np.diff(walk, axis=0)).sum(axis=1) == 1).all()


def test_near_to_far_starts_at_its_point_and_goes_outwards():
    grid = TokenGrid((8, 48, 48), (4, 16, 16), "near-to-far", (0.0, 1.0, 0.0))
    assert tuple(grid.places[grid.sequence[0]]) == (0, 2, 0)
    middle = (grid.places[grid.sequence] + 0.5) * (4, 16, 16)
    away = np.square(middle - (0, 48, 0)).sum(axis=1)
    assert (np.diff(away) >= 0).all()


def test_voxels_of_tokens_are_those_that_to_tokens_cuts():
    grid = TokenGrid((5, 7, 9), (2, 3, 4), "hilbert")
    voxels = torch.rand(5, 7, 9)
    chosen = np.array([0, 5, 17])
    kept = grid.to_tokens(voxels * grid.voxels_of(chosen))
    where = {int(raster): place for place, raster in enumerate(grid.sequence)}
    for raster in range(grid.count):
        expected = grid.to_tokens(voxels)[where[raster]]
        assert torch.equal(kept[where[raster]], expected if raster in chosen else torch.zeros_like(expected))
    assert torch.equal(grid.voxels_at(voxels, torch.tensor([5]))[0], grid.to_tokens(voxels)[where[5]])


def test_a_cell_is_a_box_of_tokens_and_a_spread_subsample_lies_all_over():
    grid = TokenGrid((8, 64, 64))
    cells, spread = grid.units("cell", (1, 2, 2)), grid.units("spread", (1, 2, 2))
    assert (len(cells), len(spread)) == (8, 4)
    assert np.ptp(grid.places[cells[0]], axis=0).tolist() == [0, 1, 1]
    assert np.ptp(grid.places[spread[0]], axis=0).tolist() == [1, 2, 2]


def test_a_crop_of_one_token_is_refused_in_one_sentence():
    with pytest.raises(TrainError, match="larger --crop or a smaller --token"):
        TokenGrid((4, 16, 16)).units("token", (1, 1, 1))


def test_scales_go_from_whole_tokens_to_single_voxels():
    assert scales((4, 16, 16), (1, 2, 2)) == ((1, 16, 16), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1))
    assert scales((4, 16, 16), (4, 4, 4)) == ((4, 16, 16), (4, 4, 4), (1, 1, 1))
    with pytest.raises(TrainError, match="larger unit size"):
        scales((4, 16, 16), (1, 1, 1))


@pytest.mark.parametrize("crop", [(4, 8, 8), (5, 7, 9)])
def test_coarser_voxels_are_means_of_their_box(crop):
    voxels = torch.rand(crop, dtype=torch.float64)
    found = coarser(voxels, (2, 3, 4))
    assert float(found[3, 4, 5]) == pytest.approx(float(voxels[2:4, 3:6, 4:8].mean()))
    assert float(found[-1, -1, -1]) == pytest.approx(
        float(voxels[(crop[0] - 1) // 2 * 2 :, (crop[1] - 1) // 3 * 3 :, (crop[2] - 1) // 4 * 4 :].mean())
    )


@pytest.mark.parametrize("shape", [(2, 20, 40), (3, 5, 7), (1, 1, 1), (9, 17, 33)])
def test_means_of_boxes_are_those_of_numpy_also_where_a_crop_is_smaller_than_a_box(shape):
    by = (4, 8, 16)
    voxels = np.random.default_rng(0).random(shape).astype(np.float32)
    wanted = np.empty_like(voxels)
    for z, y, x in itertools.product(*(range(0, n, size) for n, size in zip(shape, by, strict=True))):
        box = (slice(z, z + by[0]), slice(y, y + by[1]), slice(x, x + by[2]))
        wanted[box] = voxels[box].mean()
    np.testing.assert_allclose(coarser(torch.from_numpy(voxels), by).numpy(), wanted, atol=1e-6)
