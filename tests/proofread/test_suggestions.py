"""The queue of likely errors: what comes first, what does not come back, and what answers change."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from napari_tokenunify.metrics import variation_of_information
from napari_tokenunify.proofread.constraints import Constraints, as_keys
from napari_tokenunify.proofread.error_chance import Decision
from napari_tokenunify.proofread.suggestions import entropy_change, suggest
from tests.proofread.test_contacts import make_graph, random_case

BIG = 50_000
# two neurons of two fragments each, 1-2 and 3-4, a speck 5 beside 4, and a thin bridge 2-3
PAIRS = [(1, 2), (2, 3), (3, 4), (4, 5)]
COUNT = [2000, 6, 2000, 60]
MEAN = [0.95, 0.5, 0.95, 0.9]
SIZES = [BIG, BIG, BIG, BIG, 300]
ALL_IN_ONE = np.array([0, 1, 1, 1, 1, 1], np.uint64)
AS_IT_IS = np.array([0, 1, 1, 3, 3, 3], np.uint64)


@pytest.fixture
def graph():
    return make_graph(5, PAIRS, COUNT, MEAN, SIZES)


def test_the_thin_bridge_between_two_large_sides_comes_first(graph):
    first = suggest(graph, ALL_IN_ONE)[0]
    assert first.kind == "split"
    assert first.fragments == (2, 3)
    assert [side.tolist() for side in first.sides] == [[1, 2], [3, 4, 5]]
    assert first.sizes == (2 * BIG, 2 * BIG + 300)
    assert first.largest == (1, 3)
    assert first.reason == "thin bridge"
    assert first.sentence == (
        "Thin bridge: 100,000 and 100,300 voxels touch over 6 pairs of voxels with a mean affinity of 0.50."
    )


def test_a_broad_sure_contact_that_was_not_joined_comes_first(graph):
    table = np.array([0, 1, 2, 3, 3, 3], np.uint64)
    first = suggest(graph, table)[0]
    assert (first.kind, first.fragments, first.reason) == ("merge", (1, 2), "likely contact")
    assert [side.tolist() for side in first.sides] == [[1], [2]]
    assert first.chance > 0.9


def test_the_score_falls_and_is_chance_times_change_of_entropy_over_an_effort_that_is_half_for_a_no():
    graph, table = random_case(3)
    found = suggest(graph, table)
    assert (np.diff(found.score) <= 0).all()
    for suggestion in found:
        change = entropy_change(np.array([suggestion.sizes]), int(graph.sizes.sum()))[0]
        effort = suggestion.chance * 1 + (1 - suggestion.chance) * 0.5
        assert suggestion.score == pytest.approx(suggestion.chance * change / effort)
        assert suggestion.voxels == min(suggestion.sizes)
        assert suggestion.is_open(table)


def test_of_each_segment_one_split_is_suggested_at_a_time():
    graph, table = random_case(4)
    splits = [int(table[s.fragments[0]]) for s in suggest(graph, table) if s.kind == "split"]
    assert len(splits) == len(set(splits)) > 1


def test_the_change_of_entropy_is_what_a_right_merge_takes_off_the_variation_of_information():
    truth = np.r_[np.ones(300), np.full(200, 2)].astype(np.uint64)
    apart = np.r_[np.full(100, 1), np.full(200, 2), np.full(200, 3)].astype(np.uint64)
    joined = np.r_[np.full(300, 1), np.full(200, 3)].astype(np.uint64)
    gained = sum(variation_of_information(truth, apart)) - sum(variation_of_information(truth, joined))
    assert entropy_change(np.array([[100, 200]]), 500)[0] == pytest.approx(gained)


def test_what_was_rejected_does_not_come_back(graph):
    refused = []
    for _ in range(10):
        found = suggest(graph, ALL_IN_ONE, decided=refused)
        if not len(found):
            break
        refused.append(found[0].decided(accepted=False))
    assert len(found) == 0
    assert len({(answer.kind, answer.fragments) for answer in refused}) == len(refused)


def test_a_rejected_split_speaks_for_all_cuts_between_the_largest_fragments_of_its_sides():
    graph = make_graph(4, [(1, 2), (2, 3), (3, 4)], [9, 5, 9], [0.5] * 3, [BIG, 10, 10, BIG])
    table = np.array([0, 1, 1, 1, 1], np.uint64)
    first = suggest(graph, table)[0]
    assert (first.fragments, first.largest) == ((2, 3), (1, 4))
    assert len(suggest(graph, table, decided=[first.decided(accepted=False)])) == 0


def test_a_rejected_merge_holds_for_the_two_segments_when_they_have_grown(graph):
    refused = Decision("merge", False, (2, 3), (2, 3), 6.0, 0.5, BIG)
    assert [s.fragments for s in suggest(graph, AS_IT_IS) if s.kind == "merge"] == [(2, 3)]
    assert not [s for s in suggest(graph, AS_IT_IS, decided=[refused]) if s.kind == "merge"]


def test_an_accepted_edit_comes_back_when_it_was_undone(graph):
    first = suggest(graph, ALL_IN_ONE)[0]
    again = suggest(graph, ALL_IN_ONE, decided=[first.decided(accepted=True)])[0]
    assert again.fragments == first.fragments


def test_what_edits_demand_is_not_questioned(graph):
    bridge = as_keys([(2, 3)])
    must = suggest(graph, ALL_IN_ONE, constraints=Constraints(must_keys=bridge))
    assert (2, 3) not in [s.fragments for s in must]
    cannot = suggest(graph, AS_IT_IS, constraints=Constraints(cannot_keys=bridge))
    assert not [s for s in cannot if s.kind == "merge"]


def test_a_locked_segment_is_left_alone(graph):
    locked = Constraints(locked_keys=as_keys([(3, 3), (3, 4), (3, 5)]))
    assert {s.fragments for s in suggest(graph, AS_IT_IS, constraints=locked)} == {(1, 2)}


def test_deleted_fragments_are_in_no_suggestion(graph):
    table = np.array([0, 1, 1, 0, 4, 4], np.uint64)
    found = list(suggest(graph, table))
    assert {s.fragments for s in found} == {(1, 2), (4, 5)}


def test_answers_shift_the_chances_of_their_kind_alone(graph):
    table = np.array([0, 1, 2, 3, 4, 4], np.uint64)
    before = {s.fragments: s.chance for s in suggest(graph, table)}
    refused = [Decision("merge", False, (1, 5), (1, 5), 500.0, 0.8, BIG)] * 20
    after = {s.fragments: s.chance for s in suggest(graph, table, decided=refused)}
    assert after[1, 2] < before[1, 2]
    assert after[4, 5] == before[4, 5]  # a split
    agreed = [replace(answer, accepted=True) for answer in refused]
    assert suggest(graph, table, decided=agreed)[0].chance > before[1, 2]


def test_answers_that_agree_with_the_model_and_others_that_do_not_leave_it_in_its_senses(graph):
    """Newton's method runs away here: of many such answers it made all contacts sure."""
    table = np.array([0, 1, 2, 3, 4, 5], np.uint64)
    strong = Decision("merge", True, (1, 5), (1, 5), 5000.0, 0.97, 20_000)
    weak = replace(strong, accepted=False, count=100.0, mean=0.8)
    before = {s.fragments: s.chance for s in suggest(graph, table)}
    after = {s.fragments: s.chance for s in suggest(graph, table, decided=[strong] * 50 + [weak] * 50)}
    assert after[1, 2] > 0.8
    assert after[2, 3] < before[2, 3]
    assert after[4, 5] < before[4, 5]


