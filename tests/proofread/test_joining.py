from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.proofread.joining import join_logs
from napari_tokenunify.proofread.log_files import Log, read_log, restore_log, write_log
from tests.proofread.conftest import at


@pytest.fixture
def people(folder: Path, tmp_path: Path):
    """Two people who have one merge in common, and the segments by falling size."""
    with Proofreading.open(folder, "Ada") as ada:
        ids, counts = np.unique(ada.table()[1:], return_counts=True)
        segments = ids[np.argsort(-counts, kind="stable")].tolist()
        ada.merge(segments[-1], segments[-2])
    copy = shutil.copytree(folder, tmp_path / "copy")
    with Proofreading.open(folder, "Ada") as ada, Proofreading.open(copy, "Bo") as bo:
        yield ada, bo, segments


def ends(proofreading: Proofreading, segment: int) -> tuple[int, int]:
    members = np.flatnonzero(proofreading.table() == segment)
    return int(members[0]), int(members[-1])


def test_edits_that_agree_are_taken_over_once(people):
    ada, bo, (a, b, c, d, *_) = people
    ada.merge(a, b)
    bo.split([ends(bo, c)[0]], [ends(bo, c)[1]])
    bo.lock(d)
    joined = join_logs(ada, Log.of(bo.history))
    assert (len(joined.taken), joined.conflicts, joined.known) == (2, (), 1)
    assert {edit.author for edit in joined.taken} == {"Bo"}
    assert len(np.unique(ada.table()[list(ends(bo, c))])) == len({int(bo.table()[f]) for f in ends(bo, c)})
    assert ada.table()[a] == ada.table()[b]
    again = join_logs(ada, Log.of(bo.history))
    assert (again.taken, again.conflicts, again.known) == ((), (), 3)
    bo.unlock(d)
    back = join_logs(bo, Log.of(ada.history))
    assert (len(back.taken), back.known) == (1, 3)  # what came from here is known here


def test_a_cut_of_what_was_merged_here_is_listed_and_not_applied(people):
    ada, bo, (a, *_) = people
    leaf = ends(ada, a)[0]
    cut = bo.detach(leaf)
    assert ada.detach(leaf).cuts == cut.cuts
    ada.merge(*cut.cuts[0])
    before = ada.table().copy()
    joined = join_logs(ada, Log.of(bo.history))
    assert [conflict.edit for conflict in joined.conflicts] == [cut]
    assert "were merged here" in joined.conflicts[0].reason
    assert (ada.table() == before).all()


def test_a_merge_of_what_was_split_here_is_listed_and_not_applied(people):
    ada, bo, (a, b, c, *_) = people
    ada.merge(a, b)
    ada.split([a], [b])
    bo.merge(a, b)
    bo.merge(a, c)
    before = ada.table().copy()
    joined = join_logs(ada, Log.of(bo.history))
    assert [conflict.edit.links for conflict in joined.conflicts] == [((min(a, b), max(a, b)),)]
    assert "whose segments were split here" in joined.conflicts[0].reason
    assert len(joined.taken) == 1
    assert ada.table()[a] == ada.table()[c]
    assert ada.table()[b] == before[b]


@pytest.mark.parametrize(("verb", "said"), [("lock", "is marked correct here"), ("delete", "is deleted here")])
def test_what_is_locked_or_deleted_here_is_not_touched(people, verb: str, said: str):
    ada, bo, (a, b, *_) = people
    getattr(ada, verb)(a)
    bo.merge(a, b)
    before = ada.table().copy()
    joined = join_logs(ada, Log.of(bo.history))
    assert said in joined.conflicts[0].reason
    assert (joined.taken, (ada.table() == before).all()) == ((), True)


def test_a_segment_that_was_merged_here_is_not_locked_in_part(people):
    ada, bo, (a, b, *_) = people
    ada.merge(a, b)
    bo.lock(a)
    assert "was merged with another one here" in join_logs(ada, Log.of(bo.history)).conflicts[0].reason


def test_parts_of_a_fragment_get_ids_that_are_free_here(people):
    ada, bo, segments = people
    first, second = (f for f in (1, 13))
    for person, fragment in ((ada, first), (bo, second)):
        z, y, x = at(fragment)
        person.cut(np.ones((2, 3, 1), bool), Box((z, y, x + 1), (z + 2, y + 3, x + 2)), fragment=fragment)
    theirs = bo.fragments[:]
    joined = join_logs(ada, Log.of(bo.history))
    assert [edit.division.parts for edit in joined.taken] == [(42,)]
    assert ((ada.fragments[:] == 42) == (theirs == 41)).all()
    bo.merge(41, next(s for s in segments if bo.table()[s] != bo.table()[41]))
    more = join_logs(ada, Log.of(bo.history))
    assert (len(more.taken), more.known) == (1, 2)
    assert 42 in more.taken[0].links[0]


def test_a_log_goes_through_a_file(people, tmp_path: Path, master: Path):
    ada, _, (a, b, *_) = people
    ada.merge(a, b)
    ada.undo()
    ada.lock(a)
    write_log(ada.history, tmp_path / "log.json")
    log = read_log(tmp_path / "log.json")
    assert log == Log.of(ada.history)
    assert [edit.kind for edit in log.in_force] == ["merge", "lock"]
    copy = shutil.copytree(master, tmp_path / "another")
    with Proofreading.open(copy) as again:
        restore_log(again.history, log)
        again.go_to(log.head)
        assert (again.table() == ada.table()).all()
        assert len(again.history.branches()) == 2
        with pytest.raises(ProofreadError, match="holds edits already"):
            restore_log(again.history, log)


def test_a_log_of_other_fragments_is_one_sentence(people, tmp_path: Path):
    ada = people[0]
    strange = Log("others", None, ())
    with pytest.raises(ProofreadError, match="The log is of other fragments"):
        join_logs(ada, strange)
    (tmp_path / "cut.json").write_text(
        '{"kind": "edits", "format": 1, "head": "x", "fragments_hash": "h", "edits": []}'
    )
    with pytest.raises(ProofreadError, match="is damaged, it lacks 'x'"):
        read_log(tmp_path / "cut.json")
