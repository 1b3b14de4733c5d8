"""Ends inside of the volume, reasons, and the middle of a contact."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.proofread.shape_signs import Ends, contact_place, reason_for

# fragment 1 through z, 2 inside, 3 at one face, 4 has no voxels
BOXES = np.array(
    [[0] * 6, [0, 0, 0, 20, 10, 10], [5, 10, 5, 9, 15, 9], [3, 8, 12, 9, 14, 20], [0] * 6, [0, 15, 0, 20, 20, 20]],
    np.int32,
)


def test_faces_of_a_segment_are_those_of_all_its_fragments():
    table = np.array([0, 1, 2, 2, 4, 1], np.uint64)
    assert Ends(BOXES).of_segments(table).tolist() == [0, 6, 1, 0, 0, 0]
    sides = (np.array([2], np.uint64), np.array([1, 3], np.uint64))
    assert Ends(BOXES).of_sides(sides) == (0, 5)


def test_the_chances_of_an_orphan_come_to_nearly_one_and_keep_their_order():
    table = np.arange(6, dtype=np.uint64)
    pairs = np.array([[2, 1], [2, 5]])
    raised = Ends(BOXES).complete(np.array([0.3, 0.1]), pairs, table)
    assert raised[0] == pytest.approx(3 * raised[1])
    assert 0.7 < raised[0] < 0.97


def test_chances_that_are_high_enough_or_not_of_an_end_stay():
    table = np.arange(6, dtype=np.uint64)
    raised = Ends(BOXES).complete(np.array([0.99, 0.2]), np.array([[2, 1], [1, 5]]), table)
    assert raised.tolist() == [0.99, 0.2]


@pytest.mark.parametrize(
    ("kind", "count", "mean", "faces", "reason"),
    [
        ("merge", 500, 0.4, (0, 4), "orphan"),
        ("merge", 500, 0.4, (1, 4), "dead end"),
        ("merge", 500, 0.4, (4, 0), "uncertain contact"),  # it is the larger one that ends
        ("merge", 500, 0.9, None, "likely contact"),
        ("split", 5, 0.9, None, "thin bridge"),
        ("split", 500, 0.4, (2, 3), "sudden contact"),
        ("split", 500, 0.2, (2, 1), "weak contact"),
        ("split", 500, 0.5, None, "uncertain contact"),
    ],
)
def test_a_reason_says_what_is_suspicious(kind, count, mean, faces, reason):
    assert reason_for(kind, count, mean, (5000, 90_000), faces) == reason


def test_the_place_is_the_middle_of_the_contact():
    fragments = np.zeros((9, 9, 20), np.uint64)
    fragments[:, :, :10], fragments[2:7, 2:7, 10:] = 1, 2
    boxes = np.array([[0] * 6, [0, 0, 0, 9, 9, 10], [2, 2, 10, 7, 7, 20]], np.int32)
    assert contact_place(fragments, boxes, (1, 2)) == (4, 4, 9)
    assert contact_place(fragments, boxes, (2, 1)) == (4, 4, 10)


def test_only_where_the_boxes_meet_is_read():
    class Watched:
        asked: tuple[slice, ...] = ()

        def __getitem__(self, index):
            Watched.asked = index
            return fragments[index]

    fragments = np.zeros((9, 9, 200), np.uint64)
    fragments[:, :, :100], fragments[:, :, 100:] = 1, 2
    boxes = np.array([[0] * 6, [0, 0, 0, 9, 9, 100], [0, 0, 100, 9, 9, 200]], np.int32)
    assert contact_place(Watched(), boxes, (1, 2)) == (4, 4, 99)
    assert Watched.asked[2] == slice(99, 101)


def test_fragments_that_do_not_touch_are_said_in_one_sentence():
    fragments = np.zeros((3, 3, 9), np.uint64)
    fragments[0, 0, 0], fragments[0, 0, 2], fragments[2, 2, 8] = 1, 2, 3
    boxes = np.array([[0] * 6, [0, 0, 0, 1, 1, 1], [0, 0, 2, 1, 1, 3], [2, 2, 8, 3, 3, 9]], np.int32)
    for pair in ((1, 2), (1, 3)):
        with pytest.raises(SegmentError, match="do not touch: look for suggestions again"):
            contact_place(fragments, boxes, pair)