def test_ten_thousand_equal_answers_leave_finite_chances(graph):
    answers = [Decision("split", True, (2, 3), (1, 3), 1e6, 1.0, 1)] * 10_000
    assert np.isfinite(suggest(graph, ALL_IN_ONE, decided=answers).score).all()


def test_a_decision_is_plain_values(graph):
    decision = suggest(graph, ALL_IN_ONE)[0].decided(accepted=False)
    assert Decision(**asdict(decision)) == decision
    assert {type(value) for value in asdict(decision).values()} <= {str, bool, tuple, float, int}


def test_an_orphan_is_more_likely_a_part_of_its_neighbour_than_one_that_leaves_the_volume():
    graph = make_graph(3, [(1, 3), (2, 3)], [20, 20], [0.3, 0.3], [3000, 3000, BIG])
    table = np.array([0, 1, 2, 3], np.uint64)
    boxes = np.array([[0] * 6, [20, 20, 20, 40, 40, 40], [0, 20, 0, 60, 40, 10], [0, 0, 0, 60, 60, 60]], np.int32)
    plain = {s.fragments: s.chance for s in suggest(graph, table)}
    found = {s.fragments: s for s in suggest(graph, table, boxes=boxes)}
    assert plain[1, 3] == plain[2, 3]
    assert found[1, 3].chance > 0.9 > found[2, 3].chance
    assert (found[1, 3].reason, found[2, 3].reason) == ("orphan", "uncertain contact")


