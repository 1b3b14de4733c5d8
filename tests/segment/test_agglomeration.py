"""Each solver against every partition of a tiny graph, or against its rules written down slowly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from napari_tokenunify.config import AgglomerateConfig
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.agglomeration import METHODS, TREE_METHODS, agglomerate
from napari_tokenunify.segment.region_graph import RegionGraph
from tests.segment.test_merge_tree import make_graph, random_graph, slow_merges


def table_of(graph: RegionGraph, method: str, **settings: float) -> np.ndarray:
    return agglomerate(graph, AgglomerateConfig(method=method, **settings)).table


def partitions(nodes: int) -> list[list[int]]:
    """Return every partition of 1..nodes, as the part of each node (with one for node 0)."""
    found = [[0]]
    for _ in range(nodes):
        found = [[*old, part] for old in found for part in range(1, max(old) + 2)]
    return found


def log_odds(affinity: float, beta: float) -> float:
    boundary = 0.001 + 0.998 * (1 - affinity)
    return float(np.log((1 - boundary) / boundary) + np.log((1 - beta) / beta))


def cut_costs(graph: RegionGraph, beta: float) -> list[tuple[int, int, float]]:
    """Return u, v and what it costs to cut them apart."""
    rows = []
    for edges, affinity, count in (
        (graph.edges, graph.mean, graph.count),
        (graph.far_edges, graph.far_mean, graph.far_count),
    ):
        for (u, v), a, c in zip(edges.tolist(), affinity.tolist(), count.tolist(), strict=True):
            rows.append((u, v, log_odds(a, beta) * c / count.max()))
    return rows


def energy(rows: list[tuple[int, int, float]], ids: object) -> float:
    return sum(cost for u, v, cost in rows if ids[u] != ids[v])  # type: ignore[index]


def is_connected(graph: RegionGraph, ids: list[int]) -> bool:
    """Whether each part hangs together by contacts."""
    table = list(range(graph.nodes + 1))
    for _ in table:
        for u, v in graph.edges.tolist():
            if ids[u] == ids[v]:
                table[u] = table[v] = min(table[u], table[v])
    return len(set(table[1:])) == len(set(ids[1:]))


def is_canonical(graph: RegionGraph, table: np.ndarray) -> bool:
    """Whether each segment has the id of its smallest fragment and hangs together."""
    first = {}
    for node, segment in enumerate(table.tolist()):
        first.setdefault(segment, node)
    return all(segment == node for segment, node in first.items()) and is_connected(graph, table.tolist())


@pytest.mark.parametrize("beta", [0.3, 0.5, 0.7])
def test_multicut_finds_the_cheapest_of_all_partitions(beta: float) -> None:
    for seed in range(12):
        graph = random_graph(6, 14, seed)
        rows = cut_costs(graph, beta)
        best = min(energy(rows, ids) for ids in partitions(graph.nodes))
        table = table_of(graph, "multicut", beta=beta)
        assert is_canonical(graph, table)
        assert energy(rows, table) == pytest.approx(best, abs=1e-6)


def test_lifted_multicut_mostly_finds_the_cheapest_partition_whose_parts_touch() -> None:
    """The solver is a local search; on costs at random, unlike those of neurons, it misses about one in seven."""
    missed = 0
    for seed in range(40):
        near = random_graph(6, 9, seed)
        far = random_graph(6, 6, seed + 100)
        graph = make_graph(6, near.edges, near.mean, near.count, far=(far.edges, far.mean))
        rows = cut_costs(graph, 0.5)
        best = min(energy(rows, ids) for ids in partitions(6) if is_connected(graph, ids))
        table = table_of(graph, "lifted")
        assert is_canonical(graph, table)
        missed += energy(rows, table) > best + 1e-6
    assert missed <= 8


def test_a_far_pair_that_is_surely_apart_makes_lifted_multicut_cut_between() -> None:
    chain = [[1, 2], [2, 3], [3, 4]]
    joined = make_graph(4, chain, [0.9, 0.6, 0.9])
    apart = make_graph(4, chain, [0.9, 0.6, 0.9], far=([[1, 4]], [0.0]))
    assert table_of(joined, "multicut").tolist() == [0, 1, 1, 1, 1]
    assert table_of(apart, "lifted").tolist() == [0, 1, 1, 3, 3]


def test_lifted_multicut_without_long_range_offsets_goes_by_the_merge_tree() -> None:
    graph = make_graph(4, [[1, 2], [2, 3], [3, 4]], [0.9, 0.9, 0.2])
    assert table_of(graph, "lifted").tolist() == [0, 1, 1, 1, 4]


def slow_mutex(graph: RegionGraph, threshold: float) -> np.ndarray:
    """Go through all pairs, the strongest first; a pair of segments that repelled once is never joined."""
    rows = [(float(m) - (1 - threshold), u, v, True) for (u, v), m in zip(graph.edges.tolist(), graph.mean)]  # noqa: B905
    rows += [(float(m) - (1 - threshold), u, v, False) for (u, v), m in zip(graph.far_edges.tolist(), graph.far_mean)]  # noqa: B905
    table = np.arange(graph.nodes + 1)
    apart: set[frozenset[int]] = set()
    for weight, u, v, near in sorted(rows, key=lambda row: -abs(row[0])):
        a, b = sorted((int(table[u]), int(table[v])))
        if a == b:
            continue
        if weight <= 0:
            apart.add(frozenset((a, b)))
        elif near and frozenset((a, b)) not in apart:
            table[table == b] = a
            apart = {frozenset(a if node == b else node for node in pair) for pair in apart}
    return table


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_mutex_watershed_is_that_of_the_slow_rules(threshold: float) -> None:
    for seed in range(10):
        near = random_graph(12, 25, seed)
        far = random_graph(12, 10, seed + 100)
        graph = make_graph(12, near.edges, near.mean, far=(far.edges, far.mean))
        np.testing.assert_array_equal(table_of(graph, "mutex", threshold=threshold), slow_mutex(graph, threshold))


def slow_average(graph: RegionGraph, threshold: float) -> np.ndarray:
    """Join the two segments with the largest mean weight over their contact, until no mean is positive."""
    table = np.arange(graph.nodes + 1)
    weights = graph.mean.astype(float) - (1 - threshold)
    while True:
        sums: dict[tuple[int, int], list[float]] = {}
        for (u, v), w, c in zip(table[graph.edges.astype(int)].tolist(), weights, graph.count, strict=True):
            if u != v:
                found = sums.setdefault((min(u, v), max(u, v)), [0.0, 0.0])
                found[0] += w * c
                found[1] += c
        best = max(sums, key=lambda pair: sums[pair][0] / sums[pair][1], default=None)
        if best is None or sums[best][0] <= 0:
            return table
        table[table == best[1]] = best[0]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_gasp_is_average_linkage_of_signed_weights(threshold: float) -> None:
    for seed in range(10):
        graph = random_graph(12, 30, seed)
        np.testing.assert_array_equal(table_of(graph, "gasp", threshold=threshold), slow_average(graph, threshold))


@pytest.mark.parametrize(("method", "linkage"), [("waterz", "quantile50"), ("mean", "mean")])
def test_methods_with_a_tree_cut_it_at_the_threshold(method: str, linkage: str) -> None:
    graph = random_graph(30, 80, 1)
    found = agglomerate(graph, AgglomerateConfig(method=method, threshold=0.4))
    assert found.tree is not None
    joined = sum(score < 0.4 for _, _, score in slow_merges(graph, linkage))
    assert len(np.unique(found.table[1:])) == 30 - joined
    np.testing.assert_array_equal(found.table, found.tree.table(0.4))
    assert found.value == 0.4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_graphs_of_nothing_and_of_lone_fragments(method: str) -> None:
    for nodes in (0, 1, 3):
        found = agglomerate(make_graph(nodes, [], []), AgglomerateConfig(method=method))
        assert found.table.tolist() == list(range(nodes + 1))
        assert (found.table.dtype, found.tree is not None) == (np.uint64, method in TREE_METHODS)
    assert table_of(make_graph(4, [[2, 3]], [1.0]), method).tolist() == [0, 1, 2, 2, 4]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_joins_what_is_certain_and_keeps_apart_what_is_not(method: str) -> None:
    graph = make_graph(5, [[1, 2], [1, 5], [2, 3], [3, 4], [4, 5]], [0.95, 0.1, 0.05, 0.9, 0.9])
    assert table_of(graph, method).tolist() == [0, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("method", METHODS)
def test_a_larger_threshold_joins_more_and_a_larger_beta_less(method: str) -> None:
    graph = random_graph(60, 200, 4)
    field, values = ("beta", (0.9, 0.5, 0.1)) if method in ("multicut", "lifted") else ("threshold", (0.2, 0.5, 0.8))
    segments = [len(np.unique(table_of(graph, method, **{field: value}))) for value in values]
    assert all(fewer <= more for more, fewer in pairwise(segments))
    assert segments[0] > segments[-1]


@pytest.mark.parametrize("method", METHODS)
def test_no_number_as_affinity_is_refused(method: str) -> None:
    with pytest.raises(SegmentError, match="NaN"):
        table_of(make_graph(2, [[1, 2]], [np.nan]), method)
