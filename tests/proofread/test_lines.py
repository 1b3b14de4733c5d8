from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, lines
from napari_tokenunify.proofread.lines import drawn_line, painted_line, plan_along
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (30, 12, 20)


@pytest.fixture
def proofreading(tmp_path: Path):
    """Fragment 1, in sections 2 to 27, over fragment 2; both of one segment."""
    ids = np.zeros(SHAPE, np.uint64)
    ids[2:28, :8], ids[2:28, 8:] = 1, 2
    graph = region_graph(ids, np.full((3, *SHAPE), 0.5, np.float32), DEFAULT_OFFSETS)
    Segmentation.create(tmp_path / "s", ids, graph, np.array([0, 1, 1], np.uint64))
    with Proofreading.open(tmp_path / "s") as found:
        yield found


def test_a_line_between_corners_leaves_no_gap_and_touches_each():
    corners = [(3, 1, 2), (3, 9, 4), (5, 9, 15)]
    line, box = drawn_line(corners)
    voxels = [tuple(voxel) for voxel in (np.argwhere(line) + box.start).tolist()]
    assert set(corners) <= set(voxels)
    assert box == Box((3, 1, 2), (6, 10, 16))
    steps = [min(max(abs(a - b) for a, b in zip(one, two, strict=True)) for two in voxels if two != one)
             for one in voxels]  # fmt: skip
    assert set(steps) == {1}
    assert len(voxels) == 9 + 11  # the longest axis of each part, the middle corner once
    with pytest.raises(ProofreadError, match="two corners"):
        drawn_line([])


def test_a_line_in_one_section_is_carried_on_through_all(proofreading: Proofreading):
    before = proofreading.fragments[:]
    line, box = drawn_line([(14, 0, 5), (14, 7, 9)])
    edit = proofreading.commit(plan_along(proofreading, (line, box), 0))
    now = proofreading.fragments[:]
    assert edit.division.fragment == 1
    beside = np.ones(SHAPE[1:], bool)
    beside[box.slices[1:]] = ~line[0]
    assert (now[2:28] == now[14])[:, beside].all()
    assert set(np.unique(now[14, :8]).tolist()) == {1, 3}
    assert (now[before != 1] == before[before != 1]).all()


def test_carried_on_along_nothing_it_is_taken_as_it_is(proofreading: Proofreading):
    with pytest.raises(ProofreadError, match="does not divide fragment 1: draw it from edge to edge"):
        plan_along(proofreading, drawn_line([(14, 0, 5), (14, 7, 9)]), None)
    assert plan_along(proofreading, (np.ones((30, 8, 1), bool), Box((0, 0, 9), (30, 8, 10))), None).kind == "cut"


def test_it_may_be_carried_on_along_another_axis(proofreading: Proofreading):
    edit = plan_along(proofreading, drawn_line([(10, 3, 0), (10, 3, 19)]), 1)  # a sheet z = 10
    assert sorted(edit.division.sizes) == [8 * 8 * 20, 18 * 8 * 20]


@pytest.mark.parametrize(
    ("corners", "fragment", "words"),
    [
        ([(14, 0, 5), (14, 3, 5)], None, "does not divide fragment 1"),
        ([(0, 0, 5), (0, 7, 5)], None, "where nothing was segmented"),
        ([(14, 50, 5), (14, 60, 5)], None, "Nothing is painted inside"),
        ([(14, 0, 5), (14, 7, 5)], 9, "There is no fragment 9"),
        ([(14, 0, 5), (14, 7, 5)], 2, "does not divide fragment 2"),
    ],
)
def test_what_divides_nothing_is_said(proofreading: Proofreading, corners, fragment, words: str):
    with pytest.raises(ProofreadError, match=words):
        plan_along(proofreading, drawn_line(corners), 0, fragment)
    assert len(proofreading.history) == 0


def test_a_locked_segment_stays(proofreading: Proofreading):
    proofreading.lock(1)
    with pytest.raises(ProofreadError, match="marked correct, and locked"):
        plan_along(proofreading, drawn_line([(14, 0, 5), (14, 7, 5)]), 0)


def test_a_painted_line_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "_BLOCK", (4, 5, 6))
    mask = np.zeros((10, 12, 20), np.uint8)
    mask[3, 2:9, 7], mask[6, 8, 9:15] = 1, 255
    line, box = painted_line(Volume.from_array(mask), Box((5, 0, 1), (15, 12, 21)))
    assert box == Box((8, 2, 8), (12, 9, 16))
    assert (line == (mask[3:7, 2:9, 7:15] > 0)).all()
    with pytest.raises(ProofreadError, match="is 0 everywhere"):
        painted_line(Volume.from_array(mask * 0), Box.whole((10, 12, 20)))
    with pytest.raises(ProofreadError, match=r"has the shape \(10, 12, 20\), and the box .*: name the --box"):
        painted_line(Volume.from_array(mask), Box.whole((10, 12, 21)))
