from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, corrected, fold
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.segmentation import EDITS, discard
from tests.proofread.conftest import at


@pytest.fixture
def proofreading(folder: Path):
    with Proofreading.open(folder, "Ada") as found:
        yield found


def two_segments(proofreading: Proofreading) -> tuple[int, int]:
    """A fragment of each of the two segments with most fragments."""
    ids, counts = np.unique(proofreading.table()[1:], return_counts=True)
    a, b = ids[np.argsort(-counts, kind="stable")[:2]]
    return int(a), int(b)


def test_two_points_join_two_segments_and_nothing_else(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    before = proofreading.table().copy()
    edit = proofreading.merge(at(a), at(b))
    after = proofreading.table()
    assert edit.links == ((min(a, b), max(a, b)),)
    assert edit.places == ((at(a), at(b)),)
    assert (edit.author, edit.kind, edit.time.utcoffset().total_seconds()) == ("Ada", "merge", 0)
    joined = np.isin(before, [a, b])
    assert len(np.unique(after[joined])) == 1
    assert (after[~joined] == before[~joined]).all()


def test_the_view_shows_the_edits_and_the_voxels_stay(proofreading: Proofreading, bars: np.ndarray):
    a, b = two_segments(proofreading)
    proofreading.merge(a, b)
    assert (proofreading.view()[:] == proofreading.table()[bars]).all()
    assert (Segmentation.open(proofreading.segmentation.folder).fragments[:] == bars).all()


def test_a_split_gives_the_two_sides_and_holds_at_every_threshold(proofreading: Proofreading):
    a, _ = two_segments(proofreading)
    members = np.flatnonzero(proofreading.table() == a)
    left, right = int(members[0]), int(members[-1])
    before = proofreading.table().copy()
    proofreading.split([at(left)], [at(right)])
    after = proofreading.table()
    assert after[left] != after[right]
    assert len(np.unique(after[members])) == 2
    others = np.setdiff1d(np.arange(len(before)), members)
    assert (after[others] == before[others]).all()
    for threshold in (0.0, 0.3, 0.7, 1.0):
        table = proofreading.table(threshold)
        assert table[left] != table[right]


def test_a_merge_takes_back_the_split(proofreading: Proofreading):
    a, _ = two_segments(proofreading)
    members = np.flatnonzero(proofreading.table() == a)
    before = proofreading.table().copy()
    proofreading.split([int(members[0])], [int(members[-1])])
    proofreading.merge(int(members[0]), int(members[-1]))
    assert (proofreading.table() == before).all()
    assert len(proofreading.constraints.cannot) == 0


def test_a_split_takes_back_the_merge_it_crosses(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    before = proofreading.table().copy()
    proofreading.merge(a, b)
    proofreading.split(np.flatnonzero(before == a).tolist(), np.flatnonzero(before == b).tolist())
    assert (proofreading.table() == before).all()
    assert len(proofreading.constraints.must) == 0


def test_segments_that_do_not_touch_can_be_one(proofreading: Proofreading):
    table = proofreading.table()
    far = int(next(f for f in range(40, 0, -1) if table[f] != table[1]))
    proofreading.merge(1, far)
    assert proofreading.table()[1] == proofreading.table()[far]


def test_a_fragment_is_detached_alone(proofreading: Proofreading):
    a, _ = two_segments(proofreading)
    leaf = int(np.flatnonzero(proofreading.table() == a)[0])
    proofreading.detach(at(leaf))
    assert (proofreading.table() == leaf).sum() == 1
    with pytest.raises(ProofreadError, match="is a segment of its own already"):
        proofreading.detach(leaf)


def test_a_deleted_segment_is_background_and_undo_brings_it_back(proofreading: Proofreading):
    a, _ = two_segments(proofreading)
    members = np.flatnonzero(proofreading.table() == a)
    proofreading.delete(at(a))
    assert (proofreading.table()[members] == 0).all()
    assert (proofreading.table(1.0)[members] == 0).all()
    with pytest.raises(ProofreadError, match="was deleted"):
        proofreading.merge(a, 1)
    proofreading.undo()
    assert (proofreading.table()[members] == a).all()


def test_what_is_marked_correct_stays_at_every_threshold_and_refuses_edits(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    members = np.flatnonzero(proofreading.table() == a)
    proofreading.lock(at(a))
    for threshold in (None, 0.0, 0.4, 0.8, 1.0):
        table = proofreading.table(threshold)
        assert np.flatnonzero(table == a).tolist() == members.tolist(), threshold
    for action in (
        lambda: proofreading.merge(a, b),
        lambda: proofreading.split([int(members[0])], [int(members[-1])]),
        lambda: proofreading.detach(int(members[0])),
        lambda: proofreading.delete(b, a),
        lambda: proofreading.lock(a),
    ):
        with pytest.raises(ProofreadError, match=f"Segment {a} is marked correct"):
            action()
    proofreading.unlock(at(a))
    proofreading.merge(a, b)
    with pytest.raises(ProofreadError, match="is not locked"):
        proofreading.unlock(b)


@pytest.mark.parametrize(
    ("kind", "places", "said"),
    [
        ("merge", [[1]], "two segments or more"),
        ("merge", [[1, 1]], "already: there is nothing to merge"),
        ("merge", [[(0, 0, 99), 1]], "The point 0,0,99 lies outside the segmentation"),
        ("merge", [[(3, 11, 14), 1]], "At 3,11,14 nothing was segmented"),
        ("merge", [[1, 41]], "There is no fragment 41: they go from 1 to 40"),
        ("split", [[1]], "two sides or more"),
        ("split", [[1], []], "at least one point"),
        ("split", [[1], [(0, 0, 1)]], "in the same fragment, 1: the fragment itself must be cut"),
        ("detach", [[]], "Point at one segment to detach"),
        ("lock", [[1, 2]], "Point at one segment to lock"),
        ("cut", [[1]], "A cut needs a painted line"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(proofreading: Proofreading, kind, places, said):
    before = proofreading.table().copy()
    with pytest.raises(ProofreadError, match=said):
        proofreading.commit(proofreading.plan(kind, places))
    assert len(proofreading.history) == 0
    assert (proofreading.table() == before).all()


def test_points_of_two_segments_are_no_split(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    with pytest.raises(ProofreadError, match=f"in the segments {min(a, b)}, {max(a, b)}"):
        proofreading.split([a], [b])


def test_a_preview_shows_what_the_edit_will_make_and_commits_nothing(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    edit = proofreading.plan("merge", [[a, b]])
    shown = proofreading.preview(edit)
    assert len(proofreading.history) == 0
    proofreading.commit(edit)
    assert (shown == proofreading.table()).all()


def test_an_edit_that_was_planned_earlier_is_refused(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    late = proofreading.plan("lock", [[a]])
    proofreading.merge(a, b)
    with pytest.raises(ProofreadError, match="edited elsewhere in the meantime"):
        proofreading.commit(late)


def test_a_second_window_is_told_and_then_follows(proofreading: Proofreading, folder: Path):
    a, b = two_segments(proofreading)
    with Proofreading.open(folder) as second:
        second.merge(a, b)
        with pytest.raises(ProofreadError, match="edited elsewhere"):
            proofreading.lock(a)
        proofreading.go_to(proofreading.history.head)
        assert (proofreading.table() == second.table()).all()


def test_how_many_segments_there_would_be_is_known_before(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    assert proofreading.segments_after(proofreading.plan("merge", [[a, b]])) == 1
    members = np.flatnonzero(proofreading.table() == a).tolist()
    for fragment in members:
        edit = proofreading.plan("detach", [[fragment]])
        expected = proofreading.segments_after(edit)
        proofreading.commit(edit)
        assert len(np.unique(proofreading.table()[members])) == expected
        proofreading.undo()


def test_statistics_count_kinds_and_pace(proofreading: Proofreading):
    a, b = two_segments(proofreading)
    assert proofreading.statistics().edits == 0
    proofreading.merge(a, b)
    proofreading.comment("is this a glia cell?", at(a))
    found = proofreading.statistics()
    assert (found.edits, found.kinds) == (2, {"merge": 1, "comment": 1})
    assert proofreading.history.active()[-1].text == "is this a glia cell?"


def test_a_segmentation_with_edits_is_not_overwritten(proofreading: Proofreading, folder: Path):
    from napari_tokenunify.errors import SegmentError

    with pytest.raises(SegmentError, match="holds edits"):
        discard(folder)


def test_edits_of_other_fragments_are_refused(proofreading: Proofreading, folder: Path):
    proofreading.merge(*two_segments(proofreading))
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | {"fragments_hash": "others"}))
    before = (folder / EDITS).read_bytes()
    with pytest.raises(ProofreadError, match="holds edits of other fragments"):
        Proofreading.open(folder)
    assert (folder / EDITS).read_bytes() == before


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["merge", "merge", "split", "split", "detach", "delete", "lock", "unlock", "cut", "undo", "undo", "redo"]
        ),
        st.integers(1, 40),
        st.integers(1, 40),
        st.sampled_from([None, 0.3, 0.7]),
    ),
    min_size=3,
    max_size=14,
)


def do(proofreading: Proofreading, step) -> None:
    kind, a, b, threshold = step
    if kind in {"undo", "redo"}:
        getattr(proofreading, kind)()
    elif kind == "cut":
        z, y, x = at(a)
        proofreading.cut(np.ones((2, 3, 1), bool), Box((z, y, x + 1), (z + 2, y + 3, x + 2)))
    else:
        places = {"merge": [[a, b]], "split": [[a], [b]]}.get(kind, [[a]])
        proofreading.commit(proofreading.plan(kind, places, threshold=threshold))


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
def test_any_edits_undos_and_redos_equal_the_replay_of_the_log(master: Path, steps):
    """And each edit does what it says at the threshold it was made at, and nothing else."""
    for file in master.glob(f"{EDITS}*"):
        file.unlink()
    with Proofreading.open(master, "Ada") as edited:
        for step in steps:
            before = edited.table(step[3]).copy()
            try:
                do(edited, step)
            except ProofreadError:
                assert (edited.table(step[3]) == before).all()
                continue
            did_what_it_says(edited, step, before)
        replayed = fold(edited.history.active())
        assert edited.constraints == replayed
        tables = {t: edited.table(t).copy() for t in (None, 0.2, 0.9)}
        for threshold, table in tables.items():
            assert (corrected(edited.graph, edited.base(threshold), replayed).table == table).all()
            u, v = replayed.must.T
            assert (table[u] == table[v]).all()
            u, v = replayed.cannot.T
            assert ((table[u] != table[v]) | (table[u] == 0)).all()
        voxels = edited.fragments[:]
    with Proofreading.open(master) as again:
        assert (again.fragments[:] == voxels).all()
        for threshold, table in tables.items():
            assert (again.table(threshold) == table).all()
    for file in master.glob(f"{EDITS}*"):
        file.unlink()


def did_what_it_says(edited: Proofreading, step, before: np.ndarray) -> None:
    kind, a, b, threshold = step
    after = edited.table(threshold)
    if kind not in {"merge", "split", "detach"} or len(after) != len(before):
        return
    touched = np.isin(before, [before[a], before[b]] if kind == "merge" else [before[a]])
    assert (after[~touched] == before[~touched]).all()
    if kind == "merge":
        assert len(np.unique(after[touched])) == 1
    elif kind == "split":
        assert len(np.unique(after[touched])) == 2
        assert after[a] != after[b]
    else:
        assert (after == after[a]).sum() == 1
