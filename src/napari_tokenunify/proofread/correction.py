"""From a table of segments and what edits demand to the table that obeys them: fast and local.

Segments that must be one are joined as wholes. Only where such a union holds a pair that cannot be one, a locked or a
deleted fragment, its fragments are joined anew: what must be one first, then along the contacts that the table itself
has joined, the surest first, and never against a demand. So segments without edits stay as they are, and with edits
nothing is joined that neither the table nor an edit joins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_tokenunify.network.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.proofread.constraints import Constraints
    from napari_tokenunify.proofread.fragment_graph import FragmentGraph

_DELETED = np.uint64(2**63)  # a group that nothing is joined with


@dataclass(frozen=True, eq=False)
class Links:
    """What holds some fragments together.

    Attributes
    ----------
    members : ndarray of int64, shape (n,)
        The fragments, sorted.
    pairs : ndarray of int32, shape (K, 2)
        Which of them, as rows of `members`, in the order in which they are joined.
    edges : ndarray of int64, shape (K,)
        The contact behind each, as a row of the graph's edges; -1 for what an edit demands, -2 for what holds two
        parts of a segment together that do not touch.
    """

    members: NDArray[np.int64]
    pairs: NDArray[np.int32]
    edges: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corrected:
    """A table that obeys all demands, and what it takes to find the next one quickly.

    Attributes
    ----------
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment, called by its largest; 0 for deleted ones.
    united : ndarray of uint64, shape (nodes + 1,)
        The same if nothing were forbidden: segments are one that must be one.
    """

    table: NDArray[np.uint64]
    united: NDArray[np.uint64]


def corrected(graph: FragmentGraph, base: NDArray[np.uint64], constraints: Constraints) -> Corrected:
    """Return the table that obeys all demands and is otherwise the given one.

    Parameters
    ----------
    graph : FragmentGraph
        Contacts and sizes.
    base : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment, called by its largest, at any threshold or by any method.
    constraints : Constraints
        What is demanded.
    """
    whole = united(graph, base, constraints)
    table = whole.copy()
    _regroup(graph, base, constraints, table)
    return Corrected(table, whole)


def corrected_again(
    before: Corrected,
    graph: FragmentGraph,
    base: NDArray[np.uint64],
    constraints: Constraints,
    touched: NDArray[np.uint64],
) -> Corrected:
    """Return what `corrected` would, where only demands on a few fragments are others than before.

    Parameters
    ----------
    before : Corrected
        Of the same graph and table; not changed.
    graph, base, constraints
        As of `corrected`.
    touched : ndarray of uint64, shape (n,)
        All fragments of which something else is demanded.
    """
    near = np.unique(before.united[touched])  # demands of other segments are as they were
    members = members_of(before.united, near[near > 0])
    inside = np.zeros(len(base), bool)
    inside[members] = True
    demands = constraints.within(inside)
    whole, table = before.united.copy(), before.table.copy()
    whole[members] = united(graph, base, demands, members)
    table[members] = whole[members]
    _regroup(graph, base, demands, table)
    return Corrected(table, whole)


def _regroup(
    graph: FragmentGraph, base: NDArray[np.uint64], constraints: Constraints, table: NDArray[np.uint64]
) -> None:
    """Put segments right in place that hold what is forbidden."""
    hot = _to_regroup(table, constraints)
    if len(hot):
        members = members_of(table, hot)
        links = links_between(graph, base, constraints, members)
        table[members] = _regrouped(links, members, constraints, graph.sizes)
    table[constraints.deleted] = 0


def united(
    graph: FragmentGraph,
    base: NDArray[np.uint64],
    constraints: Constraints,
    members: NDArray[np.int64] | slice = slice(None),
) -> NDArray[np.uint64]:
    """Return the segments that members, by default all, have where those are one that must be one.

    Whatever is forbidden; `base` is not changed.
    """
    ends = base[_demanded(constraints)]
    ends = ends[(ends[:, 0] != ends[:, 1]) & (ends > 0).all(axis=1)]
    if not len(ends):
        return np.array(base[members])
    segments, rows = np.unique(ends, return_inverse=True)
    u, v = rows.reshape(-1, 2).T
    links = coo_array((np.ones(len(u), bool), (u, v)), shape=(len(segments), len(segments)))
    _, parts = connected_components(links, directed=False)
    order = np.lexsort((segments, -graph.sizes[segments], parts))  # a segment is called by its largest fragment
    leads = order[np.flatnonzero(np.diff(parts[order], prepend=-1))]
    renamed = np.arange(len(base), dtype=np.uint64)
    renamed[segments] = segments[leads][parts]
    table: NDArray[np.uint64] = renamed[base[members]]
    return table


def members_of(table: NDArray[np.uint64], segments: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the fragments of some segments, sorted."""
    wanted = np.zeros(len(table), bool)
    wanted[segments] = True
    return np.flatnonzero(wanted[table])


