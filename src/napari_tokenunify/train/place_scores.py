"""How good predictions are at places that no training has seen: affinities, and segments where enough is labelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.train.samples import targets
from napari_tokenunify.train.scores import AffinityScores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.annotations import LabelledBlock
    from napari_tokenunify.geometry import VoxelSize

    SegmentScores = Callable[
        [NDArray[np.float32], NDArray[np.uint64], Sequence[Offset], VoxelSize | None], dict[str, float]
    ]


@dataclass(eq=False)
class PlaceScores:
    """Adds up over places.

    Parameters
    ----------
    boundary_id : int or None
        The id of their labels that stands for membrane or outside.
    widen : bool
        Whether borders are widened before they are compared, see `targets`.
    segment : callable or None
        From affinities (C, Z, Y, X), labels, offsets and voxel size to scores of segments by name, e.g. `voi`.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm.
    """

    boundary_id: int | None
    widen: bool = False
    segment: SegmentScores | None = None
    voxel_size_nm: VoxelSize | None = None
    _affinities: AffinityScores = field(init=False, default_factory=AffinityScores)
    _segments: list[dict[str, float]] = field(init=False, default_factory=list)

    def add(self, affinities: NDArray[np.float32], place: LabelledBlock, offsets: Sequence[Offset]) -> None:
        """Compare the affinities of a place, (C, Z, Y, X) in 0..1, with its labels."""
        target, mask = targets(place.around, offsets, self.boundary_id, widen=self.widen)
        part = (slice(None), *place.inner.slices)
        self._affinities += AffinityScores.of(affinities, target[part], mask[part])
        neurons = place.ids if self.boundary_id is None else np.where(place.ids == self.boundary_id, 0, place.ids)
        if self.segment is not None and place.is_dense and neurons.any():  # a membrane is no neuron
            self._segments.append(self.segment(affinities, neurons, offsets, self.voxel_size_nm))

    def values(self) -> dict[str, float]:
        """Return the scores by name: those of `AffinityScores` over all places, of segments the mean of dense ones."""
        found = self._affinities.values()
        if found and self._segments:
            found |= {name: float(np.mean([each[name] for each in self._segments])) for name in self._segments[0]}
        return found
