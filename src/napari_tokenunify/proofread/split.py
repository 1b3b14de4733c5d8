"""Where to cut a segment between seeds: the minimum cut of its contacts, weighted with their affinities.

The cut between two sets of seeds is exact (maximum flow, SciPy). Between more it is put together from the cuts that
isolate each set from all others (Dahlhaus et al. 1994), at most 2 - 2/k times as dear as the best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.correction import Links
    from napari_tokenunify.proofread.fragment_graph import FragmentGraph

_MOST: Final = 1 << 26  # of all contacts together: sums have to fit into 32 bits
_FINEST: Final = 1 << 10  # steps of a weight


@dataclass(frozen=True, eq=False)
class Sides:
    """Which side of a cut each fragment is on.

    Attributes
    ----------
    members : ndarray of int64, shape (n,)
        The fragments of the segment, sorted.
    side : ndarray of int32, shape (n,)
        Of each, the number of its set of seeds.
    cost : float
        Affinities that are cut, summed over all pairs of voxels.
    pieces : tuple of int
        Into how many parts that do not hang together each side falls; 1 where all is well.
    """

    members: NDArray[np.int64]
    side: NDArray[np.int32]
    cost: float
    pieces: tuple[int, ...]


def link_weights(graph: FragmentGraph, links: Links) -> NDArray[np.float64]:
    """Return what it costs to cut each link: the sum of affinities over the contact.

    What the user has joined costs more than all contacts together, what only holds loose parts together nothing.

    Parameters
    ----------
    graph : FragmentGraph
        Contacts.
    links : Links
        Of the segment.

    Returns
    -------
    ndarray of float64, shape (K,)
    """
    weights = np.zeros(len(links.edges))
    contact = links.edges >= 0
    rows = links.edges[contact]
    weights[contact] = graph.count[rows] * graph.mean[rows]
    weights[links.edges == -1] = weights.sum() + 1
    return weights


def split_sides(
    members: NDArray[np.int64], pairs: NDArray[np.int32], weights: NDArray[np.float64], seeds: Sequence[Sequence[int]]
) -> Sides:
    """Cut a segment between sets of seeds at the least cost.

    Parameters
    ----------
    members : ndarray of int64, shape (n,)
        Its fragments, sorted.
    pairs : ndarray of int32, shape (K, 2)
        What holds them together, as rows of `members`.
    weights : ndarray of float64, shape (K,)
        What it costs to cut each.
    seeds : sequence of sequences of int
        Two or more sets of rows of `members`, none in two sets.

    Returns
    -------
    Sides
        Exact for two sets of seeds.
    """
    capacities = _capacities(weights)
    if len(seeds) == 2:
        side = np.where(_isolated(len(members), pairs, capacities, seeds[0], seeds[1]), 0, 1)
    else:
        side = _many(len(members), pairs, capacities, seeds)
    side = side.astype(np.int32)
    across = side[pairs[:, 0]] != side[pairs[:, 1]]
    pieces = pieces_of(pairs[~across], len(members))
    counts = [len(np.unique(pieces[side == number])) for number in range(len(seeds))]
    return Sides(members, side, float(weights[across].sum()), tuple(counts))


def pieces_of(pairs: NDArray[np.int32], nodes: int) -> NDArray[np.int32]:
    """Return for each of `nodes` the number of the part that it hangs together with."""
    ones = np.ones(len(pairs), bool)
    _, pieces = connected_components(
        coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(nodes, nodes)), directed=False
    )
    numbers: NDArray[np.int32] = pieces
    return numbers


def _capacities(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the weights as whole numbers, each at least 1, so that nothing is cut off for nothing."""
    total = weights[weights < weights.max(initial=0)].sum() + weights.max(initial=0)
    scale = min(_FINEST, _MOST / total) if total > 0 else 1.0
    whole: NDArray[np.int64] = np.maximum(np.rint(weights * scale), 1).astype(np.int64)
    return whole


def _isolated(
    nodes: int, pairs: NDArray[np.int32], capacities: NDArray[np.int64], inside: Sequence[int], outside: Sequence[int]
) -> NDArray[np.bool_]:
    """Return what stays with the seeds `inside` when they are cut from those `outside`: as little as is cheapest."""
    number = np.arange(2, nodes + 2)
    number[np.asarray(inside)] = 0  # all seeds of a set are one node, so that no capacity has to be infinite
    number[np.asarray(outside)] = 1
    u, v = number[pairs].T
    real = u != v
    both = np.concatenate([u[real], v[real]]), np.concatenate([v[real], u[real]])
    flow_of = coo_array((np.tile(capacities[real], 2), both), shape=(nodes + 2, nodes + 2)).tocsr()
    flow_of.data = np.minimum(flow_of.data, 2**30).astype(np.int32)
    found = maximum_flow(flow_of, 0, 1)
    left = flow_of - found.flow
    left.data = left.data.astype(np.int32)
    left.eliminate_zeros()
    reached = np.zeros(nodes + 2, bool)
    reached[breadth_first_order(left, 0, directed=True, return_predecessors=False)] = True
    within: NDArray[np.bool_] = reached[number]
    return within


def _many(
    nodes: int, pairs: NDArray[np.int32], capacities: NDArray[np.int64], seeds: Sequence[Sequence[int]]
) -> NDArray[np.int32]:
    """Isolate each set of seeds from all others; the one that is dearest to isolate gets what is left."""
    side = np.full(nodes, -1, np.int32)
    cost = []
    for number, inside in enumerate(seeds):
        others = [seed for other, rows in enumerate(seeds) if other != number for seed in rows]
        within = _isolated(nodes, pairs, capacities, inside, others)
        cost.append(int(capacities[within[pairs[:, 0]] != within[pairs[:, 1]]].sum()))
        side[within] = number
    dearest = int(np.argmax(cost))
    left = side < 0
    pieces = pieces_of(pairs[left[pairs].all(axis=1)], nodes)
    for piece in np.unique(pieces[left]):
        rows = left & (pieces == piece)
        side[rows] = _strongest(rows, side, pairs, capacities, dearest)
    return side


def _strongest(
    rows: NDArray[np.bool_],
    side: NDArray[np.int32],
    pairs: NDArray[np.int32],
    capacities: NDArray[np.int64],
    dearest: int,
) -> int:
    """Return the side of a piece that no set of seeds has: `dearest` if it touches that, else what holds it most."""
    ends = rows[pairs]
    border = ends[:, 0] != ends[:, 1]
    far = np.where(ends[border, 0], side[pairs[border, 1]], side[pairs[border, 0]])
    held = np.bincount(far[far >= 0], capacities[border][far >= 0], minlength=dearest + 1)
    return dearest if held[dearest] else int(np.argmax(held))