def links_between(
    graph: FragmentGraph, base: NDArray[np.uint64], constraints: Constraints, members: NDArray[np.int64]
) -> Links:
    """Return what holds fragments together: demands, contacts that the table has joined, the surest first.

    Parts of one segment of the table that do not touch, as in segmentations from elsewhere, are held together last.
    """
    row = np.full(len(base), -1, np.int32)
    row[members] = np.arange(len(members), dtype=np.int32)
    demanded = row[_demanded(constraints)]
    demanded = demanded[(demanded >= 0).all(axis=1)]
    pairs, edges = _contacts(graph.edges, graph.first, base, members, row)
    order = _surest_first(graph.mean[edges])
    loose = _loose(pairs, base[members])
    return Links(
        members,
        np.concatenate([demanded, pairs[order], loose]),
        np.concatenate([np.full(len(demanded), -1), edges[order], np.full(len(loose), -2)]),
    )


def _surest_first(affinity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the order of falling affinities, equal ones as they stand.

    Numbers of 64 bits are sorted several times as fast as by an index: of affinities >= 0 the bits are in their order.
    """
    bits = np.ascontiguousarray(affinity + np.float32(0)).view(np.uint32)
    keys = (np.uint64(2**32 - 1) - bits << np.uint64(32)) | np.arange(len(bits), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(2**32 - 1)).astype(np.int64)


def _demanded(constraints: Constraints) -> NDArray[np.uint64]:
    """Return the pairs that must be one: those of locked groups first."""
    groups = constraints.locked
    return np.concatenate([groups[groups[:, 0] != groups[:, 1]], constraints.must])


def _to_regroup(table: NDArray[np.uint64], constraints: Constraints) -> NDArray[np.uint64]:
    """Return the segments that are not yet as demanded."""
    cannot = table[constraints.cannot]
    split = cannot[cannot[:, 0] == cannot[:, 1], 0]
    locked, deleted = constraints.locked, constraints.deleted
    special = np.concatenate([locked[:, 1], deleted])
    segments, rows, named = np.unique(table[special], return_inverse=True, return_counts=True)
    if len(special):
        # what is locked or deleted as a whole needs nothing: one group, and as many fragments as the segment has
        groups = np.concatenate([locked[:, 0], np.zeros(len(deleted), np.uint64)])
        low, high = np.full(len(segments), 2**63, np.uint64), np.zeros(len(segments), np.uint64)
        np.minimum.at(low, rows, groups)
        np.maximum.at(high, rows, groups)
        held = np.bincount(table.view(np.int64), minlength=len(table))[segments]
        segments = segments[(low != high) | (held != named)]
    hot = np.union1d(split, segments)
    return hot[hot > 0]


def _regrouped(
    links: Links, members: NDArray[np.int64], constraints: Constraints, sizes: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Join members along their links as far as demands allow; return the name of the segment of each."""
    ids = members.astype(np.uint64)
    group = np.zeros(len(members), np.uint64)
    for fragments, values in ((constraints.locked[:, 1], constraints.locked[:, 0]), (constraints.deleted, None)):
        place = np.searchsorted(ids, fragments).clip(max=len(ids) - 1)
        here = ids[place] == fragments
        group[place[here]] = _DELETED if values is None else values[here]
    cannot = constraints.cannot
    place = np.searchsorted(ids, cannot).clip(max=len(ids) - 1)
    here = (ids[place] == cannot).all(axis=1)
    apart = place[here].astype(np.int32)
    names: NDArray[np.uint64] = _joined(links.pairs, apart, group, ids, sizes[members])
    return names


@compiled
def _contacts(edges, first, base, members, row):  # type: ignore[no-untyped-def]
    """Return the contacts between members that the table has joined, as rows of members, and their edges."""
    count = 0
    for u in members:
        count += first[u + 1] - first[u]
    pairs = np.empty((count, 2), np.int32)
    found = np.empty(count, np.int64)
    n = 0
    for u in members:
        if base[u] == 0:
            continue
        for edge in range(first[u], first[u + 1]):
            v = edges[edge, 1]
            if row[v] >= 0 and base[v] == base[u]:
                pairs[n, 0], pairs[n, 1], found[n] = row[u], row[v], edge
                n += 1
    return pairs[:n].copy(), found[:n].copy()


@compiled
def _find(parent, node):  # type: ignore[no-untyped-def]
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _loose(pairs, segments):  # type: ignore[no-untyped-def]
    """Return links from the first fragment of each segment to the first of each part that hangs on nothing of it."""
    parent = np.arange(len(segments)).astype(np.int32)
    for k in range(len(pairs)):
        a, b = _find(parent, pairs[k, 0]), _find(parent, pairs[k, 1])
        parent[max(a, b)] = min(a, b)
    links = np.empty((len(segments), 2), np.int32)
    n = 0
    order = np.argsort(segments, kind="mergesort")
    lead = -1
    for node in order:
        if segments[node] == 0:
            continue
        if lead < 0 or segments[lead] != segments[node]:
            lead = node
        elif parent[node] == node:
            links[n, 0], links[n, 1] = lead, node
            n += 1
    return links[:n].copy()


@compiled
def _joined(pairs, apart, group, ids, sizes):  # type: ignore[no-untyped-def]
    parent = np.arange(len(ids)).astype(np.int32)
    lists = _forbidden(apart, len(ids))
    length = lists[2]
    for k in range(len(pairs)):
        a, b = _find(parent, pairs[k, 0]), _find(parent, pairs[k, 1])
        if a == b or group[a] != group[b] or group[a] >= _DELETED:
            continue
        if length[a] > length[b]:
            a, b = b, a
        if _may_join(a, b, parent, apart, lists):
            parent[a] = b
            _append(a, b, lists)
    return _names(parent, ids, sizes)


@compiled
def _forbidden(apart, nodes):  # type: ignore[no-untyped-def]
    """Return for each node a list of its forbidden pairs: first and last entry, length, and what follows an entry.

    Entry 2k stands for apart[k, 1] in the list of apart[k, 0], entry 2k + 1 for the other end.
    """
    first, last = np.full(nodes, -1, np.int32), np.full(nodes, -1, np.int32)
    length = np.zeros(nodes, np.int32)
    following = np.full(2 * len(apart), -1, np.int32)
    for entry in range(2 * len(apart)):
        node = apart[entry >> 1, entry & 1]
        following[entry] = first[node]
        first[node] = entry
        if last[node] < 0:
            last[node] = entry
        length[node] += 1
    return first, last, length, following


@compiled
def _may_join(a, b, parent, apart, lists):  # type: ignore[no-untyped-def]
    """Whether no forbidden pair lies between two roots; the list of `a` is the shorter one."""
    first, _, _, following = lists
    entry = first[a]
    while entry >= 0:
        if _find(parent, apart[entry >> 1, 1 - (entry & 1)]) == b:
            return False
        entry = following[entry]
    return True


@compiled
def _append(a, b, lists):  # type: ignore[no-untyped-def]
    """Give the forbidden pairs of `a` to `b`."""
    first, last, length, following = lists
    if first[a] >= 0:
        if first[b] < 0:
            last[b] = last[a]
        following[last[a]] = first[b]
        first[b] = first[a]
        length[b] += length[a]


@compiled
def _names(parent, ids, sizes):  # type: ignore[no-untyped-def]
    largest = np.full(len(ids), -1, np.int32)
    for node in range(len(ids)):
        root = _find(parent, node)
        if largest[root] < 0 or sizes[node] > sizes[largest[root]]:
            largest[root] = node
    names = ids.copy()
    for node in range(len(ids)):
        names[node] = ids[largest[_find(parent, node)]]
    return names
