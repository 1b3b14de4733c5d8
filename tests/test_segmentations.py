from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.jobs import JobState
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.segment import Segmentation, write_affinities
from napari_tokenunify.segment.segmentation import EDITS
from napari_tokenunify.segmentations import (
    delete_kept,
    has_edits,
    kept_folders,
    look_at_kept,
    make_room,
    place_of_next,
    take_along,
)
from napari_tokenunify.session import Session
from tests.proofread.conftest import affinities, at, bars, master  # noqa: F401 - fixtures
from tests.test_session import heard, wait

VOLUME = (8, 48, 48)


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def session(tmp_path):
    """A project with affinities of three slabs, whose walls are weak."""
    np.save(tmp_path / "raw.npy", np.zeros(VOLUME, np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "10,10,10")
    write(session, (15, 31))
    session.change(threshold=0.3)
    yield session
    session.close()


def write(session, walls):
    """Write affinities of slabs along x, with walls of two voxels at these places."""
    labels = np.ones(VOLUME, np.uint64)
    for number, wall in enumerate(walls, 2):
        labels[:, :, wall:] = number
    for wall in walls:
        labels[:, :, wall : wall + 2] = 0
    values = known_affinities(labels)[0].astype(np.float32)
    shutil.rmtree(session.project.affinities, ignore_errors=True)
    write_affinities(session.project.affinities, np.maximum(values, 0.1), DEFAULT_OFFSETS, (10.0, 10.0, 10.0))


def edits_of(session):
    session.use_proofreading(session.proofreading_opener()())
    return session.proofreading


def segmented(session, **changes):
    job = session.start("segment", session.segment_config(**changes))
    assert wait(session, job).state == JobState.DONE
    for status in session.jobs:  # edits may be carried over by a job that follows
        assert wait(session, session.job(status.folder)).state == JobState.DONE, status


def test_a_segmentation_without_edits_is_overwritten_even_if_edits_were_opened(session):
    segmented(session)
    edits_of(session)
    assert (session.project.segmentation / EDITS).exists()
    segmented(session, method="mean")
    assert session.project.segmentation.name == "segmentation"
    assert session.segmentation.spec["method"] == "mean"
    assert session.proofreading is None


def test_edits_go_along_to_another_method_on_the_same_fragments(session):
    segmented(session)
    edits = edits_of(session)
    edits.merge((4, 20, 5), (4, 20, 40), threshold=0.3)
    edits.comment("left of here", (4, 20, 5))
    edits.undo()
    before, told = edits.history.all_edits(), heard(session.said)
    old = session.project.segmentation
    segmented(session, method="waterz")
    assert session.project.segmentation.name == "segmentation-2"
    assert "with all your edits" in told[-1][0]
    assert edits_of(session).history.all_edits() == before
    assert len(session.proofreading.in_force) == 1
    assert Segmentation.open(old).spec["method"] == "mean"
    assert has_edits(old)
    again = Session()
    again.open_project(session.project.folder)
    assert again.segmentation.folder.name == "segmentation-2"


def test_on_other_fragments_edits_are_made_again_and_those_that_cannot_be_are_told(session):
    segmented(session)
    edits = edits_of(session)
    edits.merge((4, 20, 5), (4, 20, 40), threshold=0.3)
    edits.lock((4, 20, 22), threshold=0.3)
    edits.split([(4, 20, 5)], [(4, 20, 40)], threshold=0.3)
    old, told = session.project.segmentation, heard(session.said)
    write(session, (15,))  # now there are two slabs: nothing is left to split
    segmented(session)
    assert session.project.segmentation.name == "segmentation-2"
    assert [status.stage for status in session.jobs] == ["segment", "segment", "proofread carry"]
    kinds = [edit.kind for edit in edits_of(session).history.active()]
    assert "merge" in kinds
    words, level = told[-1]
    assert f"{len(kinds)} of 3 edits were made again" in words
    assert (level == "warning") == (len(kinds) < 3)
    with Proofreading.open(old, read_only=True) as kept:
        assert len(kept.in_force) == 3


def test_two_edited_segmentations_are_both_kept(session):
    for name in ("segmentation", "segmentation-2", "segmentation-3"):
        segmented(session)
        assert session.project.segmentation.name == name
        edits_of(session).comment(name)
    assert all(has_edits(session.project.folder / f"segmentation{n}") for n in ("", "-2", "-3"))
    assert place_of_next(session.project)["out"].endswith("segmentation-4")


def test_edits_cannot_be_copied_to_other_fragments(tmp_path, master, bars, affinities):  # noqa: F811
    old = shutil.copytree(master, tmp_path / "old")
    with Proofreading.open(old) as proofreading:
        proofreading.merge(at(1), at(2))
    spec = {"method": "mean", "value": 0.5, "fragments_hash": "others"}
    plain = Segmentation.open(master)
    new = Segmentation.create(tmp_path / "new", bars, plain.graph, plain.table, spec=spec).folder
    assert not take_along(old, new)
    assert not (new / EDITS).exists()


def test_a_file_that_holds_no_edits_gives_way_and_a_damaged_one_does_not(tmp_path, master):  # noqa: F811
    folder = shutil.copytree(master, tmp_path / "segmentation", ignore=shutil.ignore_patterns(f"{EDITS}*"))
    assert not has_edits(folder)
    Proofreading.open(folder).close()
    assert not has_edits(folder)
    make_room(folder)
    assert not (folder / EDITS).exists()
    (folder / EDITS).write_bytes(b"no database" * 1000)
    assert has_edits(folder)
    make_room(folder)
    assert (folder / EDITS).exists()


def test_while_edits_are_carried_over_the_session_says_so(session):
    assert not session.is_carrying
    segmented(session)
    edits_of(session).merge((4, 20, 5), (4, 20, 40), threshold=0.3)
    write(session, (15,))
    job = session.start("segment", session.segment_config())
    wait(session, job)
    assert session.is_carrying
    carry = next(status for status in session.jobs if status.stage == "proofread carry")
    wait(session, session.job(carry.folder))
    assert not session.is_carrying


def test_what_is_kept_from_before_is_known_and_can_be_deleted(session):
    segmented(session)
    assert kept_folders(session.project) == []
    edits_of(session).comment("here")
    segmented(session)
    folder = session.project.folder
    (kept,) = session.kept_segmentations
    assert kept == folder / "segmentation"
    size = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    found = look_at_kept(kept)
    assert (found.edits, found.size) == (1, size)
    with pytest.raises(SegmentError, match="in use"):
        delete_kept(session.project, session.project.segmentation)
    with pytest.raises(SegmentError, match="no segmentation of this project"):
        delete_kept(session.project, session.project.affinities)
    delete_kept(session.project, kept)
    assert not kept.exists()
    assert session.kept_segmentations == []
    assert session.project.segmentation.exists()


def test_what_a_kill_left_of_a_deletion_goes_with_the_next(session):
    folder = session.project.folder
    for name in ("segmentation-2", "segmentation-3", ".segmentation-4.gone"):
        (folder / name).mkdir()
        (folder / name / "spec.json").touch()
    (folder / "segmentation-5").mkdir()  # half made
    assert kept_folders(session.project) == [folder / "segmentation-2", folder / "segmentation-3"]
    delete_kept(session.project, folder / "segmentation-2")
    assert {path.name for path in folder.glob("*segmentation*")} == {"segmentation-3", "segmentation-5"}


def test_what_cannot_be_deleted_is_said_in_a_sentence(session, monkeypatch):
    (session.project.folder / "segmentation-2").mkdir()
    (session.project.folder / "segmentation-2" / "spec.json").touch()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(SegmentError, match=r"cannot be deleted \(Permission denied\); close other programs"):
        delete_kept(session.project, session.project.folder / "segmentation-2")


def test_a_segmentation_that_a_job_works_on_is_not_one_from_before(session):
    segmented(session)
    edits_of(session).comment("here")
    job = session.start("segment", session.segment_config())
    Path(job.spec.config["out"]).mkdir(exist_ok=True)
    assert session.kept_segmentations == []
    job.stop()
    wait(session, job)
