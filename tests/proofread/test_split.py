from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.proofread.split import pieces_of, split_sides

NODES = 7


def connected(pairs: list[tuple[int, int]], nodes: int) -> bool:
    return len(np.unique(pieces_of(np.array(pairs, np.int32).reshape(-1, 2), nodes))) == 1


graphs = st.sets(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)).filter(lambda p: p[0] < p[1]), min_size=NODES - 1
).filter(lambda pairs: connected(sorted(pairs), NODES))


def best_cost(pairs, weights, seeds) -> float:
    """The least cost of all ways to share out the nodes."""
    fixed = {node: number for number, nodes in enumerate(seeds) for node in nodes}
    shared = product(range(len(seeds)), repeat=NODES)
    allowed = (sides for sides in shared if all(sides[node] == number for node, number in fixed.items()))
    return min(sum(w for (u, v), w in zip(pairs, weights, strict=True) if sides[u] != sides[v]) for sides in allowed)


@settings(max_examples=60, deadline=None)
@given(pairs=graphs, seed=st.integers(0, 50), seeds=st.sampled_from([[[0], [6]], [[0, 3], [6]], [[2, 1], [5, 0]]]))
def test_a_cut_between_two_sets_of_seeds_is_the_cheapest(pairs, seed, seeds):
    edges = sorted(pairs)
    weights = np.random.default_rng(seed).integers(1, 20, len(edges)) / 16
    found = split_sides(np.arange(1, NODES + 1), np.array(edges, np.int32), weights, seeds)
    for number, nodes in enumerate(seeds):
        assert (found.side[nodes] == number).all()
    assert found.cost == pytest.approx(best_cost(edges, weights, seeds))
    apart = [edge for edge in edges if found.side[edge[0]] == found.side[edge[1]]]
    pieces = pieces_of(np.array(apart, np.int32).reshape(-1, 2), NODES)
    for number, nodes in enumerate(seeds):
        parts = set(pieces[found.side == number].tolist())
        assert found.pieces[number] == len(parts)
        assert parts == set(pieces[nodes].tolist())  # no piece is without a seed


@settings(max_examples=40, deadline=None)
@given(pairs=graphs, seed=st.integers(0, 50))
def test_between_three_seeds_the_cut_is_at_most_a_third_dearer_than_the_best(pairs, seed):
    edges, seeds = sorted(pairs), [[0], [3], [6]]
    weights = np.random.default_rng(seed).integers(1, 20, len(edges)) / 16
    found = split_sides(np.arange(1, NODES + 1), np.array(edges, np.int32), weights, seeds)
    assert [found.side[nodes[0]] for nodes in seeds] == [0, 1, 2]
    assert found.cost <= best_cost(edges, weights, seeds) * 4 / 3 + 1e-9
    assert found.pieces == (1, 1, 1)


def test_a_side_that_falls_apart_is_reported():
    """A path 0 - 1 - 2 with seeds at both ends against the middle."""
    pairs = np.array([[0, 1], [1, 2]], np.int32)
    found = split_sides(np.arange(1, 4), pairs, np.ones(2), [[0, 2], [1]])
    assert found.side.tolist() == [0, 1, 0]
    assert found.pieces == (2, 1)


def test_weights_far_apart_still_fit_into_the_flow():
    pairs = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    found = split_sides(np.arange(1, 5), pairs, np.array([1e9, 1e-9, 1e9]), [[0], [3]])
    assert found.side.tolist() == [0, 0, 1, 1]
