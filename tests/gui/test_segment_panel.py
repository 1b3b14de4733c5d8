from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSlider

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.gui.project_layers import PICKED, SEGMENTS, SURFACE, ProjectLayers
from napari_tokenunify.gui.segment_panel import SegmentPanel
from napari_tokenunify.jobs import JobState
from napari_tokenunify.predictions import larger_box
from napari_tokenunify.segment import segment, write_affinities
from napari_tokenunify.session import Session
from tests.gui.questions import answer
from tests.train.test_finetuning import data  # noqa: F401 - a fixture

pytestmark = pytest.mark.gui

SHAPE = (8, 48, 48)
SIZE = (40.0, 4.0, 4.0)
PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))


@pytest.fixture
def labels():
    labels = np.ones(SHAPE, np.uint64)
    labels[:, :, 23:25] = 0  # membrane
    labels[:, :, 25:] = 2
    return labels


@pytest.fixture
def session(tmp_path, labels):
    """A project with two segments, which become one at thresholds above 0.6."""
    np.save(tmp_path / "raw.npy", np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    affinities = known_affinities(labels)[0].astype(np.float32)
    affinities[affinities == 0] = 0.4
    paths = session.project
    write_affinities(paths.affinities, affinities, DEFAULT_OFFSETS, SIZE)
    list(segment(SegmentConfig(boundary_threshold=0.5, affinities=str(paths.affinities), out=str(paths.segmentation))))
    session.change(threshold=0.3)
    return session


@pytest.fixture
def show(make_napari_viewer, qtbot):
    held = []

    def show(session):
        viewer = make_napari_viewer()
        layers = ProjectLayers(viewer, session)
        panel = SegmentPanel(viewer, session)
        held.append((layers, panel))
        viewer.window.add_dock_widget(panel)
        session.open_project(session.project.folder)
        return viewer, panel

    return show


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def threshold_on_disk(session):
    return json.loads((session.project.folder / "project.json").read_text())["threshold"]


def is_shown(viewer, count):
    return lambda: len(np.unique(np.asarray(viewer.layers[SEGMENTS].data[4]))) == count


def click_at(viewer, voxel):
    """Press and release the mouse over a voxel, as napari tells its layers."""
    from napari.utils._test_utils import read_only_mouse_event
    from napari.utils.interactions import mouse_press_callbacks, mouse_release_callbacks

    position = np.multiply(voxel, SIZE)
    mouse_press_callbacks(viewer, read_only_mouse_event(type="mouse_press", position=position))
    mouse_release_callbacks(viewer, read_only_mouse_event(type="mouse_release", position=position))


def said(monkeypatch, module):
    found = []
    monkeypatch.setattr(f"napari_tokenunify.gui.{module}.show_error", found.append)
    return found


def test_the_slider_moves_the_view_at_once_and_the_file_once_it_rests(show, session, qtbot, monkeypatch):
    viewer, panel = show(session)
    assert is_shown(viewer, 2)()
    writes = []
    change = type(session.project).change
    monkeypatch.setattr(type(session.project), "change", lambda self, **new: writes.append(new) or change(self, **new))
    tables = []
    shown = viewer.layers[SEGMENTS].data
    monkeypatch.setattr(shown.segmentation, "at", lambda t, at=shown.segmentation.at: tables.append(t) or at(t))
    for step in range(310, 901, 10):
        panel.threshold.setValue(step)
    assert panel.value.text() == "0.900"
    assert session.state.threshold == 0.9  # whoever asks, knows
    qtbot.waitUntil(is_shown(viewer, 1))
    assert len(tables) <= 3  # of 60 moves
    assert tables[-1] == 0.9
    qtbot.waitUntil(lambda: threshold_on_disk(session) == 0.9)
    assert len(writes) == 1


def test_the_threshold_is_fitted_to_the_labels_until_the_slider_is_moved(show, session, labels, tmp_path, qtbot):
    np.save(tmp_path / "labels.npy", labels)
    session.change(annotations=str(tmp_path / "labels.npy"), threshold=0.9)
    viewer, panel = show(session)
    qtbot.waitUntil(is_shown(viewer, 1))
    assert panel.fit.isChecked()
    session.job_ended.emit(SimpleNamespace(stage="segment", state=JobState.DONE))
    qtbot.waitUntil(lambda: 0.25 < session.state.threshold < 0.35)  # the middle of where the two are apart
    fitted = session.state.threshold
    assert panel.threshold.value() == round(1000 * fitted)
    assert panel.fit.text() == "fit to labels (VOI 0.00)"
    qtbot.waitUntil(is_shown(viewer, 2))
    panel.threshold.triggerAction(QAbstractSlider.SliderAction.SliderSingleStepAdd)
    assert not panel.fit.isChecked()
    session.job_ended.emit(SimpleNamespace(stage="segment", state=JobState.DONE))
    assert not panel.fit._work.busy
    panel.fit.click()
    qtbot.waitUntil(lambda: session.state.threshold == fitted)


def test_a_slider_that_was_moved_is_left_alone_in_the_next_window_too(show, session, labels, tmp_path):
    np.save(tmp_path / "labels.npy", labels)
    session.change(annotations=str(tmp_path / "labels.npy"))
    _, panel = show(session)
    panel.threshold.triggerAction(QAbstractSlider.SliderAction.SliderSingleStepAdd)
    folder = session.project.folder
    session.new_project(tmp_path / "other.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    assert panel.fit.isChecked()
    session.open_project(folder)
    assert not panel.fit.isChecked()


def test_labels_that_fit_no_threshold_are_told_to_who_asks(show, session, labels, tmp_path, qtbot, monkeypatch):
    np.save(tmp_path / "labels.npy", np.where(labels == 1, labels, 0))
    session.change(annotations=str(tmp_path / "labels.npy"))
    _, panel = show(session)
    said = []
    monkeypatch.setattr("napari_tokenunify.gui.threshold_fit.show_error", said.append)
    session.job_ended.emit(SimpleNamespace(stage="segment", state=JobState.DONE))
    assert panel.fit._work.busy
    qtbot.waitUntil(lambda: not panel.fit._work.busy)
    assert not said
    assert panel.fit.isChecked()
    panel.fit.click()
    panel.fit.click()
    qtbot.waitUntil(lambda: bool(said))
    assert said[0].startswith("Fewer than two neurons are labelled in what was segmented")
    assert not panel.fit.isChecked()
    assert session.state.threshold == 0.3


def test_what_was_fitted_to_one_project_does_not_move_another(show, session, labels, tmp_path, qtbot):
    np.save(tmp_path / "labels.npy", labels)
    session.change(annotations=str(tmp_path / "labels.npy"))
    _, panel = show(session)
    session.job_ended.emit(SimpleNamespace(stage="segment", state=JobState.DONE))
    assert panel.fit._work.busy
    session.new_project(tmp_path / "other.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    assert not panel.fit._work.busy
    qtbot.wait(300)
    assert session.state.threshold == 0.5


def test_a_job_that_starts_knows_a_threshold_still_in_motion(show, session):
    _, panel = show(session)
    panel.threshold.setValue(770)
    assert threshold_on_disk(session) == 0.3
    assert panel.segment_config().threshold == 0.77
    assert threshold_on_disk(session) == 0.77


def test_the_threshold_is_kept_when_the_panel_goes_away_and_when_another_project_comes(show, session, tmp_path):
    _, panel = show(session)
    panel.show()
    panel.threshold.setValue(640)
    panel.hide()
    assert threshold_on_disk(session) == 0.64
    panel.threshold.setValue(220)
    before = session.project.folder
    session.new_project(tmp_path / "q.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    assert json.loads((before / "project.json").read_text())["threshold"] == 0.22


def test_a_click_picks_a_segment_and_says_its_size(show, session, qtbot):
    viewer, panel = show(session)
    picking = panel.picking
    assert picking.pick.isEnabled()
    assert not picking.solid.isEnabled()
    click_at(viewer, (4, 20, 40))
    assert PICKED not in viewer.layers  # not without the button
    press(qtbot, picking.pick)
    click_at(viewer, (4, 20, 40))
    layer, segments = viewer.layers[PICKED], viewer.layers[SEGMENTS]
    right = np.asarray(segments.data[4])[20, 40]
    assert segments.selected_label == right
    np.testing.assert_array_equal(np.asarray(layer.data[4]) == 1, np.asarray(segments.data[4]) == right)
    voxels = int((np.asarray(segments.data) == right).sum())
    assert f"Segment {right}" in picking.words.text()
    assert f"{voxels:,} voxels, {voxels * 640 / 1e9:.3g} μm³" in picking.words.text()
    np.testing.assert_array_equal(layer.scale, SIZE)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
    assert segments.opacity < 0.5  # the others step back


def test_the_picked_place_stays_picked_while_the_threshold_moves(show, session, qtbot):
    viewer, panel = show(session)
    panel.picking.pick.setChecked(True)
    click_at(viewer, (4, 20, 5))
    before = panel.picking.picked.numbers
    panel.threshold.setValue(900)
    qtbot.waitUntil(lambda: panel.picking.picked.numbers.voxels > before.voxels)
    assert (np.asarray(viewer.layers[PICKED].data[4]) == 1).all()
    panel.threshold.setValue(300)
    qtbot.waitUntil(lambda: panel.picking.picked.numbers == before)


def test_a_picked_segment_is_seen_alone(show, session, qtbot):
    viewer, panel = show(session)
    panel.picking.pick.setChecked(True)
    click_at(viewer, (4, 20, 5))
    press(qtbot, panel.picking.alone)
    assert not viewer.layers[SEGMENTS].visible
    assert viewer.layers[PICKED].visible
    press(qtbot, panel.picking.alone)
    assert viewer.layers[SEGMENTS].visible


def test_napari_s_own_choice_of_a_label_picks_too(show, session):
    viewer, panel = show(session)
    segments = viewer.layers[SEGMENTS]
    there = int(max(np.unique(np.asarray(segments.data[4]))))
    assert segments.selected_label != there
    segments.selected_label = there
    assert panel.picking.picked.numbers.segment == there


def test_a_picked_segment_is_shown_in_3d_and_the_view_goes_back(show, session, qtbot):
    viewer, panel = show(session)
    picking = panel.picking
    picking.pick.setChecked(True)
    click_at(viewer, (4, 20, 5))
    visible, point = [layer.name for layer in viewer.layers if layer.visible], viewer.dims.point
    press(qtbot, picking.solid)
    assert viewer.dims.ndisplay == 2  # until it is made
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3, timeout=PATIENCE_MS)
    assert [layer.name for layer in viewer.layers if layer.visible] == [SURFACE]
    low, high = (end(np.asarray(viewer.layers[SURFACE].data[0]), axis=0) for end in (np.min, np.max))
    assert (low >= -0.51 * np.array(SIZE)).all()
    assert high[2] < 25 * SIZE[2]
    assert picking.solid.text() == "Back to sections"
    press(qtbot, picking.solid)
    assert viewer.dims.ndisplay == 2
    assert [layer.name for layer in viewer.layers if layer.visible] == visible
    qtbot.waitUntil(lambda: viewer.dims.point == point)
    assert picking.solid.text() == "Show in 3-D"


def test_napari_s_own_button_leads_back_from_3d_too(show, session, qtbot):
    viewer, panel = show(session)
    panel.picking.picked.pick(1)
    press(qtbot, panel.picking.solid)
    qtbot.waitUntil(lambda: viewer.dims.ndisplay == 3, timeout=PATIENCE_MS)
    viewer.dims.ndisplay = 2
    assert viewer.layers["image"].visible
    assert SURFACE not in viewer.layers


def test_without_a_network_nothing_can_be_predicted_and_the_reason_is_there(show, session):
    _, panel = show(session)
    assert "No network is trained yet" in panel.network.text()
    assert not panel.visible.isEnabled()
    assert not panel.everything.isEnabled()


def test_without_affinities_segment_says_what_to_do(show, tmp_path, monkeypatch, qtbot):
    np.save(tmp_path / "raw.npy", np.zeros(SHAPE, np.uint8))
    session = Session()
    session.new_project(tmp_path / "new.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    _, panel = show(session)
    heard = said(monkeypatch, "segment_panel")
    press(qtbot, panel.segment)
    assert heard == ["There are no affinities yet: predict what is visible first, or everything."]


def test_a_box_is_written_from_the_view_and_a_wrong_one_is_said(show, session, monkeypatch, qtbot):
    _, panel = show(session)
    press(qtbot, panel.from_view)
    assert panel.box.text() == "0:8,0:48,0:48"
    heard = said(monkeypatch, "segment_panel")
    panel.this_box.setEnabled(True)
    for text in ("0:8,0:48", "0:8,0:48,0:49"):
        panel.box.setText(text)
        press(qtbot, panel.this_box)
    assert "is no box" in heard[0]
    assert "reaches outside the volume" in heard[1]


def test_a_prediction_goes_on_to_segments_and_is_not_done_twice(make_napari_viewer, data, qtbot):  # noqa: F811
    viewer = make_napari_viewer()
    session = Session()
    session.new_project(data / "p.tokenunify", str(data / "raw.npy"), "10,10,10")
    session.change(model=str(data / "seed"))
    layers, panel = ProjectLayers(viewer, session), SegmentPanel(viewer, session)
    qtbot.addWidget(panel)
    session.open_project(session.project.folder)
    assert panel.visible.isEnabled()

    def ended(stage, times=1):
        def look():
            session.poll()
            return sum(s.stage == stage and s.state.final for s in session.jobs) == times

        qtbot.waitUntil(look, timeout=PATIENCE_MS)
        assert all(s.state == JobState.DONE for s in session.jobs if s.stage == stage), session.jobs

    panel.box.setText("0:16,0:32,0:64")
    assert not panel.predict_config().overwrite
    press(qtbot, panel.this_box)
    press(qtbot, panel.this_box)  # once is enough
    assert [s.stage for s in session.jobs] == ["predict"]
    ended("predict")
    ended("segment")
    assert not session.predict_config().overwrite  # the same again: nothing to do
    assert session.predict_config(box=None).overwrite  # everything: another store
    assert viewer.layers[SEGMENTS].data.shape == (16, 32, 64)
    del layers


def test_a_smaller_prediction_replaces_a_larger_one_only_if_the_user_says_so(
    make_napari_viewer,
    data,  # noqa: F811
    qtbot,
):
    viewer, session = make_napari_viewer(), Session()
    session.new_project(data / "p.tokenunify", str(data / "raw.npy"), "10,10,10")
    session.change(model=str(data / "seed"))
    job = session.start("predict", session.predict_config(box="0:16,0:32,0:64"))
    qtbot.waitUntil(lambda: job.poll().state.final, timeout=PATIENCE_MS)
    panel = SegmentPanel(viewer, session)
    qtbot.addWidget(panel)
    session.open_project(session.project.folder)
    panel.box.setText("0:8,0:32,0:32")
    panel.then.setChecked(False)
    for made, button in ((1, "Keep"), (2, "Replace")):
        asked = answer(button)
        press(qtbot, panel.this_box)
        assert "the larger box 0:16,0:32,0:64?" in asked[0]
        session.poll()
        assert len([s for s in session.jobs if s.stage == "predict"]) == made
        assert session.state.box == (None if made == 1 else "0:8,0:32,0:32")
    qtbot.waitUntil(lambda: (session.poll(), session.jobs[-1].state.final)[1], timeout=PATIENCE_MS)
    assert larger_box(session.predict_config(box=None), session.volume) is None, "everything is no less"
