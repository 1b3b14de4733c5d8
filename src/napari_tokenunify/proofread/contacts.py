"""Where an edit could be made: the contacts between segments, and the cuts that divide a segment.

Both are described alike: over how many pairs of voxels two sides touch, with which affinities, and how large they are.
Of the many cuts of a segment those of a spanning tree are taken: its fragments are joined by their strongest contacts,
and without one of these it falls into two. All contacts between the two sides count, not only that one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_tokenunify.network.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRIOR_PAIRS, _PRIOR_AFFINITY = 4.0, 0.5  # what a contact has seen before its first pair of voxels: a few say little


class Graph(Protocol):
    """What is needed of a region graph: `RegionGraph` and `FragmentGraph` have it."""

    @property
    def nodes(self) -> int:
        """Number of fragments; their ids are 1..nodes."""

    @property
    def edges(self) -> NDArray[np.uint64]:
        """Pairs u < v of fragments that touch, (E, 2)."""

    @property
    def count(self) -> NDArray[np.float64]:
        """Pairs of neighbouring voxels in each contact, (E,)."""

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of their affinities, 0..1, (E,)."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Voxels of each fragment, (nodes + 1,)."""

    @property
    def spread(self) -> NDArray[np.float32] | None:
        """How much the answers to several orientations differ at each contact, 0..1, (E,); None if there was one."""


