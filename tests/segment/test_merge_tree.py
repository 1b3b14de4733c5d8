"""The merge tree against waterz and against the same rules written down slowly."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.merge_tree import MergeTree, joining_scores, merge_tree
from napari_tokenunify.segment.region_graph import RegionGraph, region_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

SCORING = {
    "mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>",
    "quantile50": "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>",
}
LINKAGES = list(SCORING)


def make_graph(
    nodes: int, edges: object, mean: object, count: object = None, largest: object = None, far: tuple | None = None
) -> RegionGraph:
    edges = np.array(edges, np.uint64).reshape(-1, 2)
    mean = np.array(mean, np.float32)
    far_edges, far_mean = far or (np.empty((0, 2)), [])
    return RegionGraph(
        nodes=nodes,
        edges=edges,
        mean=mean,
        count=np.ones(len(edges)) if count is None else np.array(count, float),
        largest=mean if largest is None else np.array(largest, np.float32),
        far_edges=np.array(far_edges, np.uint64).reshape(-1, 2),
        far_mean=np.array(far_mean, np.float32),
        far_count=np.ones(len(far_mean)),
        sizes=np.ones(nodes + 1, np.int64),
    )


def random_graph(nodes: int, edges: int, seed: int, levels: int | None = None) -> RegionGraph:
    """With `levels` many edges have the same affinity."""
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.sort(rng.integers(1, nodes + 1, (edges, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    mean = rng.random(len(pairs)) if levels is None else rng.integers(0, levels + 1, len(pairs)) / levels
    return make_graph(nodes, pairs, mean, rng.integers(1, 50, len(pairs)), np.maximum(mean, rng.random(len(pairs))))


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(other))


def slow_merges(graph: RegionGraph, linkage: str) -> list[tuple[int, int, float]]:
    """Merge with dictionaries: the queue is a list that is searched, a histogram a list of all bins."""

    def scored(values: list) -> np.float32:
        if linkage == "mean":
            return np.float32(max(0.0, 1 - sum(s for s, _ in values) / sum(c for _, c in values)))
        bins = sorted(min(int(np.float32(largest) * 256), 255) for largest in values)
        return np.float32(1 - (bins[len(bins) // 2] + 0.5) / 256)

    edges: dict[int, tuple[int, int]] = {e: (int(u), int(v)) for e, (u, v) in enumerate(graph.edges)}
    if linkage == "mean":
        values = {e: [(float(m) * float(c), float(c))] for e, (m, c) in enumerate(zip(graph.mean, graph.count))}  # noqa: B905
    else:
        values = {e: [largest] for e, largest in enumerate(graph.largest)}
    scores = {e: scored(values[e]) for e in edges}
    stale: set[int] = set()
    merges: list[tuple[int, int, float]] = []
    while edges:
        edge = min(edges, key=lambda e: (scores[e], e))
        if edge in stale:
            stale.discard(edge)
            scores[edge] = scored(values[edge])
            continue
        stays, goes = edges.pop(edge)
        merges.append((stays, goes, max(float(scores[edge]), merges[-1][2] if merges else 0.0)))
        for e in [e for e, ends in edges.items() if goes in ends]:
            far = sum(edges[e]) - goes
            edges[e] = (min(stays, far), max(stays, far))
            rival = next((r for r, ends in edges.items() if ends == edges[e] and r != e), None)
            if rival is not None:
                kept, lost = sorted((e, rival), key=lambda e: (scores[e], e))
                values[kept] = values[kept] + values.pop(lost)
                stale.add(kept)
                del edges[lost]
    return merges


@contextmanager
def silence() -> Iterator[None]:
    """Keep what waterz writes to the process's output out of the report."""
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


def random_volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cubes of fragments and affinities of which those of a contact are similar, so that medians spread."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(5 * 6 * 6).reshape(5, 6, 6) + 1
    fragments = blocks.repeat(2, 0).repeat(2, 1).repeat(2, 2).astype(np.uint64)
    level = rng.random((3, *blocks.shape)).repeat(2, 1).repeat(2, 2).repeat(2, 3)
    return fragments, (0.9 * level + 0.1 * rng.random(level.shape)).astype(np.float32)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("levels", [None, 7])
def test_merges_are_those_of_the_slow_rules_in_the_same_order(linkage: str, levels: int | None) -> None:
    for seed in range(6):
        graph = random_graph(40, 150, seed, levels)
        tree = merge_tree(graph, linkage)
        slow = slow_merges(graph, linkage)
        np.testing.assert_allclose(tree.scores, [score for _, _, score in slow], atol=1e-6)
        for threshold in (*np.linspace(0, 1, 12), 1.1):
            table = np.arange(graph.nodes + 1)
            for u, v, score in slow:
                if np.float32(score) < np.float32(threshold):
                    u, v = sorted((table[u], table[v]))
                    table[table == v] = u
            np.testing.assert_array_equal(tree.table(threshold), table)


