from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.proofread.error_chance import Decision, features_of, moderated, weights_after


@pytest.mark.parametrize("affinity", [0.03, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("width", [0.0, 0.5, 2.0])
def test_a_moderated_affinity_is_the_mean_under_a_gaussian_around_its_logit(affinity: float, width: float):
    spread = 2 * width * affinity * (1 - affinity)
    found = moderated(np.array([affinity]), np.array([spread]))
    around = np.log(affinity / (1 - affinity)) + width * np.random.default_rng(0).standard_normal(200_000)
    assert 1 / (1 + np.exp(-found[0])) == pytest.approx((1 / (1 + np.exp(-around))).mean(), abs=0.02)


def answers(seed: int, number: int) -> list[Decision]:
    """Answers of somebody who joins what has an affinity above a half, with slips."""
    chance = np.random.default_rng(seed)
    mean, slip = chance.uniform(0.05, 0.95, number), chance.random(number) < 0.1
    return [
        Decision("merge", bool((m > 0.5) != s), (1, 2), (1, 2), float(c), float(m), int(v))
        for m, s, c, v in zip(
            mean, slip, chance.integers(1, 500, number), chance.integers(10, 9000, number), strict=True
        )
    ]


@pytest.mark.parametrize("number", [1, 10, 200])
def test_the_weights_after_answers_are_at_the_top_of_the_posterior(number: int):
    """No step from there, large or small, along any axis is more likely; counted answer by answer."""
    given, start = answers(0, number), weights_after("merge", [])

    def log_posterior(weights: np.ndarray) -> float:
        total = -sum(f * (a - b) ** 2 / 2 for f, a, b in zip((0.5, 2.0, 20.0, 20.0), weights, start, strict=True))
        for one in given:
            seen = features_of(*(np.array([value]) for value in (one.count, one.mean, one.spread, one.voxels)))[0]
            chance = 1 / (1 + np.exp(-(seen @ weights)))
            total += np.log(chance if one.accepted else 1 - chance)
        return float(total)

    found = weights_after("merge", given)
    best = log_posterior(found)
    for axis in np.eye(4):
        for step in (-0.5, -0.02, 0.02, 0.5):
            assert log_posterior(found + step * axis) < best


def test_answers_to_splits_say_nothing_of_merges():
    given = [Decision("split", True, (1, 2), (1, 2), 10.0, 0.9, 100)] * 5
    assert weights_after("merge", given).tolist() == weights_after("merge", []).tolist()
    assert weights_after("split", given).tolist() != weights_after("split", []).tolist()
