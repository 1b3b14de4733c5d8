"""How much of a boundary each voxel is, and from where on nothing hangs together across it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.config import FragmentsConfig
    from napari_tokenunify.geometry import VoxelSize

STEPS: Final[tuple[Offset, ...]] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))

_ANISOTROPIC: Final = 2.5
# By measurement, see docs/performance.md; a mean over two axes leaves a membrane little more than 0.5.
_USUAL: Final = {"sections": 0.3, "volume": 0.85}
_SUREST: Final = 0.01  # share of the voxels
_BELOW: Final = 0.9  # of what the surest boundaries have
_LEAST: Final = 1 / 3  # of the usual: tissue without any membrane is not cut along its noise
_LEVELS: Final = 1000


def in_sections(config: FragmentsConfig, voxel_size_nm: VoxelSize | None) -> bool:
    """Tell whether each section is cut for itself."""
    if config.fragment_mode == "auto":
        return voxel_size_nm is not None and voxel_size_nm[0] > _ANISOTROPIC * voxel_size_nm[1]
    return config.fragment_mode == "sections"


def nearest_affinities(
    affinities: NDArray[np.float32], offsets: Sequence[Offset], *, sections: bool
) -> NDArray[np.float32]:
    """Return the affinities (z, y, x) between p and p - 1; the first plane, of which none is known, as the next.

    Raises
    ------
    SegmentError
        If no channel links neighbours along an axis; in sections z may be missing, and is 0 then.
    """
    nearest = np.zeros((3, *affinities.shape[1:]), np.float32)
    for axis, step in enumerate(STEPS):
        back = tuple(-part for part in step)
        channel = next((c for c, offset in enumerate(offsets) if tuple(offset) in (step, back)), None)
        if channel is None and axis == 0 and sections:
            continue
        if channel is None:
            raise SegmentError(
                f"No channel links neighbours along {'zyx'[axis]}: fragments need the offset {step} among the offsets."
            )
        ahead = np.moveaxis(nearest[axis], axis, 0)[1:]
        values = np.moveaxis(affinities[channel], axis, 0)
        np.clip(values[1:] if tuple(offsets[channel]) == step else values[:-1], 0, 1, out=ahead)
        np.moveaxis(nearest[axis], axis, 0)[0] = ahead[0] if len(ahead) else 1
    return nearest


def boundary_of(nearest: NDArray[np.float32], *, sections: bool) -> NDArray[np.float32]:
    """Return how much of a boundary each voxel is, 0..1.

    In sections 1 - (y + x affinity) / 2, as in TokenUnify; in a volume 1 - the least of the three, where a mean would
    let a thin membrane across one axis through.
    """
    boundary: NDArray[np.float32] = 1 - (nearest[1:].mean(axis=0) if sections else nearest.min(axis=0))
    return boundary


def usual_threshold(*, sections: bool) -> float:
    """Return from where on a boundary holds, for a network that is sure of some."""
    return _USUAL["sections" if sections else "volume"]


def fitting_threshold(boundaries: Iterable[NDArray[np.float32]], *, sections: bool) -> float:
    """Return from where on a boundary holds: the usual value, or less where a network is sure of none.

    A network that has learnt little gives a membrane 0.7 rather than 0.95. At the usual threshold all of its tissue is
    one fragment, which no agglomeration takes apart.

    Parameters
    ----------
    boundaries : iterable of ndarray of float32
        Of pieces of the volume; some may be empty.
    sections : bool
        Whether each section is cut for itself.

    Returns
    -------
    float
        Nine tenths of what the surest hundredth of the voxels of a piece has: the median over the pieces that hold
        boundaries at all, so that neither resin nor a crack decides. Between a third of the usual value and that.
    """
    usual = usual_threshold(sections=sections)
    pieces = [_BELOW * _surest(boundary) for boundary in boundaries if boundary.size]
    if not pieces:
        return usual
    with_boundaries = [value for value in pieces if value > _LEAST * usual]
    return min(usual, float(np.median(with_boundaries))) if with_boundaries else _LEAST * usual


def _surest(boundary: NDArray[np.float32]) -> float:
    """Return what the surest hundredth has at least; counted in levels, as sorting takes longer."""
    levels: NDArray[Any] = np.rint(boundary * _LEVELS).astype(np.intp).reshape(-1)
    counts = np.cumsum(np.bincount(levels, minlength=_LEVELS + 1))
    return int(np.searchsorted(counts, (1 - _SUREST) * counts[-1])) / _LEVELS
