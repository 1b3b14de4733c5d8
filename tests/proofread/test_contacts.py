"""Contacts between segments and cuts through them, against the same counted slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_tokenunify.proofread.contacts import between_segments, sure_mean, within_segments
from napari_tokenunify.segment.region_graph import RegionGraph

NO_PAIRS = np.empty((0, 2), np.uint64)


def make_graph(nodes: int, edges: object, count: object, mean: object, sizes: object = None) -> RegionGraph:
    pairs, mean = np.array(edges, np.uint64).reshape(-1, 2), np.array(mean, np.float32)
    voxels = np.ones(nodes, np.int64) if sizes is None else np.array(sizes, np.int64)
    none = (np.empty((0, 2), np.uint64), np.empty(0), np.empty(0, np.float32))
    return RegionGraph(nodes, pairs, np.array(count, float), mean, mean, *none, np.r_[0, voxels])


def random_case(seed: int, nodes: int = 30, contacts: int = 90, segments: int = 5) -> tuple[RegionGraph, np.ndarray]:
    chance = np.random.default_rng(seed)
    pairs = np.sort(chance.integers(1, nodes + 1, (contacts, 2)), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    graph = make_graph(
        nodes,
        pairs,
        chance.integers(1, 50, len(pairs)),
        chance.random(len(pairs)),
        chance.integers(1, 1000, nodes),
    )
    table = np.r_[0, chance.integers(0, segments + 1, nodes)].astype(np.uint64)
    return replace(graph, spread=chance.random(len(pairs)).astype(np.float32)), table


def side_of(order: np.ndarray, bounds: np.ndarray) -> set[int]:
    return set(order[bounds[0] : bounds[1]].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_contacts_between_segments_are_those_of_their_fragments_added_up(seed):
    graph, table = random_case(seed)
    expected: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    for row, (u, v) in enumerate(graph.edges.tolist()):
        pair = sorted((int(table[u]), int(table[v])))
        if 0 < pair[0] < pair[1]:
            expected.setdefault(tuple(pair), []).append((float(graph.count[row]), float(graph.mean[row]), row))
    found = between_segments(graph, table, NO_PAIRS)
    assert len(found) == len(expected)
    for place, sides in enumerate(found.sides.tolist()):
        rows = expected[tuple(sorted(sides))]
        assert found.count[place] == sum(count for count, _, _ in rows)
        assert found.mean[place] == pytest.approx(sum(c * m for c, m, _ in rows) / found.count[place])
        differ = sum(c * float(graph.spread[row]) for c, _, row in rows)
        assert found.spread[place] == pytest.approx(differ / found.count[place])
        strongest = max(rows, key=lambda row: row[0] * row[1])[2]
        assert found.edge[place] == strongest
        assert table[graph.edges[strongest]].tolist() == sides
        assert found.sizes[place].tolist() == [int(graph.sizes[table == side].sum()) for side in sides]


def test_pairs_that_are_known_to_be_apart_are_left_out_whichever_fragments_say_so():
    graph = make_graph(4, [(1, 2), (2, 3), (3, 4)], [5, 5, 5], [0.5] * 3)
    table = np.array([0, 1, 2, 2, 4], np.uint64)
    found = between_segments(graph, table, np.array([[3, 1]], np.uint64))  # 1 touches 2, which is with 3
    assert found.sides.tolist() == [[2, 4]]


def kruskal(graph: RegionGraph, table: np.ndarray) -> list[int]:
    rows = [row for row, (u, v) in enumerate(graph.edges.tolist()) if table[u] == table[v] != 0]
    sure = sure_mean(graph.count, graph.mean)
    part, chosen = {node: {node} for node in range(graph.nodes + 1)}, []
    for row in sorted(rows, key=lambda row: -sure[row]):
        u, v = graph.edges[row].tolist()
        if part[u] is not part[v]:
            joined = part[u] | part[v]
            for node in joined:
                part[node] = joined
            chosen.append(row)
    return chosen


def parts_without(graph: RegionGraph, tree: list[int], row: int) -> tuple[set[int], set[int]]:
    links = [graph.edges[other].tolist() for other in tree if other != row]

    def reached(node: int) -> set[int]:
        found = {node}
        while more := {b for pair in links for a, b in (pair, pair[::-1]) if a in found and b not in found}:
            found |= more
        return found

    u, v = graph.edges[row].tolist()
    return reached(u), reached(v)


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_those_of_a_spanning_tree_with_all_contacts_that_cross_them(seed):
    graph, table = random_case(seed)
    tree = kruskal(graph, table)
    cuts = within_segments(graph, table, NO_PAIRS)
    assert sorted(cuts.contacts.edge.tolist()) == sorted(tree)
    for place, row in enumerate(cuts.contacts.edge.tolist()):
        side = side_of(cuts.order, cuts.contacts.sides[place])
        parts = parts_without(graph, tree, row)
        assert side in parts
        other = parts[parts.index(side) - 1]
        crossing = [
            r
            for r, (u, v) in enumerate(graph.edges.tolist())
            if (u in side and v in other) or (u in other and v in side)
        ]
        assert cuts.contacts.count[place] == graph.count[crossing].sum()
        differ = (graph.count[crossing] * graph.spread[crossing]).sum() / graph.count[crossing].sum()
        assert cuts.contacts.spread[place] == pytest.approx(differ)
        weighted = (graph.count[crossing] * graph.mean[crossing]).sum()
        assert cuts.contacts.mean[place] == pytest.approx(weighted / graph.count[crossing].sum())
        whole = graph.sizes[table == table[graph.edges[row, 0]]].sum()
        inside = graph.sizes[list(side)].sum()
        assert cuts.contacts.sizes[place].tolist() == [inside, whole - inside]


def test_cuts_that_part_what_belongs_together_are_left_out():
    chain = make_graph(5, [(1, 2), (2, 3), (3, 4), (4, 5)], [9] * 4, [0.9] * 4)
    table = np.array([0, 1, 1, 1, 1, 1], np.uint64)
    cuts = within_segments(chain, table, np.array([[4, 2]], np.uint64))
    assert sorted(cuts.contacts.edge.tolist()) == [0, 3]


def test_what_belongs_together_without_touching_or_was_deleted_since_hides_no_cut():
    two_chains = make_graph(6, [(1, 2), (2, 3), (5, 6)], [9] * 3, [0.9] * 3)
    together = np.array([[1, 4], [3, 5], [1, 6]], np.uint64)  # 4 touches nothing, 5 and 6 were deleted
    table = np.array([0, 1, 1, 1, 1, 0, 0], np.uint64)
    assert sorted(within_segments(two_chains, table, together).contacts.edge.tolist()) == [0, 1]
    merged = np.array([0, 1, 1, 1, 1, 1, 1], np.uint64)  # all of it one segment that hangs together nowhere
    assert sorted(within_segments(two_chains, merged, together).contacts.edge.tolist()) == [0, 1, 2]


def test_a_long_chain_has_a_cut_at_each_link():
    nodes = 20_000
    pairs = np.stack([np.arange(1, nodes), np.arange(2, nodes + 1)], axis=1)
    chain = make_graph(nodes, pairs, np.ones(nodes - 1), np.full(nodes - 1, 0.5))
    cuts = within_segments(chain, np.r_[0, np.ones(nodes)].astype(np.uint64), NO_PAIRS)
    assert len(cuts.contacts) == nodes - 1
    assert sorted(cuts.contacts.sizes.min(axis=1).tolist()) == sorted(min(k, nodes - k) for k in range(1, nodes))


def test_nothing_touches_in_a_graph_without_contacts():
    graph = make_graph(3, [], [], [])
    table = np.array([0, 1, 2, 3], np.uint64)
    assert len(between_segments(graph, table, NO_PAIRS)) == 0
    assert len(within_segments(graph, table, NO_PAIRS).contacts) == 0


def test_few_voxels_say_little():
    sure = sure_mean(np.array([1.0, 1000.0]), np.array([1.0, 1.0]))
    assert 0.5 < sure[0] < 0.65
    assert 0.99 < sure[1] < 1
