"""The region graph: which fragments touch, over how many pairs of voxels, and with which affinities.

Statistics are gathered block by block and merged; of each pair of voxels the block owns it that owns the voxel p of
the pair (p, p + offset), so whole array and blocks give the same graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import offset_reach
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset

    Statistics = tuple[NDArray[np.uint64], NDArray[np.float64]]

_TOLERANCE = 1e-3  # what blending and 16-bit storage may add to 0..1
_SLAB_VALUES = 1 << 21
_COLUMNS = [0, 1, 4]  # of the library's count, mean, squared deviations, minimum, maximum
_EMPTY: Statistics = (np.empty((0, 2), np.uint64), np.empty((0, 3)))


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Fragments as nodes, contacts between them as edges.

    Attributes
    ----------
    nodes : int
        Number of fragments; their ids are 1..nodes.
    edges : ndarray of uint64, shape (E, 2)
        Pairs u < v of fragments that touch, sorted by u, then v.
    count : ndarray of float64, shape (E,)
        Pairs of neighbouring voxels in each contact.
    mean, largest : ndarray of float32, shape (E,)
        Mean and maximum of the affinities over each contact, 0..1.
    far_edges : ndarray of uint64, shape (F, 2)
        Pairs u < v that long-range offsets link, whether they touch or not, sorted; empty without such offsets.
    far_count : ndarray of float64, shape (F,)
        Pairs of voxels behind each of them.
    far_mean : ndarray of float32, shape (F,)
        Mean of their affinities, 0..1.
    sizes : ndarray of int64, shape (nodes + 1,)
        Voxels of each fragment; entry 0 is 0.
    spread : ndarray of float32, shape (E,), optional
        How much the answers to several orientations of a tile differ at each contact, 0..1: the mean of what
        `AffinityStore.read_spread` gives.
    """

    nodes: int
    edges: NDArray[np.uint64]
    count: NDArray[np.float64]
    mean: NDArray[np.float32]
    largest: NDArray[np.float32]
    far_edges: NDArray[np.uint64]
    far_count: NDArray[np.float64]
    far_mean: NDArray[np.float32]
    sizes: NDArray[np.int64]
    spread: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class BlockStatistics:
    """What one block adds to the region graph; plain arrays, so that they can be stored.

    Attributes
    ----------
    edges : ndarray of uint64, shape (n, 2)
        Pairs u < v of fragments linked by nearest-neighbour offsets in this block, sorted.
    statistics : ndarray of float64, shape (n, 3)
        Count, mean and maximum of the affinities of each pair.
    far_edges, far_statistics : ndarray
        The same for long-range offsets.
    ids : ndarray of uint64, shape (k,)
        The fragments that have voxels of their own here, sorted.
    voxels : ndarray of int64, shape (k,)
        How many.
    spread : ndarray of float64, shape (n,) or (0,)
        Mean spread of each pair; empty where there is none.
    """

    edges: NDArray[np.uint64]
    statistics: NDArray[np.float64]
    far_edges: NDArray[np.uint64]
    far_statistics: NDArray[np.float64]
    ids: NDArray[np.uint64]
    voxels: NDArray[np.int64]
    spread: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def region_graph(
    fragments: NDArray[np.uint64], affinities: NDArray[np.float32], offsets: Sequence[Offset]
) -> RegionGraph:
    """Return the region graph of an array that fits into memory.

    Parameters
    ----------
    fragments : ndarray of uint64, shape (Z, Y, X)
        Ids 1..n, 0 = no fragment.
    affinities : ndarray of float32, shape (C, Z, Y, X)
        0..1; channel c at voxel p links p and p + offset_c.
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel, in voxels. Those one voxel long make the edges, longer ones the far edges.

    Returns
    -------
    RegionGraph
        Its nodes are 1..largest id.

    Raises
    ------
    SegmentError
        If the shapes do not fit, or affinities are not numbers in 0..1.
    """
    return merge_statistics([block_statistics(fragments, affinities, offsets)], int(fragments.max(initial=0)))


