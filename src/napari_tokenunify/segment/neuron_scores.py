"""Which neurons a segmentation gets most wrong: their pieces, and what they are merged with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.metrics import Contingency


_LEAST_SHARE: Final = 0.1


@dataclass(frozen=True)
class Piece:
    """What a neuron and a segment share: their ids, and how many `voxels`."""

    neuron: int
    segment: int
    voxels: int


@dataclass(frozen=True)
class NeuronScore:
    """What is wrong with one neuron.

    Attributes
    ----------
    neuron : int
        Its id in the ground truth.
    voxels : int
        Its size, as far as it was counted.
    voi_split, voi_merge : float
        Its part of the volume's variation of information, in bits: those of all neurons add up to it.
    pieces : tuple of Piece
        The segments that it is in, largest first.
    merges : tuple of Piece
        The other neurons that are in these segments too, each with its largest piece there, largest first.
    """

    neuron: int
    voxels: int
    voi_split: float
    voi_merge: float
    pieces: tuple[Piece, ...]
    merges: tuple[Piece, ...]

    @property
    def largest_share(self) -> float:
        """Share of the neuron that its largest piece holds, 0..1."""
        return self.pieces[0].voxels / self.voxels if self.pieces else 0.0


def worst_neurons(table: Contingency, n: int = 10) -> tuple[NeuronScore, ...]:
    """Return the neurons that cost most, the worst first; those without any error are left out.

    A neuron is in a segment if they share at least a tenth of one of them: a border that lies a voxel aside neither
    splits nor merges. The entropies leave out nothing.

    Parameters
    ----------
    table : Contingency
        Counts, without what is to be ignored.
    n : int
        At most so many.

    Returns
    -------
    tuple of NeuronScore
        Segment 0 is what was not segmented: no piece, and it merges nothing.
    """
    if not len(table):
        return ()
    margins = table.margins()
    split, merge = margins.entropies()
    cost = split + merge
    worst = [int(i) for i in np.argsort(-cost, kind="stable")[:n] if cost[i] > 0]
    sizes = np.minimum(margins.truth_voxels[margins.truth_index], margins.segment_voxels[margins.segment_index])
    real = (table.segments != 0) & (margins.shared >= _LEAST_SHARE * sizes)
    scores = []
    for i in worst:
        own = real & (margins.truth_index == i)
        others = real & np.isin(table.segments, table.segments[own]) & ~own
        scores.append(
            NeuronScore(
                neuron=int(margins.truth[i]),
                voxels=int(margins.truth_voxels[i]),
                voi_split=float(split[i]),
                voi_merge=float(merge[i]),
                pieces=_pieces(table, own),
                merges=_first_of_each(_pieces(table, others)),
            )
        )
    return tuple(scores)


def _pieces(table: Contingency, rows: NDArray[np.bool_]) -> tuple[Piece, ...]:
    found = np.flatnonzero(rows)
    found = found[np.argsort(-table.voxels[found], kind="stable")]
    return tuple(Piece(int(table.truth[i]), int(table.segments[i]), int(table.voxels[i])) for i in found)


def _first_of_each(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    return tuple({piece.neuron: piece for piece in reversed(pieces)}.values())[::-1]
