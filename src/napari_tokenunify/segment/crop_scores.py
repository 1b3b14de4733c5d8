"""How good the segments of one crop can get: for following a training, not for judging a segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_tokenunify.config import AgglomerateConfig, FragmentsConfig
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.region_graph import region_graph
from napari_tokenunify.segment.tuning import tune

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.geometry import VoxelSize


def crop_scores(
    affinities: NDArray[np.float32],
    labels: NDArray[Any],
    offsets: Sequence[Offset],
    voxel_size_nm: VoxelSize | None = None,
) -> dict[str, float]:
    """Cut a crop into fragments, join them as by default, and compare with labels at the best threshold.

    As the threshold is chosen on the same labels, the numbers are too good; they tell a better training from a worse.

    Parameters
    ----------
    affinities : ndarray of float32, shape (C, Z, Y, X)
        0..1.
    labels : ndarray of int, shape (Z, Y, X)
        0 = unlabelled, not counted.
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel, in voxels.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm.

    Returns
    -------
    dict
        `voi_split`, `voi_merge`, `voi` (bits), `adapted_rand_error`, `threshold`.
    """
    cut = fragments(affinities, offsets, FragmentsConfig(), voxel_size_nm=voxel_size_nm)
    tuning = tune(region_graph(cut, affinities, offsets), cut, labels, AgglomerateConfig())
    best = next(point for point in tuning.curve if point.value == tuning.value)
    return {
        "voi_split": best.voi_split,
        "voi_merge": best.voi_merge,
        "voi": best.voi_split + best.voi_merge,
        "adapted_rand_error": best.adapted_rand_error,
        "threshold": best.value,
    }
