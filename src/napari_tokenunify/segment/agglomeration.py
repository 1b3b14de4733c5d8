"""From a region graph to segments, by six methods.

waterz and mean are merge trees of our own, so that the threshold can be moved afterwards; the others are solvers of
bioimage-cpp. All of them join only fragments that touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bioimage_cpp.graph import UndirectedGraph
from bioimage_cpp.graph.agglomeration import GaspClusterPolicy
from bioimage_cpp.graph.lifted_multicut import (
    LiftedKernighanLinMulticut,
    LiftedMulticutObjective,
    lifted_edges_from_node_labels,
)
from bioimage_cpp.graph.multicut import KernighanLinMulticut, MulticutObjective
from bioimage_cpp.graph.mutex_watershed import mutex_watershed_clustering
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.merge_tree import MergeTree, joining_scores, merge_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_tokenunify.config import AgglomerateConfig
    from napari_tokenunify.segment.region_graph import RegionGraph

_SQUEEZE = 0.001  # keeps the costs of certain edges finite, as in TokenUnify
_HOPELESS = 0.9  # fragments that join at this score or later need no lifted edge: nothing speaks for joining them


@dataclass(frozen=True, eq=False)
class Agglomeration:
    """Segments of a region graph.

    Attributes
    ----------
    method : str
        One of METHODS.
    value : float
        The threshold (waterz, mean, mutex, gasp) or beta (multicut, lifted) that the table was made with.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment: the smallest fragment in it; entry 0 is 0.
    tree : MergeTree or None
        All merges, for any other threshold; only waterz and mean have one.
    """

    method: str
    value: float
    table: NDArray[np.uint64]
    tree: MergeTree | None = None


def agglomerate(graph: RegionGraph, config: AgglomerateConfig) -> Agglomeration:
    """Join fragments into segments.

    - waterz: hierarchical, median of largest affinities, the setting of TokenUnify (waterz, Funke et al. 2019).
    - mean: hierarchical, mean affinity over the contact.
    - multicut: what TokenUnify calls LMC: costs log((1 - p) / p) of the boundary p = 1 - mean affinity, moved by beta
      and weighted with the contact's size; greedy additive start, then Kernighan-Lin (Keuper et al. 2015).
    - lifted: the same with edges between fragments that do not touch: those of long-range offsets; without such, two
      steps in the graph apart, with the score at which the mean merge tree joins them.
    - mutex: mutex watershed (Wolf et al. 2020): what is less certain than the threshold repels, long-range too.
    - gasp: signed average linkage (Bailoni et al. 2022), mean affinities moved by the threshold.

    Parameters
    ----------
    graph : RegionGraph
        Fragments without an edge stay alone.
    config : AgglomerateConfig
        Method, and threshold or beta.

    Returns
    -------
    Agglomeration

    Raises
    ------
    SegmentError
        If the graph holds affinities that are no numbers.
    """
    if np.isnan(graph.mean).any() or np.isnan(graph.largest).any() or np.isnan(graph.far_mean).any():
        raise SegmentError("Some edges of the region graph have no number as affinity (NaN): predict again.")
    if config.method in _TREES:
        tree = merge_tree(graph, _TREES[config.method])
        return Agglomeration(config.method, config.threshold, tree.table(config.threshold), tree)
    value = config.beta if config.method in BETA_METHODS else config.threshold
    if not len(graph.edges):
        return Agglomeration(config.method, value, np.arange(graph.nodes + 1, dtype=np.uint64))
    ids = _SOLVERS[config.method](graph, value)
    return Agglomeration(config.method, value, _connected(graph, ids))


def _multicut(graph: RegionGraph, beta: float) -> NDArray[Any]:
    costs = _costs(graph.mean, graph.count, beta)
    ids: NDArray[Any] = KernighanLinMulticut().optimize(MulticutObjective(_library_graph(graph), costs))
    return ids


def _lifted(graph: RegionGraph, beta: float) -> NDArray[Any]:
    pairs, affinity, count = graph.far_edges, graph.far_mean, graph.far_count
    if not len(pairs):
        pairs, affinity, count = _lifted_edges(graph)
    objective = LiftedMulticutObjective(
        _library_graph(graph),
        _costs(graph.mean, graph.count, beta),
        lifted_uvs=pairs,
        lifted_costs=_costs(affinity, count, beta),
    )
    ids: NDArray[Any] = LiftedKernighanLinMulticut().optimize(objective)
    return ids


def _lifted_edges(graph: RegionGraph) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.float64]]:
    """Return pairs two steps apart that may belong together, their affinity in the mean tree, and equal weights."""
    tree = merge_tree(graph, "mean")
    pairs = lifted_edges_from_node_labels(
        _library_graph(graph), tree.table(_HOPELESS), 2, mode="same", number_of_threads=1
    )
    return pairs, 1 - joining_scores(tree, pairs), np.ones(len(pairs))


def _mutex(graph: RegionGraph, threshold: float) -> NDArray[Any]:
    near, far = _signed(graph.mean, threshold), _signed(graph.far_mean, threshold)
    attractive = near > 0
    ids: NDArray[Any] = mutex_watershed_clustering(
        UndirectedGraph.from_unique_edges(graph.nodes + 1, graph.edges[attractive]),
        near[attractive],
        np.concatenate([graph.edges[~attractive], graph.far_edges[far < 0]]),
        -np.concatenate([near[~attractive], far[far < 0]]),
    )
    return ids


def _gasp(graph: RegionGraph, threshold: float) -> NDArray[Any]:
    ids: NDArray[Any] = GaspClusterPolicy(linkage="mean").optimize(
        _library_graph(graph), _signed(graph.mean, threshold), edge_sizes=graph.count
    )
    return ids


def _signed(affinity: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return weights: positive where the score 1 - affinity is below the threshold."""
    return affinity.astype(np.float64) - (1 - threshold)


def _costs(affinity: NDArray[np.float32], count: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return multicut costs: positive where the two should be one."""
    boundary = _SQUEEZE + (1 - 2 * _SQUEEZE) * (1 - affinity.astype(np.float64))
    costs = np.log((1 - boundary) / boundary) + np.log((1 - beta) / beta)
    scaled: NDArray[np.float64] = costs * (count / count.max(initial=1))
    return scaled


def _library_graph(graph: RegionGraph) -> UndirectedGraph:
    return UndirectedGraph.from_unique_edges(graph.nodes + 1, graph.edges)


def _connected(graph: RegionGraph, ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the table: fragments are one segment if a chain of contacts with the same id joins them."""
    u, v = graph.edges[ids[graph.edges[:, 0]] == ids[graph.edges[:, 1]]].astype(np.int64).T
    links = coo_array((np.ones(len(u), bool), (u, v)), shape=(graph.nodes + 1, graph.nodes + 1))
    _, parts = connected_components(links, directed=False)
    _, smallest, part = np.unique(parts, return_index=True, return_inverse=True)
    table: NDArray[np.uint64] = smallest[part].astype(np.uint64)
    return table


_TREES: dict[str, Any] = {"waterz": "quantile50", "mean": "mean"}
_SOLVERS: dict[str, Callable[[RegionGraph, float], NDArray[Any]]] = {
    "multicut": _multicut,
    "lifted": _lifted,
    "mutex": _mutex,
    "gasp": _gasp,
}

METHODS = (*_TREES, *_SOLVERS)
"""What AgglomerateConfig.method may be."""
TREE_METHODS = tuple(_TREES)
"""Those of METHODS that have a merge tree."""
BETA_METHODS = ("multicut", "lifted")
"""Those of METHODS that are set by beta instead of the threshold."""
