from __future__ import annotations

import numpy as np

from napari_tokenunify.segment.merge_tree import MergeTree
from napari_tokenunify.segment.names import named


def brute_force(table: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    names = np.zeros_like(table)
    for segment in np.unique(table[table > 0]):
        inside = np.flatnonzero(table == segment)
        names[inside] = max(inside, key=lambda node: (sizes[node], -node))
    return names


def test_a_segment_is_called_by_its_largest_fragment():
    chance = np.random.default_rng(0)
    table = chance.integers(0, 12, 41).astype(np.uint64)
    table[0] = 0
    sizes = chance.integers(1, 6, 41)  # many are of the same size
    sizes[0] = 0
    np.testing.assert_array_equal(named(table, sizes), brute_force(table, sizes))
    np.testing.assert_array_equal(named(named(table, sizes), sizes), named(table, sizes))


def test_a_segment_that_only_grows_keeps_its_name_at_every_threshold():
    """A neuron of one large fragment takes in specks, some of smaller ids than its own."""
    pairs = np.array([(3, 4), (2, 3), (2, 5), (1, 2), (1, 6), (1, 7)], np.uint64)
    tree = MergeTree(7, pairs, np.linspace(0.1, 0.6, 6).astype(np.float32))
    sizes = np.array([0, 9, 9, 9, 1000, 9, 9, 9])
    for threshold in np.linspace(0, 1, 21):
        assert named(tree.table(threshold), sizes)[4] == 4
    assert set(named(tree.table(1), sizes)[1:]) == {4}


def test_of_two_that_join_the_one_with_the_larger_fragment_gives_the_name():
    tree = MergeTree(4, np.array([(1, 2), (3, 4), (1, 3)], np.uint64), np.array([0.1, 0.2, 0.5], np.float32))
    sizes = np.array([0, 10, 20, 5, 30])
    assert named(tree.table(0.3), sizes).tolist() == [0, 2, 2, 4, 4]
    assert named(tree.table(0.6), sizes).tolist() == [0, 4, 4, 4, 4]
