from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.metrics import contingency, variation_of_information
from napari_tokenunify.segment.neuron_scores import Piece, worst_neurons


def _ids(*counts: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(count, id_) for id_, count in counts])


# Neuron 1 is cut in halves; 2 and 3 are merged; 4 is right but for one voxel, which is in the segment of 1.
TRUTH = _ids((1, 100), (2, 60), (3, 30), (4, 50))
SEGMENTS = _ids((11, 60), (12, 40), (13, 90), (11, 1), (14, 49))


def test_each_neuron_has_its_pieces_and_what_it_is_merged_with():
    scores = {score.neuron: score for score in worst_neurons(contingency(TRUTH, SEGMENTS))}
    assert scores[1].pieces == (Piece(1, 11, 60), Piece(1, 12, 40))
    assert scores[1].merges == ()
    assert scores[1].largest_share == 0.6
    assert (scores[2].pieces, scores[2].merges) == ((Piece(2, 13, 60),), (Piece(3, 13, 30),))
    assert (scores[3].merges, scores[3].voxels) == ((Piece(2, 13, 60),), 30)
    assert scores[4].pieces == (Piece(4, 14, 49),)  # a voxel at the border is no piece


def test_the_worst_comes_first_and_the_list_has_an_end():
    table = contingency(TRUTH, SEGMENTS)
    scores = worst_neurons(table)
    costs = [score.voi_split + score.voi_merge for score in scores]
    assert [score.neuron for score in scores][:2] == [1, 3]
    assert costs == sorted(costs, reverse=True)
    assert worst_neurons(table, n=2) == scores[:2]
    assert worst_neurons(table, n=0) == ()


def test_the_parts_add_up_to_the_whole():
    random = np.random.default_rng(1)
    table = contingency(random.integers(0, 9, 500), random.integers(0, 9, 500))
    scores = worst_neurons(table, n=100)
    sums = sum(score.voi_split for score in scores), sum(score.voi_merge for score in scores)
    assert sums == pytest.approx(variation_of_information(table))


def test_a_neuron_in_a_crowd_names_each_of_the_others_once():
    truth, segments = _ids((1, 40), (2, 40)), _ids((1, 20), (2, 20), (1, 15), (2, 25))
    score = next(score for score in worst_neurons(contingency(truth, segments)) if score.neuron == 1)
    assert score.merges == (Piece(2, 2, 25),)


def test_what_is_not_segmented_is_no_piece_and_merges_nothing():
    scores = worst_neurons(contingency(_ids((1, 10), (2, 10)), np.zeros(20, int)))
    assert all((score.pieces, score.merges, score.largest_share) == ((), (), 0) for score in scores)


def test_a_perfect_segmentation_has_no_worst_neuron():
    assert worst_neurons(contingency(TRUTH, TRUTH + 5)) == ()
    assert worst_neurons(contingency(TRUTH, TRUTH, ignore=range(9))) == ()
