"""Affinities to fragments: the small pieces that agglomeration joins, and that nothing takes apart again.

Seeds are the maxima of the distance to the boundary, as in TokenUnify; what they claim is decided along the affinities
themselves. What hangs together without a seed, such as a neurite too thin to have a voxel away from its boundary,
becomes a fragment too: no neuron is lost for want of a seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bioimage_cpp.distance import distance_transform
from bioimage_cpp.segmentation import label
from scipy.ndimage import gaussian_filter
from skimage.morphology import local_maxima

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.boundary import STEPS, boundary_of, fitting_threshold, in_sections, nearest_affinities
from napari_tokenunify.segment.flood import LEVELS, OUTSIDE, absorb, flood, number, seed_rest
from napari_tokenunify.segment.region_graph import check_affinities, region_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.config import FragmentsConfig
    from napari_tokenunify.geometry import VoxelSize


def fragments(
    affinities: NDArray[np.float32],
    offsets: Sequence[Offset],
    config: FragmentsConfig,
    *,
    voxel_size_nm: VoxelSize | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint64]:
    """Cut affinities into fragments by a seeded watershed.

    Where a boundary threshold is given, nothing depends on more of the array than what is near and what hangs together,
    so a block with a halo gives what the whole array would.

    Parameters
    ----------
    affinities : ndarray of float32, shape (C, Z, Y, X)
        0..1; channel c at voxel p links p and p + offset_c.
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel, in voxels; one of length 1 along each axis (y and x in sections) must be among them.
    config : FragmentsConfig
        Mode, threshold (by default what `boundary.fitting_threshold` finds in this array), smoothing, smallest size.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm; by default voxels are taken for cubes.
    mask : ndarray of bool, shape (Z, Y, X), optional
        False = no fragment here.

    Returns
    -------
    ndarray of uint64, shape (Z, Y, X)
        Ids 1..n in the order in which a scan along x, then y, then z meets them; 0 only where `mask` is False.

    Raises
    ------
    SegmentError
        If the shapes do not fit, affinities are not numbers in 0..1, or an axis has no nearest-neighbour offset.
    """
    shape = affinities.shape[1:]
    check_affinities(affinities, offsets, shape)
    if mask is not None and mask.shape != shape:
        raise SegmentError(f"The mask has the shape {mask.shape}, the affinities {shape}: give one of their shape.")
    size = np.array(voxel_size_nm or (1.0, 1.0, 1.0))
    start = int(sections := in_sections(config, voxel_size_nm))
    nearest = nearest_affinities(affinities, offsets, sections=sections)
    boundary = boundary_of(nearest, sections=sections)
    threshold = _threshold(config, nearest, mask, sections=sections)
    inside = boundary < threshold
    if mask is not None:
        inside &= mask
    ids = _seeds(inside, config.seed_smoothing, size, start)
    if mask is not None:
        ids[~mask] = OUTSIDE
    _grow(_cost(nearest), ids, start, _limit(threshold))
    ids[ids == OUTSIDE] = 0
    return _numbered(ids, nearest, start, (threshold, config.min_fragment_size))


def regrow(
    affinities: NDArray[np.float32],
    offsets: Sequence[Offset],
    config: FragmentsConfig,
    ids: NDArray[np.uint64],
    voxel_size_nm: VoxelSize | None = None,
) -> None:
    """Let fragments grow, in place, into free voxels that they are linked to, as `fragments` lets seeds grow.

    Parameters
    ----------
    affinities, offsets, config, voxel_size_nm
        As of `fragments`.
    ids : ndarray of uint64, shape (Z, Y, X)
        0 = free, `flood.OUTSIDE` = nothing grows here. What no fragment is linked to stays free.
    """
    sections = in_sections(config, voxel_size_nm)
    nearest = nearest_affinities(affinities, offsets, sections=sections)
    threshold = _threshold(config, nearest, None, sections=sections)
    flood(_cost(nearest).reshape(3, -1), ids.shape, ids.reshape(-1), int(sections), _limit(threshold))


def _threshold(
    config: FragmentsConfig, nearest: NDArray[np.float32], mask: NDArray[np.bool_] | None, *, sections: bool
) -> float:
    if config.boundary_threshold is not None:
        return config.boundary_threshold
    boundary = boundary_of(nearest, sections=sections)
    return fitting_threshold([boundary if mask is None else boundary[mask]], sections=sections)


def _cost(nearest: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint((1 - nearest) * LEVELS).astype(np.uint8)


def _limit(threshold: float) -> int:
    return int(np.ceil(threshold * LEVELS))


def _seeds(inside: NDArray[np.bool_], smoothing: float, size: NDArray[np.float64], start: int) -> NDArray[Any]:
    """Label the maxima of the distance to the boundary; distances and blur in units of the smallest voxel edge."""
    sampling = size[start:] / size[start:].min()
    if start:
        seeds, count = np.zeros(inside.shape, np.uint64), np.uint64(0)
        for section, found in zip(inside, seeds, strict=True):
            found[...] = _maxima(section, smoothing, sampling)
            found[found != 0] += count
            count = max(count, found.max())
        return seeds
    return _maxima(inside, smoothing, sampling)


def _maxima(inside: NDArray[np.bool_], smoothing: float, sampling: NDArray[np.float64]) -> NDArray[Any]:
    if inside.all():  # the library measures to a plane outside then; there is no boundary to be far from
        return np.asarray(label(inside, connectivity=1))
    distance = distance_transform(inside, sampling=sampling.tolist())
    if smoothing:
        distance = gaussian_filter(distance, smoothing / sampling)
    maxima = local_maxima(distance, connectivity=inside.ndim)  # type: ignore[no-untyped-call]
    return np.asarray(label(maxima.astype(bool) & inside, connectivity=1))


def _grow(cost: NDArray[np.uint8], ids: NDArray[np.uint64], start: int, limit: int) -> None:
    """Fill all that is not outside, in place."""
    steps, shape, flat = cost.reshape(3, -1), ids.shape, ids.reshape(-1)
    flood(steps, shape, flat, start, limit)
    seed_rest(steps, shape, flat, start, limit)
    flood(steps, shape, flat, start, LEVELS + 1)
    seed_rest(steps, shape, flat, start, LEVELS + 1)  # islands of a mask, and sections without any seed
    left = np.flatnonzero(flat == 0)
    flat[left] = flat[flat != OUTSIDE].max(initial=0) + np.arange(1, len(left) + 1, dtype=np.uint64)


def _numbered(
    ids: NDArray[np.uint64], nearest: NDArray[np.float32], start: int, limits: tuple[float, int]
) -> NDArray[np.uint64]:
    """Give small fragments to the neighbour with the largest mean affinity, never across a boundary; number 1..n."""
    table = np.arange(int(ids.max(initial=0)) + 1)
    threshold, smallest = limits
    if smallest > 1:
        graph = region_graph(ids, nearest[start:], STEPS[start:])
        linked = np.flatnonzero(1 - graph.mean < threshold)
        order = linked[np.lexsort((linked, -graph.mean[linked]))]
        table = absorb(graph.edges, order, graph.sizes.copy(), smallest)
    number(ids.reshape(-1), table)
    return ids
