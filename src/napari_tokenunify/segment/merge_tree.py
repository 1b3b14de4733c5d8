"""Hierarchical agglomeration: every merge of a region graph in order, cut at any threshold afterwards.

waterz gives segments of a whole volume at thresholds known beforehand; a graph put together from blocks and a
threshold that is moved with a slider need the merges themselves. The rules are those of waterz: the cheapest edge goes
first; of two edges that become parallel the cheaper stays, takes over the statistics of the other, and is scored anew
only when its turn comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.network.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.segment.region_graph import RegionGraph

Linkage = Literal["mean", "quantile50"]

_BINS = 256
_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class MergeTree:
    """The merges of an agglomeration, cheapest first.

    Attributes
    ----------
    nodes : int
        Number of fragments; their ids are 1..nodes.
    pairs : ndarray of uint64, shape (M, 2)
        Of each merge the smallest fragment of both segments, u < v. No v stands twice.
    scores : ndarray of float32, shape (M,)
        1 - affinity of each merge, never falling (one that was cheaper than a merge before it has that one's score).
    """

    nodes: int
    pairs: NDArray[np.uint64]
    scores: NDArray[np.float32]

    def table(self, threshold: float) -> NDArray[np.uint64]:
        """Return the segment of each fragment after all merges with a score below `threshold`.

        Parameters
        ----------
        threshold : float
            0..1; larger joins more.

        Returns
        -------
        ndarray of uint64, shape (nodes + 1,)
            The smallest fragment of its segment; entry 0 is 0.
        """
        merges = int(np.searchsorted(self.scores, np.float32(threshold)))
        table: NDArray[np.uint64] = _table(self.nodes, self.pairs, merges)
        return table


def merge_tree(graph: RegionGraph, linkage: Linkage = "quantile50") -> MergeTree:
    """Return all merges of a region graph, cheapest first, until no two segments touch.

    Parameters
    ----------
    graph : RegionGraph
        Only `nodes`, `edges`, `count`, `mean` and `largest` are used.
    linkage : "mean" or "quantile50"
        What the affinity between two segments is: the mean over their contacts (`OneMinus<MeanAffinity>` of waterz),
        or the upper median of the largest affinities of the contacts between their fragments, in 256 bins
        (`OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>`, TokenUnify's setting).

    Returns
    -------
    MergeTree
        Of edges with the same score the one of the smaller index goes first, so the tree is the same anywhere.

    Raises
    ------
    SegmentError
        If affinities are no numbers, or there are 2**31 edges or more.
    """
    quantile = linkage == "quantile50"
    affinity = graph.largest if quantile else graph.mean
    if np.isnan(affinity).any():
        raise SegmentError("Some edges of the region graph have no number as affinity (NaN): predict again.")
    if len(graph.edges) >= 2**31 or graph.nodes >= 2**31:
        raise SegmentError(f"{len(graph.edges)} edges are too many for one graph: make fewer fragments.")
    score = np.empty(len(graph.edges), np.float32)
    statistics = _statistics(affinity, graph.count, quantile)
    _score_all(statistics, score)
    pairs, scores = _merge_all(_contacts(graph), statistics, score)
    return MergeTree(graph.nodes, pairs, np.maximum.accumulate(scores))


def joining_scores(tree: MergeTree, pairs: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return the score of the merge that first brings two fragments into one segment; infinite if none does.

    Parameters
    ----------
    tree : MergeTree
        The merges.
    pairs : ndarray of uint64, shape (N, 2)
        Fragments.

    Returns
    -------
    ndarray of float32, shape (N,)
    """
    scores: NDArray[np.float32] = _joining_scores(tree.nodes, tree.pairs, tree.scores, pairs)
    return scores


class _Statistics(NamedTuple):
    """What scores come from: sums and counts, or sorted linked lists of histogram bins (one of both is empty)."""

    quantile: bool
    total: NDArray[np.float64 | np.int32]  # (E,) contacts, or entries of the histogram
    sums: NDArray[np.float64]  # (E,) of affinities
    first: NDArray[np.int32]  # (E,) the histogram's lowest bin, as an index into the following
    bins: NDArray[np.uint8]  # (E,) there are never more bins than edges at the start
    entries: NDArray[np.int32]  # (E,)
    following: NDArray[np.int32]  # (E,) the next bin, -1 = none


def _statistics(affinity: NDArray[np.float32], count: NDArray[np.float64], quantile: bool) -> _Statistics:
    edges = len(affinity)
    listed = edges if quantile else 0
    bins = np.clip(np.floor(affinity[:listed] * _BINS), 0, _BINS - 1)
    return _Statistics(
        quantile,
        np.ones(edges, np.int32) if quantile else count.astype(np.float64),
        affinity[listed:] * count[listed:],
        np.arange(listed, dtype=np.int32),
        bins.astype(np.uint8),
        np.ones(listed, np.int32),
        np.full(listed, -1, np.int32),
    )


class _Contacts(NamedTuple):
    """The graph while it is contracted: half edges 2e and 2e + 1 in a linked list a node, and a hash table of pairs.

    The table holds edges alone, whose ends tell the pair: a third of the memory of one with the pairs in it.
    """

    ends: NDArray[np.int32]  # (2E,) the node of each half edge
    following: NDArray[np.int32]  # (2E,) the next half edge of the same node, -1 = none
    first: NDArray[np.int32]  # (nodes + 1,)
    degree: NDArray[np.int32]  # (nodes + 1,)
    edges: NDArray[np.int32]  # (power of two,) the edge of a pair of nodes, -1 = free


def _contacts(graph: RegionGraph) -> _Contacts:
    ends = graph.edges.astype(np.int32).reshape(-1)
    places = 1 << max(3, int(len(graph.edges) * 1.5).bit_length())
    contacts = _Contacts(
        ends,
        np.full(len(ends), -1, np.int32),
        np.full(graph.nodes + 1, -1, np.int32),
        np.zeros(graph.nodes + 1, np.int32),
        np.full(places, -1, np.int32),
    )
    _link(contacts)
    return contacts


@compiled
def _table(nodes, pairs, merges):  # type: ignore[no-untyped-def]
    table = np.arange(nodes + 1).astype(np.uint64)
    for k in range(merges):
        table[pairs[k, 1]] = pairs[k, 0]
    for node in range(nodes + 1):  # each points to a smaller one, which is already at its root
        table[node] = table[table[node]]
    return table


@compiled
def _joining_scores(nodes, pairs, scores, wanted):  # type: ignore[no-untyped-def]
    merge = np.full(nodes + 1, len(pairs))  # the merge in which a fragment's segment gets a smaller one
    for k in range(len(pairs)):
        merge[pairs[k, 1]] = k
    result = np.full(len(wanted), np.float32(np.inf))
    for row in range(len(wanted)):
        u, v, k = wanted[row, 0], wanted[row, 1], -1
        while u != v:  # the one that goes into another segment first
            if merge[v] < merge[u]:
                u, v = v, u
            k = merge[u]
            if k == len(pairs):
                break
            u = pairs[k, 0]
        if u == v:
            result[row] = scores[k] if k >= 0 else np.float32(0)
    return result


@compiled
def _score(statistics, edge):  # type: ignore[no-untyped-def]
    if not statistics.quantile:
        return np.float32(max(0.0, 1 - statistics.sums[edge] / statistics.total[edge]))
    left = statistics.total[edge] // 2 + 1
    place = statistics.first[edge]
    while left > statistics.entries[place]:
        left -= statistics.entries[place]
        place = statistics.following[place]
    return np.float32(1 - (statistics.bins[place] + 0.5) / _BINS)


@compiled
def _score_all(statistics, score):  # type: ignore[no-untyped-def]
    for edge in range(len(score)):
        score[edge] = _score(statistics, edge)


@compiled
def _add(statistics, edge, other):  # type: ignore[no-untyped-def]
    """Give the statistics of `other` to `edge`."""
    statistics.total[edge] += statistics.total[other]
    if not statistics.quantile:
        statistics.sums[edge] += statistics.sums[other]
        return
    bins, following = statistics.bins, statistics.following
    a, b, last = statistics.first[edge], statistics.first[other], np.int32(-1)
    while a != -1 or b != -1:
        if b == -1 or (a != -1 and bins[a] <= bins[b]):
            taken, a = a, following[a]
        else:
            taken, b = b, following[b]
        if last != -1 and bins[last] == bins[taken]:
            statistics.entries[last] += statistics.entries[taken]
        else:
            if last == -1:
                statistics.first[edge] = taken
            else:
                following[last] = taken
            last = taken
    following[last] = -1


@compiled
def _key(u, v):  # type: ignore[no-untyped-def]
    return (np.uint64(min(u, v)) << _HALF) | np.uint64(max(u, v))


@compiled
def _key_of(contacts, edge):  # type: ignore[no-untyped-def]
    return _key(contacts.ends[2 * edge], contacts.ends[2 * edge + 1])


@compiled
def _place(contacts, key):  # type: ignore[no-untyped-def]
    """Return where the edge with this key is in the hash table, or the free place where it belongs."""
    edges = contacts.edges
    last = np.uint64(len(edges) - 1)
    place = ((key * _GOLDEN) >> _HALF) & last
    while edges[place] != -1 and _key_of(contacts, edges[place]) != key:
        place = (place + np.uint64(1)) & last
    return place


@compiled
def _forget(contacts, key):  # type: ignore[no-untyped-def]
    """Take a key out of the hash table and close the gap."""
    edges = contacts.edges
    last = np.uint64(len(edges) - 1)
    gap = _place(contacts, key)
    place = gap
    while True:
        place = (place + np.uint64(1)) & last
        if edges[place] == -1:
            break
        home = ((_key_of(contacts, edges[place]) * _GOLDEN) >> _HALF) & last
        if ((place - home) & last) >= ((place - gap) & last):
            edges[gap] = edges[place]
            gap = place
    edges[gap] = -1


@compiled
def _attach(contacts, half, node):  # type: ignore[no-untyped-def]
    contacts.ends[half] = node
    contacts.following[half] = contacts.first[node]
    contacts.first[node] = half


@compiled
def _link(contacts):  # type: ignore[no-untyped-def]
    for half in range(len(contacts.ends)):
        _attach(contacts, half, contacts.ends[half])
        contacts.degree[contacts.ends[half]] += 1
    for edge in range(len(contacts.ends) // 2):
        contacts.edges[_place(contacts, _key_of(contacts, edge))] = edge


@compiled
def _contract(contacts, statistics, score, state, edge):  # type: ignore[no-untyped-def]
    """Join the two ends of `edge`; the edges of the end with fewer of them move. Return the ends: stays, goes."""
    stays, goes = contacts.ends[2 * edge], contacts.ends[2 * edge + 1]
    if contacts.degree[stays] < contacts.degree[goes]:
        stays, goes = goes, stays
    state[edge] = _GONE
    _forget(contacts, _key(stays, goes))
    contacts.degree[stays] -= 1
    half = contacts.first[goes]
    while half != -1:
        after, moved = contacts.following[half], half >> 1
        if state[moved] != _GONE:
            far = contacts.ends[half ^ 1]
            _forget(contacts, _key(goes, far))
            place = _place(contacts, _key(stays, far))
            if contacts.edges[place] == -1:
                contacts.edges[place] = moved
                contacts.degree[stays] += 1
                _attach(contacts, half, stays)
            else:
                found = contacts.edges[place]
                contacts.degree[far] -= 1
                if score[found] < score[moved] or (score[found] == score[moved] and found < moved):
                    _add(statistics, found, moved)
                    state[found], state[moved] = _STALE, _GONE
                else:
                    _add(statistics, moved, found)
                    state[moved], state[found] = _STALE, _GONE
                    contacts.edges[place] = moved
                    _attach(contacts, half, stays)
        half = after
    return stays, goes


_FRESH, _STALE, _GONE = 0, 1, 2


@compiled
def _sink(heap, size):  # type: ignore[no-untyped-def]
    """Let the first entry of a heap down to where it belongs."""
    entry, place = heap[0], 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= entry:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = entry


@compiled
def _merge_all(contacts, statistics, score):  # type: ignore[no-untyped-def]
    edges, bits = len(score), score.view(np.uint32)  # of numbers >= 0 the bits are in the order of the numbers
    heap = np.empty(edges, np.uint64)
    for place in range(edges):
        heap[place] = (np.uint64(bits[place]) << _HALF) | np.uint64(place)
    heap.sort()
    state = np.zeros(edges, np.uint8)
    smallest = np.arange(len(contacts.first)).astype(np.uint64)
    pairs = np.empty((len(contacts.first), 2), np.uint64)
    scores = np.empty(len(contacts.first), np.float32)
    size, merges = edges, 0
    while size > 0:
        edge = np.int64(heap[0] & _LOW)
        if state[edge] == _STALE:
            score[edge] = _score(statistics, edge)
            state[edge] = _FRESH
            heap[0] = (np.uint64(bits[edge]) << _HALF) | np.uint64(edge)
            _sink(heap, size)
            continue
        size -= 1
        heap[0] = heap[size]
        _sink(heap, size)
        if state[edge] == _FRESH:
            scores[merges] = score[edge]
            a, b = _contract(contacts, statistics, score, state, edge)
            pairs[merges, 0] = min(smallest[a], smallest[b])
            pairs[merges, 1] = max(smallest[a], smallest[b])
            smallest[a] = pairs[merges, 0]
            merges += 1
    return pairs[:merges].copy(), scores[:merges].copy()
