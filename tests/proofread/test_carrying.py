from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, carry_over
from napari_tokenunify.proofread.carrying import first_voxels
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import region_graph
from tests.proofread.conftest import SHAPE, at


@pytest.fixture
def source(folder: Path):
    with Proofreading.open(folder, "Ada") as found:
        yield found


@pytest.fixture
def target(tmp_path: Path, affinities: np.ndarray):
    """Other, larger fragments of a part of the same volume: all of it but the first section."""
    _, y, x = np.indices(SHAPE)
    ids = (1 + (y // 6) * 3 + x // 5).astype(np.uint64)[1:]
    graph = region_graph(ids, affinities[:, 1:], DEFAULT_OFFSETS)
    table = np.array([0, 1, 1, 3, 4, 4, 4], np.uint64)
    Segmentation.create(tmp_path / "target", ids, graph, table, spec={"origin": (1, 0, 0)})
    with Proofreading.open(tmp_path / "target", "Bo") as found:
        yield found


def largest(proofreading: Proofreading) -> tuple[int, int]:
    ids, counts = np.unique(proofreading.table()[1:], return_counts=True)
    a, b = ids[np.argsort(-counts, kind="stable")[:2]]
    return int(a), int(b)


def test_the_same_places_are_pointed_at_again(source: Proofreading, target: Proofreading):
    a, b = largest(source)
    source.merge(a, b)
    source.comment("check", (2, 0, 0))
    source.undo()
    source.undo()
    places = [(2, 0, 0), (2, 0, 14)]
    source.merge(*places) if source.table()[1] != source.table()[5] else source.comment("same", *places)
    carried = carry_over(source, target)
    assert [edit.author for edit in carried.made] == ["Ada"]
    assert carried.made[0].places == (((1, 0, 0), (1, 0, 14)),)
    assert carried.left == ()


def test_what_cannot_be_carried_over_is_listed_with_the_reason(source: Proofreading, target: Proofreading):
    a, _ = largest(source)
    source.lock((0, 0, 0))
    source.comment("in the first section", (0, 0, 0))
    source.detach(at(a)) if source.table()[a] != source.table()[1] else source.comment("x", (0, 0, 0))
    carried = carry_over(source, target)
    assert len(carried.made) + len(carried.left) == 3
    assert all("lies outside the segmentation" in reason for _, reason in carried.left[:2])


def test_a_line_is_drawn_again(source: Proofreading, target: Proofreading):
    z, y, x = at(21)
    source.cut(np.ones((2, 3, 1), bool), Box((z, y, x + 1), (z + 2, y + 3, x + 2)))
    carried = carry_over(source, target)
    assert [reason for _, reason in carried.left] == [
        "The line does not divide fragment 1: draw it from edge to edge, through all its sections."
    ]


def test_onto_the_same_fragments_the_result_is_the_same(source: Proofreading, master: Path, tmp_path: Path):
    a, b = largest(source)
    members = np.flatnonzero(source.table() == a)
    source.split([at(int(members[0]))], [int(members[-1])])
    source.merge(b, at(a))
    source.lock(at(b))
    copy = shutil.copytree(master, tmp_path / "copy")
    spec = json.loads((copy / "spec.json").read_text())
    (copy / "spec.json").write_text(json.dumps(spec | {"fragments_hash": "others"}))
    with Proofreading.open(copy) as other:
        assert carry_over(source, other).left == ()
        assert other.constraints == source.constraints
        assert (other.table(0.8) == source.table(0.8)).all()


def test_a_voxel_of_each_fragment_is_found(source: Proofreading, bars: np.ndarray):
    found = first_voxels(source.fragments, {1, 17, 40, 99})
    assert set(found) == {1, 17, 40}
    assert all(bars[place] == fragment for fragment, place in found.items())
