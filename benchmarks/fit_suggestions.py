"""Fit the chances of the queue of likely errors: the numbers `_WEIGHTS` of `napari_tokenunify.proofread.error_chance`.

Needs affinities of labelled sections that the network was not trained on, as `benchmarks/suggestions.py` does; the
numbers in the package are those of fib25_train_test, trained on sections 0 to 49:

    napari-tokenunify finetune --volume raw.npy --annotations labels.npy --model small --minutes 22 --out run
    napari-tokenunify predict --volume raw.npy --model run --box 54:126,0:250,0:250 --out affinities.zarr
    python benchmarks/fit_suggestions.py --affinities affinities.zarr --first 54 --last 126

What can be merged and split is looked at in the supervoxels and in the agglomerated fragments of the benchmark, at
the start and after each hundredth answer. A candidate counts by the square root of its consequence.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import suggestions
from scipy.optimize import minimize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.suggestions import Suggestions

    Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

ANSWERS, EVERY = 400, 100
RIDGE = 1e-3
KINDS = ("merge", "split")


def looked_at(start: suggestions.Start) -> Iterator[tuple[Suggestions, suggestions.Proofreader]]:
    """Yield the queue now and then along the course of proofreading."""
    reader = suggestions.Proofreader(start, start.table.copy())
    for answer in range(ANSWERS + 1):
        queue = reader.queue()
        if not len(queue):
            return
        if answer % EVERY == 0:
            yield queue, reader
        reader.answer(queue[0])


def candidates(queue: Suggestions, reader: suggestions.Proofreader, kind: str) -> Found:
    """Return the features (N, 4), whether both sides are one neuron, and how much each counts."""
    rows = np.flatnonzero(queue.is_split == (kind == "split"))
    same = []
    for row in rows:
        suggestion = queue[int(row)]
        sides = [[fragment] for fragment in suggestion.fragments] if kind == "merge" else suggestion.sides
        one, other = (reader.start.neuron(side) for side in sides)
        same.append(one is not None and one == other)
    return queue.features[rows], np.array(same, np.float64), np.sqrt(queue.change[rows])


def fitted(
    features: NDArray[np.float64], same: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic model with the least misfit."""
    share = counts / counts.sum()

    def misfit(weights: NDArray[np.float64]) -> float:
        logit = features @ weights
        return float(share @ (np.logaddexp(0, logit) - same * logit) + RIDGE * weights[1:] @ weights[1:])

    return np.asarray(minimize(misfit, np.zeros(features.shape[1])).x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--affinities", type=Path, required=True)
    parser.add_argument("--first", type=int, default=54, help="section that they begin at")
    parser.add_argument("--last", type=int, default=126, help="section after their last")
    options = parser.parse_args()
    affinities = suggestions.read_affinities(options.affinities)
    found: dict[str, list[Found]] = {kind: [] for kind in KINDS}
    for start in suggestions.starts(affinities, slice(options.first, options.last)):
        for queue, reader in looked_at(start):
            for kind in KINDS:
                found[kind].append(candidates(queue, reader, kind))
    for kind in KINDS:
        features, same, counts = (np.concatenate(part) for part in zip(*found[kind], strict=True))
        print(
            kind,
            fitted(features, same, counts).round(2).tolist(),
            f"{len(same)} candidates, {same.mean():.2f} one neuron",
        )


if __name__ == "__main__":
    main()