@dataclass(frozen=True, eq=False)
class Contacts:
    """Places where two sides touch: two segments, or the two sides of a cut through one.

    Attributes
    ----------
    edge : ndarray of int64, shape (N,)
        The row of `Graph.edges` of the strongest contact between two of their fragments.
    count : ndarray of float64, shape (N,)
        Pairs of neighbouring voxels over which they touch in all.
    mean : ndarray of float64, shape (N,)
        Mean of the affinities there, 0..1.
    spread : ndarray of float64, shape (N,)
        Mean of how much the answers to several orientations differ there, 0..1; 0 where there was one.
    sizes : ndarray of int64, shape (N, 2)
        Voxels of each side.
    sides : ndarray of int64, shape (N, 2)
        Between segments: the two, in the order of the fragments of `edge`. Of cuts: where in `Cuts.order` the
        fragments of one side begin and end; the other side is the rest of the segment.
    """

    edge: NDArray[np.int64]
    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    sizes: NDArray[np.int64]
    sides: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.edge)

    def __getitem__(self, which: NDArray[Any]) -> Contacts:
        """Return some of them."""
        return Contacts(*(getattr(self, field.name)[which] for field in fields(self)))

    def followed_by(self, others: Contacts) -> Contacts:
        """Return these and others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return Contacts(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, eq=False)
class Cuts:
    """The cuts of all segments.

    Attributes
    ----------
    contacts : Contacts
        One a cut; a segment of n fragments has n - 1.
    order : ndarray of int64, shape (M,)
        Fragments such that one side of each cut is a run of them.
    """

    contacts: Contacts
    order: NDArray[np.int64]


def sure_mean(count: NDArray[np.float64], mean: NDArray[Any]) -> NDArray[np.float64]:
    """Return mean affinities drawn to 0.5 where few voxels touch.

    Parameters
    ----------
    count : ndarray of float64, shape (N,)
        Pairs of voxels.
    mean : ndarray of float, shape (N,)
        Mean of their affinities, 0..1.

    Returns
    -------
    ndarray of float64, shape (N,)
        In 0..1, and never 0 or 1.
    """
    sure: NDArray[np.float64] = (count * mean + _PRIOR_PAIRS * _PRIOR_AFFINITY) / (count + _PRIOR_PAIRS)
    return sure


def between_segments(graph: Graph, table: NDArray[np.uint64], apart: NDArray[np.uint64]) -> Contacts:
    """Return the contacts between segments: what could be merged.

    Parameters
    ----------
    graph : Graph
        The fragments.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment; 0 is none, and has no contacts.
    apart : ndarray of uint64, shape (K, 2)
        Pairs of fragments whose segments are known to be two; left out.

    Returns
    -------
    Contacts
    """
    base = np.uint64(graph.nodes + 1)
    first, second = table[graph.edges[:, 0]], table[graph.edges[:, 1]]
    rows = np.flatnonzero((first != second) & (first != 0) & (second != 0))
    first, second = first[rows], second[rows]
    keys = np.minimum(first, second) * base + np.maximum(first, second)
    order = np.argsort(keys)
    begins = np.flatnonzero(np.diff(keys[order], prepend=keys.max(initial=0) + np.uint64(1)))
    groups = rows[order], np.append(begins, len(order))
    edge, count, mean, spread = _added_up(*groups, graph.count, graph.mean, _spread(graph))
    sides = table[graph.edges[edge]]
    known = np.sort(table[apart], axis=1)
    kept = ~np.isin(keys[order][begins], known[:, 0] * base + known[:, 1])
    voxels = np.bincount(table.astype(np.int64), graph.sizes).astype(np.int64)
    sides = sides.astype(np.int64)
    return Contacts(edge, count, mean, spread, voxels[sides], sides)[kept]


def within_segments(graph: Graph, table: NDArray[np.uint64], together: NDArray[np.uint64]) -> Cuts:
    """Return the cuts of all segments: where each could be split.

    The strongest contacts of a segment make its spanning tree (Kruskal 1956); taking one of these away divides it.

    Parameters
    ----------
    graph : Graph
        The fragments.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment; 0 is none.
    together : ndarray of uint64, shape (K, 2)
        Pairs of fragments that are known to be in one segment; cuts that part them are left out.

    Returns
    -------
    Cuts
    """
    segments = table[graph.edges]
    rows = np.flatnonzero((segments[:, 0] == segments[:, 1]) & (segments[:, 0] != 0))
    edges = graph.edges.view(np.int64) if graph.edges.flags.c_contiguous else graph.edges.astype(np.int64)
    tree = _spanning_tree(
        edges, rows[np.argsort(-sure_mean(graph.count[rows], graph.mean[rows]), kind="stable")], graph.nodes
    )
    order, parent, upward = _walk(edges, tree, graph.nodes)
    root, head, depth, below, voxels = _paths(order, parent, graph.sizes)
    crossing = np.zeros((graph.nodes + 1, 4))
    count = graph.count[rows]
    values = np.stack([count, count * graph.mean[rows], count * _spread(graph)[rows], np.zeros(len(rows))], axis=1)
    _cross(edges[rows], values, parent, head, depth, crossing)
    together = together.astype(np.int64)
    known = together[root[together[:, 0]] == root[together[:, 1]]]  # in no tree together: deleted, or they do not touch
    _cross(known, np.tile([0.0, 0.0, 0.0, 1.0], (len(known), 1)), parent, head, depth, crossing)
    _sum_up(order, parent, crossing)
    place = np.empty(graph.nodes + 1, np.int64)
    place[order] = np.arange(len(order))
    node = order[(parent[order] >= 0) & (crossing[order, 3] < 0.5)]
    total = np.bincount(table.astype(np.int64), graph.sizes).astype(np.int64)[table[node].astype(np.int64)]
    contacts = Contacts(
        upward[node],
        crossing[node, 0],
        crossing[node, 1] / crossing[node, 0],
        crossing[node, 2] / crossing[node, 0],
        np.stack([voxels[node], total - voxels[node]], axis=1),
        np.stack([place[node], place[node] + below[node]], axis=1),
    )
    return Cuts(contacts, order)


def _spread(graph: Graph) -> NDArray[np.float32]:
    return np.zeros(len(graph.edges), np.float32) if graph.spread is None else graph.spread


@compiled
def _added_up(rows, begins, count, mean, spread):  # type: ignore[no-untyped-def]
    """Add up contacts that belong together; `begins` says where each group starts in `rows`, and the last ends."""
    groups = len(begins) - 1
    edge, total, mass, differ = np.empty(groups, np.int64), np.zeros(groups), np.zeros(groups), np.zeros(groups)
    for group in range(groups):
        strongest = -1.0
        for place in range(begins[group], begins[group + 1]):
            row = rows[place]
            weight = count[row] * mean[row]
            total[group] += count[row]
            mass[group] += weight
            differ[group] += count[row] * spread[row]
            if weight > strongest:
                strongest, edge[group] = weight, row
        mass[group] /= total[group]
        differ[group] /= total[group]
    return edge, total, mass, differ


@compiled
def _root(parent, node):  # type: ignore[no-untyped-def]
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _spanning_tree(edges, rows, nodes):  # type: ignore[no-untyped-def]
    """Return the rows that join two parts, in their order."""
    parent = np.arange(nodes + 1)
    chosen, found = np.empty(nodes, np.int64), 0
    for row in rows:
        a, b = _root(parent, edges[row, 0]), _root(parent, edges[row, 1])
        if a != b:
            parent[a] = b
            chosen[found] = row
            found += 1
    return chosen[:found].copy()


@compiled
def _walk(edges, tree, nodes):  # type: ignore[no-untyped-def]
    """Return the nodes such that each comes before all that hang on it, what each hangs on, and by which row."""
    start = np.zeros(nodes + 2, np.int64)
    for row in tree:
        start[edges[row, 0] + 1] += 1
        start[edges[row, 1] + 1] += 1
    start = np.cumsum(start)
    place, link = start.copy(), np.empty(2 * len(tree), np.int64)
    for row in tree:
        for end in range(2):
            node = edges[row, end]
            link[place[node]] = row
            place[node] += 1
    order, parent, upward = np.empty(nodes, np.int64), np.full(nodes + 1, -1), np.full(nodes + 1, -1)
    waiting, reached = np.empty(nodes + 1, np.int64), np.zeros(nodes + 1, np.bool_)
    walked = 0
    for root in range(1, nodes + 1):
        if reached[root]:
            continue
        reached[root], waiting[0], left = True, root, 1
        while left:
            left -= 1
            node = waiting[left]
            order[walked] = node
            walked += 1
            for k in range(start[node], start[node + 1]):
                row = link[k]
                other = edges[row, 0] + edges[row, 1] - node
                if not reached[other]:
                    reached[other], parent[other], upward[other] = True, node, row
                    waiting[left] = other
                    left += 1
    return order, parent, upward


@compiled
def _paths(order, parent, sizes):  # type: ignore[no-untyped-def]
    """Divide the trees into paths, of which a way to the root meets few; count nodes and voxels below each node.

    Returns the root of each node, the first node of its path, its depth, and what is below it.
    """
    below, voxels = np.ones(len(parent), np.int64), sizes.astype(np.int64)
    heavy = np.full(len(parent), -1)
    for node in order[::-1]:
        up = parent[node]
        if up >= 0:
            below[up] += below[node]
            voxels[up] += voxels[node]
            if heavy[up] < 0 or below[node] > below[heavy[up]]:
                heavy[up] = node
    root, head, depth = np.arange(len(parent)), np.arange(len(parent)), np.zeros(len(parent), np.int64)
    for node in order:
        up = parent[node]
        if up >= 0:
            root[node], depth[node] = root[up], depth[up] + 1
            if heavy[up] == node:
                head[node] = head[up]
    return root, head, depth, below, voxels


@compiled
def _cross(pairs, values, parent, head, depth, crossing):  # type: ignore[no-untyped-def]
    """Note at both ends of each pair, and where their ways to the root meet, what `_sum_up` needs; in one tree each."""
    for pair in range(len(pairs)):
        u, v = pairs[pair]
        crossing[u] += values[pair]
        crossing[v] += values[pair]
        while head[u] != head[v]:
            if depth[head[u]] < depth[head[v]]:
                u, v = v, u
            u = parent[head[u]]
        crossing[u if depth[u] < depth[v] else v] -= 2 * values[pair]


@compiled
def _sum_up(order, parent, crossing):  # type: ignore[no-untyped-def]
    for node in order[::-1]:
        if parent[node] >= 0:
            crossing[parent[node]] += crossing[node]
