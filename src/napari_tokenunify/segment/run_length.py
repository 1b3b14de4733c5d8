"""Expected run length: how far one can follow a neuron along its skeleton before the segmentation errs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.metrics import Contingency, as_ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def expected_run_length(
    positions_nm: ArrayLike, edges: ArrayLike, skeletons: ArrayLike, segments: ArrayLike, merge_threshold: int = 0
) -> tuple[float, float]:
    """Return the expected run length of the FFN paper (Januszewski et al. 2018), and the best that is possible.

    For a random point of all skeletons, it is the length of its skeleton that lies in the same segment. Edges
    between two segments, in segment 0 and in segments that merge neurons have the length 0.

    Parameters
    ----------
    positions_nm : array-like of float, shape (N, 3)
        Nodes (z, y, x) in nm.
    edges : array-like of int, shape (E, 2)
        Indices of the nodes at both ends; both of the same skeleton.
    skeletons : array-like of int, shape (N,)
        The skeleton (neuron) of each node.
    segments : array-like of int, shape (N,)
        The segment at each node; 0 is none.
    merge_threshold : int
        A skeleton is in a segment if more than so many of its nodes are; a segment with two such is a merge. Larger
        forgives nodes that lie just across a border.

    Returns
    -------
    erl_nm : float
        The expected run length in nm.
    best_nm : float
        What a perfect segmentation would have: the skeletons' mean length, weighted by length.

    Raises
    ------
    SegmentError
        If the arrays do not fit to each other, or the skeletons have no length.
    """
    positions, ends = np.asarray(positions_nm, np.float64), np.asarray(edges)
    owners, found = as_ids(np.asarray(skeletons), "skeletons"), as_ids(np.asarray(segments), "segments")
    _check(positions, ends, owners, found)
    first, second = ends.T
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    total = float(lengths.sum())
    if not 0 < total < float("inf"):
        raise SegmentError("The skeletons have no length: give at least one edge between two places.")
    joined = (
        (found[first] == found[second])
        & (found[first] != 0)
        & ~np.isin(found[first], _merging(owners, found, merge_threshold))
    )
    runs = _added(owners[first][joined], found[first][joined], lengths[joined])
    whole = _added(owners[first], np.zeros_like(owners[first]), lengths)
    return float(runs @ runs) / total, float(whole @ whole) / total


def _merging(skeletons: NDArray[np.uint64], segments: NDArray[np.uint64], threshold: int) -> NDArray[np.uint64]:
    """Return the segments that hold more than `threshold` nodes of at least two skeletons each."""
    nodes = Contingency.from_rows(skeletons, segments, np.ones(len(segments), np.int64))
    holders, count = np.unique(nodes.segments[nodes.voxels > threshold], return_counts=True)
    merging: NDArray[np.uint64] = holders[count > 1]
    return merging


def _added(
    skeletons: NDArray[np.uint64], segments: NDArray[np.uint64], lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the length that each skeleton has in each segment; a segment may leave and come back."""
    _, index = np.unique(np.stack([skeletons, segments]), axis=1, return_inverse=True)
    added: NDArray[Any] = np.bincount(index.ravel(), lengths)  # NumPy 2.0 keeps the axis
    return added


def _check(
    positions: NDArray[np.float64], edges: NDArray[Any], skeletons: NDArray[Any], segments: NDArray[Any]
) -> None:
    nodes = len(positions)
    if positions.shape != (nodes, 3) or skeletons.shape != (nodes,) or segments.shape != (nodes,):
        raise SegmentError(
            f"There are {nodes} positions, {len(skeletons)} skeleton ids and {len(segments)} segments: give one of "
            "each for every node, positions as z, y, x in nm."
        )
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "ui":
        raise SegmentError("The edges of the skeletons are no pairs of node indices: give integers of shape (E, 2).")
    if edges.size and not 0 <= edges.min() <= edges.max() < nodes:
        raise SegmentError(f"An edge of the skeletons leads to a node that is not there: nodes are 0 to {nodes - 1}.")
    if (skeletons[edges[:, 0]] != skeletons[edges[:, 1]]).any():
        raise SegmentError("An edge joins nodes of two skeletons: give both the same skeleton id.")
