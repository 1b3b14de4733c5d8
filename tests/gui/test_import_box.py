from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_tokenunify.gui import import_box
from napari_tokenunify.gui.import_box import ImportBox
from napari_tokenunify.gui.project_layers import SEGMENTS, ProjectLayers
from napari_tokenunify.jobs import JobState
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

SHAPE = (8, 30, 32)
PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def labels():
    labels = np.zeros(SHAPE, np.int32)
    labels[:, :14], labels[:, 16:, :15], labels[2:, 16:, 17:] = 70, 4, 9
    return labels


@pytest.fixture
def box(make_napari_viewer, qtbot, tmp_path):
    np.save(tmp_path / "raw.npy", np.zeros(SHAPE, np.uint8))
    viewer, session = make_napari_viewer(), Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "8,8,8")
    box = ImportBox(viewer, session)
    qtbot.addWidget(box)
    box.layers, box.viewer, box.session = ProjectLayers(viewer, session), viewer, session
    return box


def action(box, text):
    box.fill()
    return next(action for action in box.choices.actions() if text in action.text())


def done(box, qtbot):
    def ended():
        box.session.poll()
        return box.session.jobs and box.session.jobs[-1].state.final

    qtbot.waitUntil(ended, timeout=PATIENCE_MS)
    assert box.session.jobs[-1].state is JobState.DONE, box.session.jobs[-1]


def is_shown(box, labels):
    shown = np.asarray(box.viewer.layers[SEGMENTS].data[:])
    pairs = np.unique(np.stack([shown.ravel(), labels.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(labels)) == len(np.unique(shown))


def test_a_file_becomes_the_segments_of_the_project_and_they_can_be_edited(box, labels, qtbot, tmp_path, monkeypatch):
    np.save(tmp_path / "theirs.npy", labels)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(tmp_path / "theirs.npy"), ""))
    action(box, "A file").trigger()
    done(box, qtbot)
    assert is_shown(box, labels)
    assert box.session.shown_threshold is None
    with box.session.proofreading_opener()() as reading:
        reading.merge((0, 0, 0), (0, 20, 0))
        assert reading.table()[reading.fragment_at((0, 0, 0))] == reading.table()[reading.fragment_at((0, 20, 0))]


def test_a_layer_in_memory_is_kept_and_taken(box, labels, qtbot):
    box.viewer.add_labels(labels, name="theirs")
    action(box, "The layer theirs").trigger()
    qtbot.waitUntil(lambda: len(box.session.jobs) == 1, timeout=PATIENCE_MS)
    done(box, qtbot)
    assert is_shown(box, labels)
    assert not [entry for entry in box.choices.actions() if SEGMENTS in entry.text()]


def test_supervoxels_come_with_their_table(box, labels, qtbot, tmp_path, monkeypatch):
    np.save(tmp_path / "supervoxels.npy", labels)
    (tmp_path / "table.csv").write_text("supervoxel,segment\n4,1\n9,1\n70,2\n")
    chosen = iter([str(tmp_path / "supervoxels.npy"), str(tmp_path / "table.csv")])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (next(chosen), ""))
    action(box, "Supervoxels").trigger()
    done(box, qtbot)
    assert is_shown(box, np.select([labels == 70, labels > 0], [2, 1]))


def test_what_does_not_fit_is_told_by_the_job(box, labels, qtbot, tmp_path, monkeypatch):
    np.save(tmp_path / "theirs.npy", np.zeros((9, 99, 9), np.uint8))
    box.take(str(tmp_path / "theirs.npy"))
    qtbot.waitUntil(lambda: (box.session.poll(), box.session.jobs[-1].state.final)[1], timeout=PATIENCE_MS)
    assert "give segments of this volume" in box.session.jobs[-1].reason
    said = []
    monkeypatch.setattr(import_box, "show_error", said.append)
    box.viewer.add_labels(labels[0], name="flat")
    action(box, "The layer flat").trigger()
    assert "3-D array" in said[0]


def test_an_import_that_is_refused_leaves_the_one_at_work_alone(box, labels, qtbot, monkeypatch):
    refused = []
    monkeypatch.setattr(import_box, "show_error", refused.append)
    first, second = box.viewer.add_labels(labels, name="theirs"), box.viewer.add_labels(labels % 2, name="others")
    box.take_layer(first)
    box.take_layer(second)
    assert "is being taken already" in refused[0]
    qtbot.waitUntil(lambda: len(box.session.jobs) == 1, timeout=PATIENCE_MS)
    box.take_layer(second)
    assert "import-1 is" in refused[1]
    done(box, qtbot)
    assert is_shown(box, labels)