def block_statistics(
    fragments: NDArray[np.uint64],
    affinities: NDArray[np.float32],
    offsets: Sequence[Offset],
    own: Box | None = None,
    spread: NDArray[np.float32] | None = None,
) -> BlockStatistics:
    """Return what one block adds to the region graph (bioimage-cpp's distributed graph functions).

    Parameters
    ----------
    fragments : ndarray of uint64, shape (Z, Y, X)
        The block with its halo; ids as in the whole volume, 0 = no fragment.
    affinities : ndarray of float32, shape (C, Z, Y, X)
        The same voxels; 0..1.
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel, in voxels. The halo must be as wide as they reach, except at the volume's faces.
    own : Box, optional
        The block without its halo, in voxels of these arrays; by default all of it. The boxes of all blocks must
        tile the volume.
    spread : ndarray of float32, shape (Z, Y, X), optional
        0..1; what counts for a pair is that of its voxel p.

    Returns
    -------
    BlockStatistics
        For `merge_statistics`.

    Raises
    ------
    SegmentError
        If the shapes do not fit, or affinities are not numbers in 0..1.
    """
    check_affinities(affinities, offsets, fragments.shape)
    own = own or Box.whole((fragments.shape[0], fragments.shape[1], fragments.shape[2]))
    near = [c for c, offset in enumerate(offsets) if sum(map(abs, offset)) == 1]
    far = [c for c in range(len(offsets)) if c not in near]
    ids, voxels = _voxels(fragments[own.slices].ravel().astype(np.uint64, copy=False))
    kept = ids != 0
    found = BlockStatistics(
        *_statistics(fragments, affinities, offsets, near, own),
        *_statistics(fragments, affinities, offsets, far, own),
        ids[kept],
        voxels[kept],
    )
    if spread is None:
        return found
    _, measured = _statistics(fragments, np.broadcast_to(spread, affinities.shape), offsets, near, own)
    return replace(found, spread=measured[:, 1])


def merge_statistics(parts: Iterable[BlockStatistics], nodes: int) -> RegionGraph:
    """Return the region graph of a volume from the statistics of its blocks.

    Parameters
    ----------
    parts : iterable of BlockStatistics
        One a block; gone through several times, and one is held at a time, so no generator but what makes one anew.
        Count, largest and sizes do not depend on their order, the mean does in its last digit.
    nodes : int
        Number of fragments in the volume; their ids are 1..nodes.

    Returns
    -------
    RegionGraph
        The same as of the whole array at once.

    Raises
    ------
    SegmentError
        If a block holds an id larger than `nodes`.
    """
    sizes = np.zeros(nodes + 1, np.int64)
    for part in parts:
        if part.ids.size and part.ids[-1] > nodes:
            raise SegmentError(
                f"There are {nodes} fragments, but one has the id {part.ids[-1]}: relabel them to 1..{nodes} first."
            )
        sizes[part.ids] += part.voxels  # an id stands in a part once
    edges, count, mean, largest = _added(lambda: ((part.edges, part.statistics) for part in parts), nodes)
    far = _added(lambda: ((part.far_edges, part.far_statistics) for part in parts), nodes)
    return RegionGraph(nodes, edges, count, mean, largest, *far[:3], sizes, _spread(parts, nodes))


def _spread(parts: Iterable[BlockStatistics], nodes: int) -> NDArray[np.float32] | None:
    """Return the mean spread of each contact; None where it was not measured everywhere."""
    if not all(len(part.spread) == len(part.edges) for part in parts):
        return None

    def measured() -> Iterable[Statistics]:
        return ((part.edges, part.statistics[:, :1] * [1, 0, 0] + part.spread[:, None] * [0, 1, 1]) for part in parts)

    return _added(measured, nodes)[2]


