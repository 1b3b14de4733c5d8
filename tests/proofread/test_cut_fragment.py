from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, open_edited
from napari_tokenunify.proofread.cut_fragment import line_of
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.affinity_store import write_affinities
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (4, 12, 20)


@pytest.fixture
def voxels() -> np.ndarray:
    """A long fragment 1 over fragments 2 (left) and 3 (right), all of one segment; 4 is another one."""
    ids = np.full(SHAPE, 1, np.uint64)
    ids[:, 6:, :10], ids[:, 6:, 10:], ids[:, 10:] = 2, 3, 4
    return ids


@pytest.fixture(params=["with affinities", "without"])
def proofreading(request, tmp_path: Path, voxels: np.ndarray):
    affinities = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    stored = (affinities * 255).round().astype(np.uint8)
    path = write_affinities(tmp_path / "affinities.zarr", stored)
    graph = region_graph(voxels, stored.astype(np.float32) / 255, DEFAULT_OFFSETS)
    spec = {"fragments_hash": "long", "offsets": DEFAULT_OFFSETS}
    if request.param == "with affinities":
        spec["sources"] = {"affinities": str(path)}
    table = np.array([0, 1, 1, 1, 4], np.uint64)
    Segmentation.create(tmp_path / "segmentation", voxels, graph, table, spec=spec)
    with Proofreading.open(tmp_path / "segmentation") as found:
        found.measured = request.param == "with affinities"
        yield found


def line() -> tuple[np.ndarray, Box]:
    """A plane through the long fragment, a third of the way; it sticks out of it."""
    return np.ones((4, 8, 1), bool), Box((0, 0, 7), (4, 8, 8))


def test_a_line_divides_a_fragment_and_the_volume_on_disk_stays(proofreading: Proofreading, voxels: np.ndarray):
    edit = proofreading.cut(*line())
    now = proofreading.fragments[:]
    assert set(np.unique(now).tolist()) == {1, 2, 3, 4, 5}
    assert (now[voxels != 1] == voxels[voxels != 1]).all()
    assert (now[:, :6, 8:] == 1).all()  # the larger part keeps the id
    assert (now[:, :6, :7] == 5).all()
    assert (Segmentation.open(proofreading.segmentation.folder).fragments[:] == voxels).all()
    assert edit.division.sizes == ((now == 1).sum(), (now == 5).sum())
    assert (proofreading.graph.sizes[1:] == np.bincount(now.ravel())[1:]).all()


def test_the_contacts_of_the_parts_are_those_of_the_new_fragments(proofreading: Proofreading):
    proofreading.cut(*line())
    affinities = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    values = (affinities * 255).round().astype(np.float32) / 255
    wanted = region_graph(proofreading.fragments[:], values, DEFAULT_OFFSETS)
    found = proofreading.graph
    assert found.edges.tolist() == wanted.edges.tolist()
    assert found.count.tolist() == wanted.count.tolist()
    if proofreading.measured:
        assert found.mean == pytest.approx(wanted.mean, abs=1e-6)


def test_the_parts_are_segments_of_their_own_and_the_rest_goes_with_them(proofreading: Proofreading):
    before = proofreading.table()
    assert before[1] == before[2] == before[3]
    proofreading.cut(*line())
    table = proofreading.table()
    assert table[1] != table[5]
    assert len(np.unique(table[[1, 2, 3, 5]])) == 2
    assert table[4] == 4


def test_undo_redo_and_opening_again(proofreading: Proofreading, voxels: np.ndarray):
    proofreading.cut(*line())
    cut, table = proofreading.fragments[:], proofreading.table().copy()
    proofreading.undo()
    assert (proofreading.fragments[:] == voxels).all()
    assert proofreading.table()[1:5].tolist() == [1, 1, 1, 4]
    second = proofreading.cut(np.ones((4, 8, 1), bool), Box((0, 0, 14), (4, 8, 15)))
    assert second.division.parts == (6,)  # an id has one meaning on all branches
    proofreading.undo()
    proofreading.go_to(proofreading.history.all_edits()[0].uuid)
    assert (proofreading.fragments[:] == cut).all()
    with Proofreading.open(proofreading.segmentation.folder) as again:
        assert (again.fragments[:] == cut).all()
        assert (again.table()[:6] == table).all()


def test_demands_on_the_fragment_go_on_with_its_parts(proofreading: Proofreading):
    proofreading.merge(1, 4)
    proofreading.detach(2)
    assert proofreading.constraints.cannot.tolist() == [[1, 2], [2, 3], [2, 4]]
    proofreading.cut(*line())
    assert [1, 5] in proofreading.constraints.cannot.tolist()
    assert {(1, 2), (2, 5)} <= set(map(tuple, proofreading.constraints.cannot.tolist()))
    assert proofreading.constraints.must.tolist() == [[1, 4]]
    assert proofreading.table()[1] == proofreading.table()[4]


@pytest.mark.parametrize(
    "index", [np.s_[1], np.s_[:, 5], np.s_[..., 7], np.s_[2, 3:9, ::-2], np.s_[0, 1, 2], np.s_[3:3], np.s_[1:3, :, 4:9]]
)
def test_any_part_is_read_as_of_the_whole(proofreading: Proofreading, index):
    proofreading.cut(*line())
    proofreading.cut(np.ones((4, 6, 1), bool), Box((0, 0, 3), (4, 6, 4)))
    whole, view = proofreading.fragments[:], proofreading.view()
    assert len(np.unique(whole)) == 6
    assert np.array_equal(proofreading.fragments[index], whole[index])
    assert np.array_equal(view[index], proofreading.table()[whole][index])
    assert (pickle.loads(pickle.dumps(proofreading.fragments))[:] == whole).all()


def test_the_line_is_kept(proofreading: Proofreading):
    edit = proofreading.cut(*line())
    kept, box = line_of(edit.division)
    whole = np.zeros(SHAPE, bool)
    whole[box.slices] = kept
    assert (whole.sum(), whole[:, :, 7].sum()) == (kept.sum(), kept.sum())
    assert whole[:, :6, 7].all()


def test_as_edited_everything_reads_the_parts(proofreading: Proofreading):
    proofreading.cut(*line())
    edited = open_edited(proofreading.segmentation.folder)
    assert edited.nodes == 5
    assert (edited.fragments[:] == proofreading.fragments[:]).all()
    assert (edited.view()[:] == proofreading.view()[:]).all()
    assert len(edited.graph.edges) == len(proofreading.graph.edges)
    assert edited.spec["edits"]["in_force"] == 1


@pytest.mark.parametrize(
    ("painted", "box", "said"),
    [
        (np.ones((4, 3, 1), bool), Box((0, 0, 7), (4, 3, 8)), "does not divide fragment 1"),
        (np.zeros((4, 8, 1), bool), Box((0, 0, 7), (4, 8, 8)), "Nothing is painted inside"),
        (np.ones((1, 1, 1), bool), Box((9, 0, 7), (10, 1, 8)), "Nothing is painted inside"),
        (np.ones((1, 1, 2), bool), Box((0, 0, 7), (4, 8, 8)), "The line has the shape"),
    ],
)
def test_a_line_that_divides_nothing_is_said(proofreading: Proofreading, painted, box, said):
    with pytest.raises(ProofreadError, match=said):
        proofreading.cut(painted, box)
    assert len(proofreading.history) == 0


def test_a_locked_segment_is_not_cut(proofreading: Proofreading):
    proofreading.lock(1)
    with pytest.raises(ProofreadError, match="is marked correct"):
        proofreading.cut(*line())
