"""How good affinities are where they are known, in numbers that a rare class cannot hide in."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SURE = 1e-6  # affinities are kept this far from 0 and 1, so that one wrong voxel costs 14 and not infinity


@dataclass(frozen=True)
class AffinityScores:
    """Counts over known pairs that add up over crops; `values` makes scores of them.

    Attributes
    ----------
    joined_found, joined_missed : int
        Pairs of one neuron, by whether their affinity says so.
    apart_found, apart_missed : int
        Pairs that are apart, the boundaries, by whether their affinity says so.
    joined_loss, apart_loss : float
        Cross-entropy, summed over the pairs of either class.
    """

    joined_found: int = 0
    joined_missed: int = 0
    apart_found: int = 0
    apart_missed: int = 0
    joined_loss: float = 0.0
    apart_loss: float = 0.0

    @classmethod
    def of(
        cls, affinities: NDArray[Any], target: NDArray[np.bool_], mask: NDArray[np.bool_], threshold: float = 0.5
    ) -> AffinityScores:
        """Compare affinities with what is known.

        Parameters
        ----------
        affinities : ndarray of float, any shape
            0..1.
        target, mask : ndarray of bool, same shape
            True where a pair lies in one neuron, and where that is known.
        threshold : float
            Affinities of at least this much say that a pair is joined.
        """
        joined = affinities[mask & target].astype(np.float64)
        apart = affinities[mask & ~target].astype(np.float64)
        joined_found = int(np.count_nonzero(joined >= threshold))
        apart_found = int(np.count_nonzero(apart < threshold))
        return cls(
            joined_found,
            joined.size - joined_found,
            apart_found,
            apart.size - apart_found,
            float(-np.log(joined.clip(_SURE, 1)).sum()),
            float(-np.log((1 - apart).clip(_SURE, 1)).sum()),
        )

    def __add__(self, other: AffinityScores) -> AffinityScores:
        """Return the counts of both."""
        return AffinityScores(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def known(self) -> int:
        """How many pairs were compared."""
        return self.joined_found + self.joined_missed + self.apart_found + self.apart_missed

    def values(self) -> dict[str, float]:
        """Return the scores by name; those of a class of which there is no pair are left out.

        Returns
        -------
        dict of str to float
            `validation_loss`: cross-entropy, the mean of the means of both classes, so that all joined pairs count as
            much as all that are apart. `boundary_precision`, `boundary_recall` and `boundary_f1` of the class apart,
            `joined_precision`, `joined_recall` and `joined_f1` of the class joined. `affinity_f1`: the mean of both
            F1 scores: as most pairs are joined, that class alone would score well with no boundary found at all.
        """
        values: dict[str, float] = {}
        losses = []
        for name, found, missed, wrong, loss in (
            ("boundary", self.apart_found, self.apart_missed, self.joined_missed, self.apart_loss),
            ("joined", self.joined_found, self.joined_missed, self.apart_missed, self.joined_loss),
        ):
            if found + missed == 0:
                continue
            values[f"{name}_precision"] = found / max(1, found + wrong)
            values[f"{name}_recall"] = found / (found + missed)
            values[f"{name}_f1"] = 2 * found / (2 * found + missed + wrong)
            losses.append(loss / (found + missed))
        if not losses:
            return {}
        f1 = [value for name, value in values.items() if name.endswith("_f1")]
        return {"validation_loss": sum(losses) / len(losses), "affinity_f1": sum(f1) / len(f1), **values}
