"""The chance that two sides that touch are one neuron, by their contact: a logistic model that answers shift.

It is made of the mean affinity of the contact, its size and the size of the smaller side. So what is joined by a thin
bridge is likely an error, and so is a small side that is left alone beside a broad contact. Where a network was asked
in several orientations, an affinity on which its answers differ counts as less sure. The answers of the user shift the
model (maximum a posteriori), so that it adapts to network and tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from napari_tokenunify.proofread.contacts import sure_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.contacts import Contacts

    Kind = Literal["merge", "split"]

# Chance that both sides are one neuron: 1, logit of the mean affinity, log2 pairs of voxels, log2 voxels of the smaller
# side. Fitted to FIB-25 (training_sample2, z 54..125; network trained on z < 50) by benchmarks/fit_suggestions.py.
_WEIGHTS: Final = {"merge": (-0.22, 2.87, 0.18, -0.28), "split": (1.92, 4.31, 0.76, -0.76)}
_FIRMNESS: Final = (0.5, 2.0, 20.0, 20.0)  # of each against answers, 1 / variance


@dataclass(frozen=True)
class Decision:
    """The answer to a suggestion, in plain values, so that it can be kept.

    Attributes
    ----------
    kind : "merge" or "split"
        What was suggested.
    accepted : bool
        Whether it was done.
    fragments : tuple of int
        Where the two sides touch most.
    largest : tuple of int
        The largest fragment of each side.
    count, mean : float
        Pairs of voxels of the contact, and their mean affinity.
    voxels : int
        Size of the smaller side.
    spread : float
        How much the answers to several orientations differ at the contact.
    """

    kind: Kind
    accepted: bool
    fragments: tuple[int, int]
    largest: tuple[int, int]
    count: float
    mean: float
    voxels: int
    spread: float = 0.0


def moderated(sure: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logit of affinities, drawn to 0 where the answers to several orientations differ.

    It is the logit of their mean under a Gaussian of that width around the logit (MacKay 1992, The evidence framework
    applied to classification networks, Neural Computation 4).

    Parameters
    ----------
    sure : ndarray of float64, shape (N,)
        Affinities in 0..1, never 0 or 1.
    spread : ndarray of float64, shape (N,)
        Twice the standard deviation of the answers, 0..1.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    width = spread / 2 / (sure * (1 - sure))
    logit: NDArray[np.float64] = np.log(sure / (1 - sure)) / np.sqrt(1 + np.pi / 8 * width**2)
    return logit


def smaller_sides(contacts: Contacts) -> NDArray[np.int64]:
    """Return the voxels of the smaller side of each."""
    smaller: NDArray[np.int64] = contacts.sizes.min(axis=1, initial=np.iinfo(np.int64).max)
    return smaller


def features_of(
    count: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64], voxels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what a chance is made of: 1, logit of the mean affinity, log2 of pairs and of voxels, (N, 4)."""
    logit = moderated(sure_mean(count, mean), spread)
    smaller = np.log2(np.maximum(voxels, 1))
    return np.stack([np.ones(len(count)), logit, np.log2(np.maximum(count, 1)), smaller], axis=1)


def same_neuron(contacts: Contacts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance that both sides are one neuron."""
    return _logistic(features_of(contacts.count, contacts.mean, contacts.spread, smaller_sides(contacts)) @ weights)


def weights_after(kind: Kind, decided: Sequence[Decision]) -> NDArray[np.float64]:
    """Return the model's weights after some answers: the likeliest, under a Gaussian around those it starts with."""
    start, firmness = np.array(_WEIGHTS[kind]), np.array(_FIRMNESS)
    answers = [answer for answer in decided if answer.kind == kind]
    if not answers:
        return start
    seen = features_of(
        np.array([answer.count for answer in answers]),
        np.array([answer.mean for answer in answers]),
        np.array([answer.spread for answer in answers]),
        np.array([answer.voxels for answer in answers]),
    )
    same = np.array([answer.accepted == (kind == "merge") for answer in answers], np.float64)

    def misfit(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative log posterior, which has one minimum, and its slope."""
        logit, away = seen @ weights, weights - start
        value = np.logaddexp(0, logit).sum() - same @ logit + firmness @ away**2 / 2
        return float(value), seen.T @ (_logistic(logit) - same) + firmness * away

    from scipy.optimize import minimize  # here, as a window that has no answers yet should not wait for it

    likeliest: NDArray[np.float64] = minimize(misfit, start, jac=True, method="BFGS").x  # plain Newton steps run away
    return likeliest


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    chance: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return chance