def check_affinities(affinities: NDArray[Any], offsets: Sequence[Offset], shape: tuple[int, ...]) -> None:
    """Refuse affinities that do not fit their offsets or an array of `shape` (z, y, x), or are not in 0..1.

    Raises
    ------
    SegmentError
        With what is wrong.
    """
    if affinities.ndim != 4 or len(offsets) != affinities.shape[0]:
        raise SegmentError(
            f"Affinities of the shape {affinities.shape} do not fit {len(offsets)} offsets: they have one channel an "
            "offset, and the axes channel, z, y, x."
        )
    if affinities.shape[1:] != tuple(shape):
        raise SegmentError(f"Affinities of the shape {affinities.shape} do not cover an array of the shape {shape}.")
    if not affinities.size:
        raise SegmentError("There are no affinities: the array is empty.")
    low, high = float(affinities.min()), float(affinities.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        found = "some are no numbers (NaN)" if np.isnan(low) else f"these go from {low:g} to {high:g}"
        raise SegmentError(f"Affinities lie between 0 and 1, but {found}: predict them again, or scale them first.")


def _statistics(
    fragments: NDArray[np.uint64],
    affinities: NDArray[np.float32],
    offsets: Sequence[Offset],
    channels: list[int],
    own: Box,
) -> Statistics:
    """Go through the block in slabs: the library works on float64, which of the whole block would be a large copy."""
    from bioimage_cpp.graph import distributed  # late, as whoever only looks at a graph need not wait for it

    if not channels:
        return _EMPTY
    chosen = [offsets[c] for c in channels]
    (down, _, _), (up, _, _) = offset_reach(chosen)
    (z0, y0, x0), (z1, _, _) = own.start, own.stop
    _, height, width = own.shape
    step = max(1, _SLAB_VALUES // (len(channels) * fragments[0].size))
    parts = []
    for start in range(z0, z1, step):
        stop = min(start + step, z1)
        low = max(0, start + down)
        seen = slice(low, stop + up)
        edges, found = distributed.block_affinity_stats(
            fragments[seen],
            affinities[channels, seen],
            chosen,
            (start - low, y0, x0),
            (stop - start, height, width),
            number_of_threads=1,
        )
        kept = edges[:, 0] != 0  # the library takes 0 for a fragment
        parts.append((edges[kept], found[kept][:, _COLUMNS]))
    return _merged(parts)


def _voxels(flat: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the ids, sorted, and how often each is there; ids that lie close need no sorting."""
    low = flat.min()
    if flat.max() - low > flat.size:
        ids, voxels = np.unique(flat, return_counts=True)
        return ids, voxels.astype(np.int64)
    counts = np.bincount((flat - low).view(np.int64))
    found = np.flatnonzero(counts)
    return found.astype(np.uint64) + low, counts[found].astype(np.int64)


def _added(
    parts: Callable[[], Iterable[Statistics]], nodes: int
) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Return the edges of all parts, and count, mean and maximum of each; sums run in the order of the parts.

    First all edges are gathered, as one number each, then what the parts say of them is added up in place: beside the
    result this takes 16 bytes for each edge of a part.
    """
    base = np.uint64(nodes + 1)
    keys = np.concatenate([np.empty(0, np.uint64), *(edges[:, 0] * base + edges[:, 1] for edges, _ in parts())])
    keys = np.unique(keys)
    count, total, largest = np.zeros(len(keys)), np.zeros(len(keys)), np.zeros(len(keys), np.float32)
    for edges, statistics in parts():
        at = np.searchsorted(keys, edges[:, 0] * base + edges[:, 1])  # each edge stands in a part once
        count[at] += statistics[:, 0]
        total[at] += statistics[:, 0] * statistics[:, 1]
        largest[at] = np.maximum(largest[at], statistics[:, 2])
    total /= np.maximum(count, 1)
    return np.stack([keys // base, keys % base], axis=1), count, total.astype(np.float32), largest


def _merged(parts: list[Statistics]) -> Statistics:
    """Put the statistics of the same pair together; sums run in the order of the parts."""
    if len(parts) < 2:
        return parts[0] if parts else _EMPTY
    edges = np.concatenate([found for found, _ in parts])
    if not len(edges):
        return _EMPTY
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges = edges[order]
    count, mean, largest = np.concatenate([statistics for _, statistics in parts])[order].T
    begins = np.flatnonzero(np.concatenate([[True], (edges[1:] != edges[:-1]).any(axis=1)]))
    total = np.add.reduceat(count, begins)
    sums = np.add.reduceat(count * mean, begins)
    return edges[begins], np.stack([total, sums / total, np.maximum.reduceat(largest, begins)], axis=1)
