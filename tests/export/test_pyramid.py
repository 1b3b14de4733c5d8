from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from napari_tokenunify.export.pyramid import coarser, level_steps, majority, mean


def slow_windows(block, step):
    """Yield the place of each window, and what of it is inside."""
    for place in np.ndindex(*coarser(block.shape, step)):
        yield place, block[tuple(slice(p * f, p * f + f) for p, f in zip(place, step, strict=True))]


def slow_majority(block, step):
    out = np.zeros(coarser(block.shape, step), block.dtype)
    for place, window in slow_windows(block, step):
        votes = Counter(window.ravel().tolist())
        out[place] = min(votes, key=lambda label: (-votes[label], label == 0, label))
    return out


@pytest.mark.parametrize("step", [(2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int32])
@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 3), (1, 1, 1)])
def test_the_most_frequent_id_of_a_window_wins(shape, dtype, step):
    ids = np.random.default_rng(0).integers(0, 4, shape).astype(dtype)
    if dtype == np.uint64:
        ids[ids == 3] = 2**64 - 1  # would be lost in a float
    np.testing.assert_array_equal(majority(ids, step), slow_majority(ids, step))


def test_a_neuron_wins_over_nothing_where_they_are_equally_frequent():
    ids = np.array([[[0, 0], [7, 7]]], np.uint32)
    assert majority(ids, (1, 2, 2)).item() == 7


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_mean_is_that_of_what_is_there(dtype):
    values = (np.random.default_rng(0).random((5, 7, 3)) * 250).astype(dtype)
    found = mean(values, (2, 2, 2))
    assert found.dtype == dtype
    for place, window in slow_windows(values, (2, 2, 2)):
        assert abs(float(found[place]) - window.mean(dtype=np.float64)) <= (
            0.5 if np.dtype(dtype).kind != "f" else 1e-3
        )


def test_the_finest_axes_are_halved_until_voxels_are_cubes():
    steps = level_steps((100, 4000, 4000), (40.0, 4.0, 4.0))
    assert steps[:5] == [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    shape = (100, 4000, 4000)
    for step in steps:
        shape = coarser(shape, step)
    assert max(shape) <= 64


def test_levels_end_for_every_shape():
    for shape in [(1, 1, 1000), (3, 65, 2), (64, 64, 64), (1000, 1, 1)]:
        current = shape
        for step in level_steps(shape, (40.0, 4.0, 4.0)):
            current = coarser(current, step)
        assert max(current) <= 64