def test_mean_linkage_is_that_of_waterz() -> None:
    waterz = pytest.importorskip("waterz", reason="waterz is the reference here")
    for seed in range(3):
        fragments, affinities = random_volume(seed)
        tree = merge_tree(region_graph(fragments, affinities, DEFAULT_OFFSETS), "mean")
        for threshold in (0.2, 0.4, 0.5, 0.6):
            with silence():
                (theirs,) = waterz.agglomerate(
                    affinities, [threshold], fragments=fragments.copy(), scoring_function=SCORING["mean"]
                )
            ours = tree.table(threshold)[fragments]
            assert 1 < len(np.unique(ours)) < fragments.max()
            assert same_partition(ours, theirs)


def test_quantile_linkage_is_that_of_waterz_where_scores_differ() -> None:
    waterz = pytest.importorskip("waterz", reason="waterz is the reference here")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        fragments = (rng.permutation(3 * 3 * 4) + 1).reshape(3, 3, 4).repeat(2, 2).astype(np.uint64)
        graph = region_graph(fragments, np.ones((3, *fragments.shape), np.float32), DEFAULT_OFFSETS)
        bins = dict(zip(map(tuple, graph.edges.tolist()), rng.permutation(256)[: len(graph.edges)], strict=True))
        affinities = np.zeros((3, *fragments.shape), np.float32)
        for axis in range(3):  # each contact has a bin to itself: no two edges tie at the start
            ahead, behind = np.moveaxis(fragments, axis, 0)[1:], np.moveaxis(fragments, axis, 0)[:-1]
            values = [
                (bins.get((min(u, v), max(u, v)), 0) + rng.random()) / 256
                for u, v in zip(ahead.ravel().tolist(), behind.ravel().tolist(), strict=True)
            ]
            np.moveaxis(affinities[axis], axis, 0)[1:] = np.reshape(values, ahead.shape)
        tree = merge_tree(region_graph(fragments, affinities, DEFAULT_OFFSETS), "quantile50")
        for threshold in (0.1, 0.25, 0.4, 0.5):
            for queue in (0, 256):
                with silence():
                    (theirs,) = waterz.agglomerate(
                        affinities,
                        [threshold],
                        fragments=fragments.copy(),
                        scoring_function=SCORING["quantile50"],
                        discretize_queue=queue,
                    )
                assert same_partition(tree.table(threshold)[fragments], theirs)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_large_graph_is_merged_as_the_slow_table_says(linkage: str) -> None:
    graph = random_graph(3000, 12000, 5)
    tree = merge_tree(graph, linkage)
    assert (np.diff(tree.scores) >= 0).all()
    assert (tree.pairs[:, 0] < tree.pairs[:, 1]).all()
    assert len(np.unique(tree.pairs[:, 1])) == len(tree.pairs)
    table = tree.table(2.0)
    assert (table[graph.edges[:, 0]] == table[graph.edges[:, 1]]).all()
    assert len(np.unique(table)) == graph.nodes + 1 - len(tree.pairs)


def test_an_edge_at_the_threshold_is_not_merged() -> None:
    tree = merge_tree(make_graph(2, [[1, 2]], [0.3]), "mean")
    assert tree.table(0.7).tolist() == [0, 1, 2]
    assert tree.table(0.71).tolist() == [0, 1, 1]


def test_of_equal_edges_the_one_of_the_smaller_index_goes_first() -> None:
    tree = merge_tree(make_graph(4, [[1, 2], [2, 3], [3, 4]], [0.5, 0.5, 0.5]), "mean")
    assert tree.pairs.tolist() == [[1, 2], [1, 3], [1, 4]]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_graph_without_edges_leaves_every_fragment_alone(linkage: str) -> None:
    for nodes in (0, 1, 3):
        tree = merge_tree(make_graph(nodes, [], []), linkage)
        assert tree.table(1.0).tolist() == list(range(nodes + 1))


def test_no_number_as_affinity_is_refused() -> None:
    with pytest.raises(SegmentError, match="NaN"):
        merge_tree(make_graph(2, [[1, 2]], [np.nan]), "mean")


def test_the_score_that_joins_two_fragments_is_that_at_which_their_segments_meet() -> None:
    graph = random_graph(20, 24, 2)
    tree = merge_tree(graph, "mean")
    pairs = np.array([(u, v) for u in range(1, 21) for v in range(u, 21)], np.uint64)
    expected = np.full(len(pairs), np.inf, np.float32)
    for merges in range(len(tree.pairs), -1, -1):
        table = MergeTree(20, tree.pairs[:merges], tree.scores[:merges]).table(2.0)
        together = table[pairs[:, 0]] == table[pairs[:, 1]]
        expected[together] = tree.scores[merges - 1] if merges else 0
    np.testing.assert_array_equal(joining_scores(tree, pairs), expected)
    assert np.isinf(expected).any()
