from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.proofread.constraints import Constraints, as_keys
from napari_tokenunify.proofread.correction import corrected
from napari_tokenunify.proofread.fragment_graph import FragmentGraph
from napari_tokenunify.segment.names import named
from tests.proofread.slow_correction import slow_corrected

NODES = 14


def graph_of(edges, mean, sizes) -> FragmentGraph:
    pairs = np.array(sorted(edges), np.uint64).reshape(-1, 2)
    order = np.random.default_rng(len(pairs)).permutation(len(pairs))
    means = np.array(mean[: len(pairs)], np.float32)[order]
    return FragmentGraph._indexed(pairs, np.ones(len(pairs)), means, np.array([0, *sizes], np.int64))


pairs = st.sets(st.tuples(st.integers(1, NODES), st.integers(1, NODES)).filter(lambda p: p[0] < p[1]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    edges=pairs,
    base=st.lists(st.integers(0, 4), min_size=NODES, max_size=NODES),
    sizes=st.lists(st.integers(1, 5), min_size=NODES, max_size=NODES),
    must=pairs,
    cannot=pairs,
    states=st.lists(st.integers(0, 8), min_size=NODES, max_size=NODES),
    seed=st.integers(0, 5),
)
def test_the_table_is_that_of_the_slow_reference(edges, base, sizes, must, cannot, states, seed):
    """Any demands, also such as contradict each other; segments that do not hang together; locked and deleted ones."""
    mean = np.random.default_rng(seed).permutation(len(edges)) / 40
    graph = graph_of(edges, mean, sizes)
    table = named(np.array([0, *base], np.uint64), graph.sizes)
    groups: dict[int, list[int]] = {}
    for fragment, state in enumerate(states, 1):
        if state in {5, 6} and base[fragment - 1]:
            groups.setdefault(state, []).append(fragment)
    locked = [(min(group), fragment) for group in groups.values() for fragment in group]
    deleted = np.array([f for f, state in enumerate(states, 1) if state == 7], np.uint64)
    must = {pair for pair in list(must)[:6] if all(table[list(pair)])}
    constraints = Constraints(as_keys(must), as_keys(list(cannot)[:8]), as_keys(locked), deleted)
    found = corrected(graph, table, constraints).table
    assert found.tolist() == slow_corrected(graph, table, constraints).tolist()


def test_without_demands_the_table_is_the_given_one():
    graph = graph_of([(1, 2), (2, 3)], [0.5, 0.5], [1, 2, 3])
    base = np.array([0, 3, 3, 3], np.uint64)
    assert corrected(graph, base, Constraints()).table.tolist() == base.tolist()


def test_a_join_is_local_and_keeps_the_name_of_the_larger():
    graph = graph_of([(1, 2), (3, 4)], [0.5, 0.5], [1, 5, 3, 2])
    base = np.array([0, 2, 2, 3, 3], np.uint64)
    assert corrected(graph, base, Constraints(must_keys=as_keys([(1, 4)]))).table.tolist() == [0, 2, 2, 2, 2]


def test_an_edit_elsewhere_joins_nothing_that_the_table_has_not_joined():
    """2 | 3 touch with a high affinity, but the table keeps them apart: joining 1 and 4 does not join them."""
    graph = graph_of([(1, 2), (2, 3), (3, 4)], [0.9, 0.9, 0.9], [5, 1, 1, 4])
    base = np.array([0, 1, 1, 4, 4], np.uint64)
    demands = Constraints(as_keys([(1, 4)]), as_keys([(1, 2), (3, 4)]))
    assert corrected(graph, base, demands).table.tolist() == [0, 1, 2, 3, 1]
