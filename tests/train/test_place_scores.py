from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.data.annotations import LabelledBlock
from napari_tokenunify.geometry import Box
from napari_tokenunify.train.place_scores import PlaceScores

BOX = Box((1, 1, 1), (5, 9, 9))


def place(labels: np.ndarray) -> LabelledBlock:
    return LabelledBlock(BOX, labels, BOX)


def halves() -> np.ndarray:
    """Two neurons, with a rim of one voxel around the place."""
    labels = np.full((6, 10, 10), 3, np.uint64)
    labels[:, :, 5:] = 8
    return labels


def perfect(labels: np.ndarray) -> np.ndarray:
    target, _ = known_affinities(labels, DEFAULT_OFFSETS, None)
    return target[(slice(None), *BOX.slices)].astype(np.float32)


def test_perfect_affinities_score_1_and_segments_get_the_place_alone():
    seen = []

    def segment(affinities, ids, offsets, voxel_size_nm):
        seen.append((affinities.shape, ids.shape, voxel_size_nm))
        return {"voi": 0.5}

    scores = PlaceScores(None, segment=segment, voxel_size_nm=(40.0, 4.0, 4.0))
    scores.add(perfect(halves()), place(halves()), DEFAULT_OFFSETS)
    found = scores.values()
    assert (found["affinity_f1"], found["voi"]) == (1.0, 0.5)
    assert seen == [((3, *BOX.shape), BOX.shape, (40.0, 4.0, 4.0))]


def test_places_add_up_and_segments_are_meant_over_those_that_are_dense():
    sparse = halves()
    sparse[:, 3:, :] = 0  # a quarter of the place is left
    results = iter([{"voi": 1.0}, {"voi": 3.0}])
    scores = PlaceScores(None, segment=lambda *_: next(results))
    for labels in (halves(), sparse, halves()):
        scores.add(perfect(labels), place(labels), DEFAULT_OFFSETS)
    assert scores.values()["voi"] == pytest.approx(2.0)
    assert next(results, None) is None


def test_where_nothing_is_known_there_are_no_scores():
    scores = PlaceScores(None, segment=lambda *_: {"voi": 0.0})
    nothing = np.zeros((6, 10, 10), np.uint64)
    scores.add(perfect(nothing), place(nothing), DEFAULT_OFFSETS)
    assert scores.values() == {}


def test_a_membrane_is_no_neuron():
    labels = halves()
    labels[:, :, 4:6] = 99
    seen = []
    scores = PlaceScores(99, segment=lambda _, ids, *__: seen.append(ids) or {"voi": 0.0})
    scores.add(perfect(labels), place(labels), DEFAULT_OFFSETS)
    np.testing.assert_array_equal(seen[0], np.where(labels == 99, 0, labels)[BOX.slices])
    scores.add(perfect(labels), place(np.full_like(labels, 99)), DEFAULT_OFFSETS)
    assert len(seen) == 1
