from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.segment.prediction.blending import WHOLE, Windows, finished
from napari_tokenunify.segment.prediction.tiles import TileGrid

shapes = st.tuples(*[st.integers(1, 30)] * 3)
grids = st.builds(TileGrid.cover, shapes, st.tuples(*[st.integers(1, 12)] * 3), st.floats(0, 0.9), shapes)


@settings(max_examples=40, deadline=None)
@given(grids)
def test_the_windows_of_all_tiles_add_up_to_one(grid):
    windows, total = Windows(grid), np.zeros(grid.shape)
    for tile in itertools.product(*(range(len(starts)) for starts in grid.starts)):
        z, y, x = windows[tile]
        total[grid.tile_box(tile).slices] += z[:, None, None] * y[:, None] * x
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_shares_are_a_weighted_mean_as_the_slow_way_has_it():
    grid = TileGrid.cover((7, 13, 9), (4, 6, 5), 0.4, (4, 4, 4))
    rng = np.random.default_rng(0)
    windows, sums = Windows(grid), np.zeros((2, *grid.shape), np.uint32)
    wanted, weights, most = np.zeros((2, *grid.shape)), np.zeros(grid.shape), np.zeros(grid.shape, int)
    distances = np.indices(grid.tile) - (np.array(grid.tile).reshape(3, 1, 1, 1) - 1) / 2
    gaussian = np.exp(-0.5 * ((distances / (0.125 * np.array(grid.tile).reshape(3, 1, 1, 1))) ** 2).sum(0))
    for tile in itertools.product(*(range(len(starts)) for starts in grid.starts)):
        answer = rng.random((2, *grid.tile)).astype(np.float32)
        inside = grid.tile_box(tile).slices
        wanted[(slice(None), *inside)] += answer * gaussian
        weights[inside] += gaussian
        most[inside] += 1
        sums[(slice(None), *inside)] += windows.shares(tile, torch.from_numpy(answer.copy()))
    assert sums.max() < 2**16
    assert (np.abs(sums / WHOLE - wanted / weights) <= 0.51 * most / WHOLE).all()


def test_sums_become_what_is_stored():
    sums = np.array([0, WHOLE // 255 // 2, WHOLE // 255, WHOLE // 2, WHOLE, WHOLE + 30], np.uint16)
    assert finished(sums, "uint8").tolist() == [0, 0, 1, 128, 255, 255]
    half = finished(sums, "float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, np.minimum(sums / WHOLE, 1), rtol=2**-11)


@pytest.mark.parametrize("count", [8, 1000])
def test_rounding_leaves_room_in_sixteen_bits(count):
    assert WHOLE + count / 2 <= np.iinfo(np.uint16).max
