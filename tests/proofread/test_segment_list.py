from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread import EditedSegmentation, Proofreading
from napari_tokenunify.proofread.segment_list import (
    list_segments,
    place_inside,
    place_of_fragment,
    place_of_segment,
)
from tests.proofread.conftest import at


@pytest.fixture
def reading(folder):
    with Proofreading.open(folder, author="me") as opened:
        yield opened


def counted(reading, threshold):
    """The same list, voxel by voxel."""
    found: dict[int, dict[str, object]] = {}
    fragments, table = reading.fragments[:], reading.table(threshold)
    for fragment in fragments[fragments > 0].tolist():
        one = found.setdefault(int(table[fragment]), {"voxels": 0, "fragments": set()})
        one["voxels"] += 1
        one["fragments"].add(fragment)
    found.pop(0, None)
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.55])
def test_the_list_is_what_counting_every_voxel_gives(reading, threshold):
    reading.merge(1, 40, threshold=threshold)
    reading.delete(7, threshold=threshold)
    listed, truth = list_segments(reading, threshold), counted(reading, threshold)
    assert set(listed.ids.tolist()) == truth.keys()
    for row, segment in enumerate(listed.ids.tolist()):
        assert listed.voxels[row] == truth[segment]["voxels"]
        assert listed.fragments[row] == len(truth[segment]["fragments"])
    assert (np.diff(listed.voxels) <= 0).all(), "the largest first"


def test_a_segment_is_found_in_its_largest_fragment(reading):
    smaller = 40  # one of its voxels lies in no fragment
    reading.merge(39, smaller, threshold=0.0)
    segment = int(reading.table(0.0)[smaller])
    assert reading.fragment_at(place_of_segment(reading, segment, 0.0)) == 39


@pytest.mark.parametrize("segment", [0, 39, 4711])
def test_a_segment_that_is_no_more_has_no_place(reading, segment):
    reading.delete(39, threshold=0.0)
    with pytest.raises(ProofreadError, match=f"There is no segment {segment} any more"):
        place_of_segment(reading, segment, 0.0)


def test_what_is_marked_correct_is_counted_by_voxels(reading):
    assert list_segments(reading, 0.0).correct_share == 0
    reading.lock(1, threshold=0.0)
    reading.lock(40, threshold=0.0)
    listed = list_segments(reading, 0.0)
    assert listed.is_correct.sum() == 2
    assert listed.correct_share == pytest.approx((18 + 17) / (40 * 18 - 1))
    assert listed.is_correct[listed.row_of(1)]
    assert not listed.is_correct[listed.row_of(2)]


def test_no_segment_of_a_name_has_no_row(reading):
    assert list_segments(reading, 0.0).row_of(4711) is None


def test_a_list_of_nothing_is_empty(reading):
    reading.delete(*range(1, 41), threshold=0.0)
    listed = list_segments(reading, 0.0)
    assert len(listed) == 0
    assert listed.correct_share == 0


@pytest.mark.parametrize("fragment", [1, 17, 40])
def test_a_place_lies_inside_of_its_fragment(reading, fragment):
    boxes = EditedSegmentation.of(reading).boxes
    assert int(reading.fragments[place_inside(reading.fragments, boxes, fragment)]) == fragment


@pytest.mark.parametrize("fragment", [0, -1, 41])
def test_a_fragment_that_there_is_not_has_no_place(reading, fragment):
    with pytest.raises(ProofreadError, match=f"There is no fragment {fragment} now"):
        place_of_fragment(reading, fragment)


def test_a_place_is_found_where_the_middle_of_the_box_lies_in_another_fragment():
    ids = np.zeros((5, 5, 5), np.uint64)
    ids[0, 0, 0] = ids[4, 4, 4] = 3
    boxes = np.zeros((4, 6), np.int32)
    boxes[3] = 0, 0, 0, 5, 5, 5
    assert place_inside(ids, boxes, 3) in {(0, 0, 0), (4, 4, 4)}


def test_a_fragment_without_voxels_has_no_place(reading):
    with pytest.raises(ProofreadError, match="has no voxels"):
        place_inside(np.zeros((2, 2, 2), np.uint64), np.zeros((2, 6), np.int32), 1)


def test_a_part_of_a_divided_fragment_is_found(reading):
    from napari_tokenunify.geometry import Box

    z, y, x = at(1)
    line = np.zeros((2, 1, 3), bool)
    line[:] = True
    edit = reading.commit(reading.plan_cut(line, Box((z, y + 1, x), (z + 2, y + 2, x + 3)), fragment=1))
    part = edit.division.parts[0]
    boxes = EditedSegmentation.of(reading).boxes
    assert int(reading.fragments[place_inside(reading.fragments, boxes, part)]) == part
