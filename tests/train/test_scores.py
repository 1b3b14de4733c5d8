"""The scores against slow formulas, and what makes them honest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_tokenunify.train.scores import AffinityScores

SHAPE = (3, 4, 5, 6)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return rng.random(SHAPE).astype(np.float32), rng.random(SHAPE) < 0.8, rng.random(SHAPE) < 0.5


def slow(affinities, target, mask):
    pairs = [(float(a), bool(t)) for a, t, m in zip(affinities.flat, target.flat, mask.flat, strict=True) if m]
    values, losses = {}, []
    for name, kind in (("joined", True), ("boundary", False)):
        said = [(a >= 0.5) == kind for a, _ in pairs]
        true = [t == kind for _, t in pairs]
        hits = sum(s and t for s, t in zip(said, true, strict=True))
        precision, recall = hits / sum(said), hits / sum(true)
        values |= {f"{name}_precision": precision, f"{name}_recall": recall}
        values[f"{name}_f1"] = 2 * precision * recall / (precision + recall)
        losses.append(np.mean([-math.log(a if kind else 1 - a) for a, t in pairs if t == kind]))
    mean = (values["joined_f1"] + values["boundary_f1"]) / 2
    return {**values, "affinity_f1": mean, "validation_loss": np.mean(losses)}


def test_scores_are_those_of_a_slow_loop(case):
    assert AffinityScores.of(*case).values() == pytest.approx(slow(*case), rel=1e-5)


def test_crops_add_up(case):
    parts = [AffinityScores.of(*(array[i : i + 1] for array in case)) for i in range(len(case[0]))]
    total = sum(parts, AffinityScores())
    assert total.values() == pytest.approx(AffinityScores.of(*case).values())
    assert total.known == np.count_nonzero(case[2])


def test_what_is_not_known_counts_nothing(case):
    affinities, target, mask = case
    strange = np.where(mask, affinities, np.nan)
    assert AffinityScores.of(strange, target, mask) == AffinityScores.of(affinities, target, mask)
    assert AffinityScores.of(affinities, target, mask & False) == AffinityScores()
    assert AffinityScores().values() == {}


def test_finding_no_boundary_at_all_scores_badly_however_rare_it_is():
    target = np.arange(1000) >= 10
    scores = AffinityScores.of(np.ones(1000), target, np.ones(1000, bool)).values()
    assert scores["joined_f1"] > 0.99
    assert scores["affinity_f1"] < 0.5
    assert scores["boundary_f1"] == scores["boundary_precision"] == 0
    assert 6 < scores["validation_loss"] < 8  # half of what a wrong, sure answer costs


def test_a_class_of_which_nothing_is_known_is_left_out():
    everything = np.ones(10, bool)
    scores = AffinityScores.of(np.full(10, 0.9), everything, everything).values()
    assert scores["affinity_f1"] == scores["joined_f1"] == 1
    assert not any(name.startswith("boundary") for name in scores)


def test_the_threshold_says_what_is_joined():
    known = np.ones(2, bool)
    scores = AffinityScores.of(np.array([0.3, 0.1]), np.array([True, False]), known, threshold=0.3).values()
    assert scores["affinity_f1"] == 1
