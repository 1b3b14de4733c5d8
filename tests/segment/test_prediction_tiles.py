from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.segment.prediction.tiles import TileGrid

triples = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
grids = st.builds(TileGrid.cover, triples, st.tuples(*[st.integers(2, 12)] * 3), st.floats(0, 0.9), triples)


def tiles(grid):
    return itertools.product(*(range(len(starts)) for starts in grid.starts))


def cells(grid):
    return itertools.product(*map(range, grid.cells))


@settings(max_examples=40, deadline=None)
@given(grids)
def test_tiles_cover_all_and_stay_inside(grid):
    covered = np.zeros(grid.shape, int)
    for tile in tiles(grid):
        box = grid.tile_box(tile)
        assert box.clipped(grid.shape) == box
        assert box.shape == grid.tile
        covered[box.slices] += 1
    assert covered.min() > 0
    assert grid.count == len(list(tiles(grid)))


@settings(max_examples=25, deadline=None)
@given(grids)
def test_tiles_and_cells_that_touch_know_each_other(grid):
    for cell in cells(grid):
        inside = grid.cell_box(cell)
        touching = [tile for tile in tiles(grid) if grid.tile_box(tile).overlap(inside)]
        assert sorted(grid.tiles_of(cell)) == touching
        assert grid.tile_count(cell) == len(touching)
        for tile in touching:
            assert cell in set(grid.cells_of(tile))


def test_the_last_tile_is_moved_inwards_as_monai_does():
    grid = TileGrid.cover((10, 20, 5), (4, 8, 8), 0.25, (4, 4, 4))
    assert grid.tile == (4, 8, 5)
    assert grid.starts == ((0, 3, 6), (0, 6, 12), (0,))


def test_shared_voxels_are_the_same_seen_from_both():
    grid = TileGrid.cover((9, 9, 9), (5, 4, 6), 0.4, (4, 3, 5))
    where = np.arange(9**3).reshape(9, 9, 9)
    for tile in tiles(grid):
        seen = 0
        for cell in grid.cells_of(tile):
            of_tile, of_cell = grid.shared(tile, cell)
            one, other = where[grid.tile_box(tile).slices][of_tile], where[grid.cell_box(cell).slices][of_cell]
            np.testing.assert_array_equal(one, other)
            seen += one.size
        assert seen == 5 * 4 * 6


@pytest.mark.parametrize("start_at", [None, (4, 0, 20)])
def test_every_cell_comes_once_and_next_to_the_one_before(start_at):
    grid = TileGrid.cover((8, 20, 24), (4, 8, 8), 0.25, (4, 4, 4))
    order = list(grid.cell_order(start_at))
    assert sorted(order) == sorted(cells(grid))
    if start_at is None:
        assert all(sum(abs(a - b) for a, b in zip(p, q, strict=True)) == 1 for p, q in itertools.pairwise(order))
        assert [cell[0] for cell in order[:2]] == [0, 1]  # the shortest axis first
    else:
        assert order[0] == (1, 0, 5)
        distances = [np.linalg.norm(np.subtract(cell, order[0])) for cell in order]
        assert distances[1] == 1
        assert distances[-1] == max(distances)


def test_missing_tiles_are_those_that_a_cell_waits_for():
    grid = TileGrid.cover((4, 4, 16), (4, 4, 6), 0.25, (4, 4, 4))
    everything = grid.missing_tiles(set(), {})
    assert everything == [(0, 0, i) for i in range(4)]
    done = {(0, 0, 0), (0, 0, 1)}
    held = {(0, 0, 2): {(0, 0, 1), (0, 0, 3)}, (0, 0, 3): {(0, 0, 3)}}
    assert grid.missing_tiles(done, held) == [(0, 0, 2)]
    assert grid.missing_tiles(set(grid.cell_order()), {}) == []
    assert grid.missing_tiles(set(), {}, (0, 0, 15))[0] == (0, 0, 2)