def test_edits_left_fall_to_none_when_all_is_well(graph):
    found = suggest(graph, ALL_IN_ONE)
    assert found.edits_left() == 1
    assert found.edits_left(voxels=10 * BIG) == 0
    right = suggest(graph, AS_IT_IS, constraints=Constraints(cannot_keys=as_keys([(2, 3)])))
    assert right.edits_left(voxels=5 * BIG // 10) == 0


def test_a_suggestion_is_closed_by_the_edit_it_asks_for(graph):
    split = suggest(graph, ALL_IN_ONE)[0]
    assert not split.is_open(AS_IT_IS)
    assert not split.is_open(np.array([0, 1, 0, 1, 1, 1], np.uint64))


def test_only_as_many_as_asked_for_are_kept_and_they_are_the_best():
    graph, table = random_case(5)
    whole, some = suggest(graph, table), suggest(graph, table, most=4)
    assert len(whole) > 4
    assert some.score.tolist() == whole.score[:4].tolist()


def test_without_contacts_there_is_nothing_to_suggest():
    found = suggest(make_graph(2, [], [], []), np.array([0, 1, 2], np.uint64))
    assert len(found) == 0
    assert found.edits_left() == 0
    assert list(found) == []


@pytest.mark.parametrize(("table", "mean", "kind"), [(ALL_IN_ONE, 0.9, "split"), (np.arange(6), 0.1, "merge")])
def test_where_answers_differ_an_error_is_likelier_and_comes_first(table: np.ndarray, mean: float, kind: str):
    """Two places that are alike; at the second the network has changed its mind with the orientation."""
    pairs, size = [(1, 2), (3, 4)], [BIG, BIG, BIG, BIG, 300]
    graph = make_graph(5, pairs, [500, 500], [mean, mean], size)
    table = np.array([0, 1, 1, 3, 3, 5], np.uint64) if kind == "split" else table.astype(np.uint64)
    alike = suggest(graph, table)
    assert [s.kind for s in alike] == [kind, kind]
    assert alike.chance[0] == alike.chance[1]
    found = suggest(replace(graph, spread=np.array([0, 0.3], np.float32)), table)
    assert [s.fragments for s in found] == [(3, 4), (1, 2)]
    assert found.chance[0] > alike.chance[0] == found.chance[1]
    assert f"{mean:.2f} ± 0.15." in found[0].sentence
    assert "±" not in found[1].sentence
    assert found[0].decided(accepted=True).spread == pytest.approx(0.3)


def test_answers_of_before_that_say_nothing_of_spread_still_count(graph):
    kept = {"kind": "merge", "accepted": True, "fragments": (1, 2), "largest": (1, 2), "count": 9.0, "mean": 0.2}
    assert Decision(**kept, voxels=100).spread == 0
    shifted = suggest(graph, AS_IT_IS, decided=[Decision(**kept, voxels=100)])
    assert shifted.chance[0] > suggest(graph, AS_IT_IS).chance[0]
