from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from napari_tokenunify.gui import kept_segmentations
from napari_tokenunify.gui.kept_segmentations import KeptSegments
from napari_tokenunify.jobs import JobState
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.segment.segmentation import EDITS
from napari_tokenunify.session import Session
from tests.gui.questions import answer
from tests.gui.test_segment_panel import press
from tests.proofread.conftest import SHAPE, affinities, at, bars, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

PATIENCE_MS = 10_000


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def session(tmp_path, master):  # noqa: F811
    """A project with three segmentations; the first has an edit, the last is in use."""
    np.save(tmp_path / "raw.npy", np.zeros(SHAPE, np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    for name in ("segmentation", "segmentation-2", "segmentation-10"):
        shutil.copytree(master, session.project.folder / name, ignore=shutil.ignore_patterns(f"{EDITS}*"))
    with Proofreading.open(session.project.folder / "segmentation") as edits:
        edits.merge(at(1), at(2))
    session.change(segmentation="segmentation-10")
    yield session
    session.close()


@pytest.fixture
def box(qtbot, session):
    box = KeptSegments(session)
    qtbot.addWidget(box)
    session.open_project(session.project.folder)
    qtbot.waitUntil(lambda: not box.busy and not box.isHidden(), timeout=PATIENCE_MS)
    return box


def listed(box):
    return [box.list.itemText(row).split(":")[0] for row in range(box.list.count())]


def test_what_is_kept_is_listed_with_what_it_holds_but_not_what_is_in_use(box):
    assert listed(box) == ["segmentation", "segmentation-2"]
    assert "1 edit, " in box.list.itemText(0)
    assert "no edits, " in box.list.itemText(1)
    assert box.list.itemText(0).endswith("kB")


def test_one_is_deleted_after_a_question_that_says_what_is_lost(box, session, qtbot):
    folder = session.project.folder
    said = answer("Keep")
    press(qtbot, box.delete)
    assert "Delete segmentation, with 1 edit, for ever?" in said[0]
    assert "segmentation-10" in said[0]
    assert (folder / "segmentation" / EDITS).exists()
    answer("Delete")
    press(qtbot, box.delete)
    assert box.delete.text() == "Deleting..."
    assert not box.delete.isEnabled()
    qtbot.waitUntil(lambda: not box.busy, timeout=PATIENCE_MS)
    assert sorted(path.name for path in folder.glob("*segmentation*")) == ["segmentation-10", "segmentation-2"]
    assert listed(box) == ["segmentation-2"]
    answer("Delete")
    press(qtbot, box.delete)
    qtbot.waitUntil(lambda: not box.busy and box.isHidden(), timeout=PATIENCE_MS)
    assert session.segmentation.folder.name == "segmentation-10"


def test_one_that_comes_into_use_meanwhile_is_not_deleted(box, session, qtbot, monkeypatch):
    complaints = []
    monkeypatch.setattr(kept_segmentations, "show_error", complaints.append)
    answer("Delete")
    monkeypatch.setattr(Session, "kept_segmentations", [])
    press(qtbot, box.delete)
    assert complaints == ["segmentation is in use by now, and is not deleted."]
    assert (session.project.folder / "segmentation").exists()


def test_one_that_a_job_is_at_work_on_is_offered_again_when_that_has_ended(box, session, qtbot, monkeypatch):
    folder = session.project.folder / "segmentation-2"
    monkeypatch.setattr(Session, "kept_segmentations", [folder])
    job = SimpleNamespace(folder=session.project.folder / "runs" / "segment-1", state=JobState.RUNNING)
    monkeypatch.setattr(Session, "jobs", (job,))
    session.job_changed.emit(None)
    qtbot.waitUntil(lambda: listed(box) == ["segmentation-2"], timeout=PATIENCE_MS)
    monkeypatch.undo()
    session.job_changed.emit(None)
    qtbot.waitUntil(lambda: listed(box) == ["segmentation", "segmentation-2"], timeout=PATIENCE_MS)
