from __future__ import annotations

import shutil

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.gui import proofread_tools
from napari_tokenunify.gui.project_layers import LINE, MARKED, POINTED, SEGMENTS, SURFACE
from napari_tokenunify.gui.proofread_keys import KEYS
from napari_tokenunify.gui.proofread_marks import COLOURS
from napari_tokenunify.gui.proofread_panel import ProofreadPanel
from napari_tokenunify.gui.workbench import Workbench
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.segment.segmentation import EDITS
from napari_tokenunify.session import Session
from tests.gui.stalls import Stalls, bearable
from tests.gui.test_segment_panel import click_at, press
from tests.proofread.conftest import SHAPE, affinities, at, bars, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

PATIENCE_MS = 20_000


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def project(tmp_path, master):  # noqa: F811
    """A project of 40 fragments; each is a segment of its own at the threshold 0."""
    np.save(tmp_path / "raw.npy", np.zeros(SHAPE, np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    session.change(threshold=0.0)
    shutil.copytree(master, session.project.segmentation, ignore=shutil.ignore_patterns(f"{EDITS}*"))
    return session.project.folder


class Desk:
    """The panel as a user has it before her."""

    def __init__(self, viewer, qtbot, project):
        self.viewer, self.qtbot = viewer, qtbot
        self.bench = Workbench(viewer)
        self.panel = ProofreadPanel(self.bench)
        qtbot.addWidget(self.panel)
        self.said = []
        self.session, self.editing, self.tools = self.bench.session, self.panel.editing, self.panel.tools
        self.session.open_project(project)
        self.panel.show()
        qtbot.waitUntil(lambda: self.session.proofreading is not None, timeout=PATIENCE_MS)
        self.rest()

    def rest(self):
        """Wait until all that was asked is done and shown."""
        shown = self.viewer.layers[SEGMENTS].data
        self.qtbot.waitUntil(lambda: not self.editing.busy and not shown._work.busy, timeout=PATIENCE_MS)

    def click(self, *fragments):
        for fragment in fragments:
            click_at(self.viewer, at(fragment))
            self.rest()

    def key(self, key):
        from napari.utils.key_bindings import coerce_keybinding

        self.viewer.window._qt_viewer._key_map_handler.press_key(coerce_keybinding(key))
        self.rest()

    def mode(self, name):
        press(self.qtbot, self.tools.modes[name])

    @property
    def table(self):
        """The table on the screen."""
        return np.array(self.viewer.layers[SEGMENTS].data.table)

    def close(self):
        self.panel.hide()
        self.bench.close()


@pytest.fixture
def desk(make_napari_viewer, qtbot, project):
    desk = Desk(make_napari_viewer(), qtbot, project)
    yield desk
    desk.close()


@pytest.fixture
def complaints(monkeypatch):
    found = []
    monkeypatch.setattr(proofread_tools, "show_error", found.append)
    return found


def segments_of(table, *fragments):
    return [int(table[fragment]) for fragment in fragments]


def test_ten_merges_and_ten_splits_are_undone_redone_and_there_after_opening_again(
    desk, make_napari_viewer, qtbot, project
):
    start = desk.table
    pairs = [(1, 2), (3, 4), (6, 7), (8, 9), (11, 12), (13, 14), (16, 17), (18, 19), (21, 22), (23, 24)]
    desk.mode("Merge")
    for u, v in pairs:
        desk.click(u, v)
        press(qtbot, desk.tools.do)
        desk.rest()
    assert all(desk.table[u] == desk.table[v] for u, v in pairs)
    desk.key("D")
    assert desk.tools.mode == "Split"
    for u, v in pairs:
        desk.click(u)
        desk.key("T")
        desk.click(v)
        desk.key("Enter")
    edited = desk.table
    assert all(edited[u] != edited[v] for u, v in pairs)
    assert len(desk.session.proofreading.in_force) == 20
    for _ in range(20):
        press(qtbot, desk.tools.undo)
        desk.rest()
    np.testing.assert_array_equal(desk.table, start)
    for _ in range(20):
        press(qtbot, desk.tools.redo)
        desk.rest()
    np.testing.assert_array_equal(desk.table, edited)
    desk.close()
    again = Desk(make_napari_viewer(), qtbot, project)
    np.testing.assert_array_equal(again.table, edited)
    assert "20 edits" in again.panel.history.pace.text()
    again.close()


def test_what_an_edit_would_do_is_seen_before_it_is_done_and_can_be_dropped(desk):
    before = desk.table
    desk.mode("Merge")
    desk.click(1)
    assert MARKED in desk.viewer.layers
    assert desk.tools.plan is None
    desk.click(2)
    seen = np.asarray(desk.viewer.layers[MARKED].data[0])
    assert (seen[0, :6] == 1).all()
    assert (seen[0, 6:] == 0).all()
    assert len(desk.viewer.layers[POINTED].data) == 2
    np.testing.assert_array_equal(desk.table, before)
    assert "36 voxels" in desk.tools.words.text()
    desk.key("Escape")
    assert desk.tools.plan is None
    assert not desk.viewer.layers[MARKED].visible
    assert not desk.viewer.layers[POINTED].visible
    desk.key("Enter")
    np.testing.assert_array_equal(desk.table, before)
    assert desk.viewer.layers[SEGMENTS].opacity == 0.5


def test_both_sides_of_a_split_are_seen_in_their_colours_and_more_points_refine_it(desk):
    desk.mode("Merge")
    desk.click(1, 2, 3, 4)
    desk.key("Enter")
    assert len(set(segments_of(desk.table, 1, 2, 3, 4))) == 1
    desk.mode("Split")
    desk.click(1)
    desk.key("T")
    desk.click(4)
    seen = desk.viewer.layers[MARKED].data
    assert (seen[0, 0, 0], seen[0, 0, 10]) == (1, 2)
    desk.click(2)  # of the second side, too
    seen = desk.viewer.layers[MARKED].data
    assert [int(seen[0, 0, x]) for x in (0, 4, 10)] == [1, 2, 2]
    desk.key("Backspace")
    assert len(desk.viewer.layers[POINTED].data) == 2
    assert desk.tools.plan is not None


def test_a_locked_segment_is_refused_with_a_sentence_and_unlocked_again(desk, complaints):
    desk.click(1)
    desk.key("R")
    assert len(desk.session.proofreading.in_force) == 1
    desk.mode("Merge")
    desk.click(1, 2)
    assert complaints == ["Segment 1 is marked correct, and locked; unlock it to change it."]
    assert desk.tools.plan is None
    desk.mode("Pick")
    desk.click(1)
    assert desk.tools.lock.text() == "Unlock"
    assert "marked correct" in desk.tools.words.text()
    press(desk.qtbot, desk.tools.lock)
    desk.rest()
    desk.mode("Merge")
    desk.click(1, 2)
    desk.key("Enter")
    assert len(set(segments_of(desk.table, 1, 2))) == 1


def test_a_second_point_in_the_same_segment_is_refused_and_the_first_stays(desk, complaints):
    desk.mode("Merge")
    desk.click(5, 5)
    assert "nothing to merge" in complaints[0]
    desk.click(4)
    assert desk.tools.plan is not None


def test_a_large_merge_asks_once_more(desk, monkeypatch):
    monkeypatch.setattr(proofread_tools, "LARGE", 18)
    before = desk.table
    desk.mode("Merge")
    desk.click(1, 2)
    desk.key("Enter")
    np.testing.assert_array_equal(desk.table, before)
    assert "once more" in desk.tools.words.text()
    desk.key("Enter")
    assert desk.table[1] == desk.table[2]


def test_a_fragment_is_isolated_and_a_segment_deleted_after_a_look(desk):
    desk.mode("Merge")
    desk.click(1, 2, 3)
    desk.key("Enter")
    desk.mode("Pick")
    desk.click(2)
    desk.key("I")
    assert desk.tools.plan.edit.kind == "detach"
    desk.key("Enter")
    one, two, three = segments_of(desk.table, 1, 2, 3)
    assert two not in (one, three)
    desk.click(2)
    desk.key("Delete")
    assert (np.asarray(desk.viewer.layers[MARKED].data[0])[0, 3:6] == 3).all()  # red
    desk.key("Delete")  # the same again does it
    assert desk.table[2] == 0


def test_a_painted_line_cuts_a_fragment_through_all_sections(desk):
    desk.viewer.dims.set_point(0, 0)
    desk.key("K")
    line = desk.viewer.layers[LINE]
    assert line.mode == "paint"
    assert desk.viewer.layers.selection.active is line
    line.data[0, 0:3, 1] = 1  # through fragment 1, in the first of its two sections
    desk.key("Enter")
    assert desk.tools.plan.edit.kind == "cut"
    marked = np.asarray(desk.viewer.layers[MARKED].data[:2, :3, :3])
    assert set(np.unique(marked)) == {1, 2}
    desk.key("Enter")
    shown = np.asarray(desk.viewer.layers[SEGMENTS].data[:2, :3, :3])
    assert len(np.unique(shown)) == 2
    left, right = shown[:, :, 0], shown[:, :, 2]  # in both sections
    assert (len(np.unique(left)), len(np.unique(right))) == (1, 1)
    assert left[0, 0] != right[0, 0]
    desk.key("Control-Z")
    assert len(np.unique(np.asarray(desk.viewer.layers[SEGMENTS].data[:2, :3, :3]))) == 1
    desk.key("Q")
    assert LINE not in desk.viewer.layers


def stroke(line, *voxels):
    """Paint as a drag of the brush does: one stroke."""
    line.brush_size = 1
    with line.block_history():
        for voxel in voxels:
            line.paint(voxel, 1)


def test_what_a_line_divides_is_seen_after_each_stroke_and_a_stroke_can_be_taken_back(desk, complaints):
    before = desk.table
    desk.viewer.dims.set_point(0, 0)
    desk.key("K")
    line = desk.viewer.layers[LINE]
    stroke(line, (0, 0, 1), (0, 1, 1))  # does not reach the other edge of fragment 1
    desk.rest()
    assert desk.tools.plan is None
    assert "does not divide fragment 1" in desk.tools.words.text()
    stroke(line, (0, 2, 1))
    desk.rest()
    assert desk.tools.plan.edit.kind == "cut"
    assert set(np.unique(desk.viewer.layers[MARKED].data[:2, :3, :3])) == {1, 2}
    assert desk.viewer.layers.selection.active is line  # the brush stays at hand
    assert "It would fall into 10 and 8 voxels" in desk.tools.words.text()
    stroke(line, (0, 3, 1), (0, 4, 1), (0, 5, 1), (0, 3, 2), (0, 4, 2), (0, 5, 2))  # more of it in fragment 6
    desk.rest()
    assert desk.tools.plan is None or desk.tools.plan.edit.division.fragment == 6  # never what was planned before
    desk.key("Backspace")
    assert desk.tools.plan.edit.division.fragment == 1
    desk.key("Backspace")
    assert desk.tools.plan is None
    assert not desk.viewer.layers[MARKED].visible
    desk.key("Backspace")
    assert "Nothing is painted" in desk.tools.words.text() or "Paint a line" in desk.tools.words.text()
    np.testing.assert_array_equal(desk.table, before)
    assert complaints == []


def test_the_button_of_the_side_views_opens_and_closes_them(desk):
    press(desk.qtbot, desk.panel.sides)
    views = desk.panel.sides.views
    assert views is not None
    assert "Side views" in desk.viewer.window.dock_widgets
    press(desk.qtbot, desk.panel.sides)
    assert "Side views" not in desk.viewer.window.dock_widgets


def test_the_slider_moves_with_edits_applied(desk):
    desk.mode("Merge")
    desk.click(1, 40)
    desk.key("Enter")
    with Proofreading.open(desk.session.project.segmentation, read_only=True) as proofreading:
        for threshold in (0.3, 0.55, 0.9):
            desk.session.move_threshold(threshold)
            desk.qtbot.waitUntil(lambda t=threshold: desk.viewer.layers[SEGMENTS].data.threshold == t)
            desk.rest()
            np.testing.assert_array_equal(desk.table, proofreading.table(threshold))
            assert desk.table[1] == desk.table[40]


def test_the_history_leads_to_places_and_back_in_time(desk):
    desk.mode("Merge")
    tables = [desk.table]
    for u, v in ((1, 2), (23, 24), (11, 12)):
        desk.click(u, v)
        desk.key("Enter")
        tables.append(desk.table)
    history = desk.panel.history
    rows = [history.model.index(row).data() for row in range(3)]
    assert "merged at 0, 6, 0" in rows[0]
    desk.viewer.dims.set_point(0, 0)
    history.list.setCurrentIndex(history.model.index(1))
    history.list.clicked.emit(history.model.index(1))
    assert desk.viewer.dims.point[0] == 2 * 40
    history.list.setCurrentIndex(history.model.index(2))
    press(desk.qtbot, history.back)
    desk.rest()
    np.testing.assert_array_equal(desk.table, tables[1])
    assert [history.model.index(row).data().endswith("(undone)") for row in range(3)] == [True, True, False]
    desk.key("Control-Shift-Z")
    np.testing.assert_array_equal(desk.table, tables[2])


def test_a_remark_is_kept_with_its_place(desk):
    desk.click(7)
    desk.tools.text.setText("what is this?")
    press(desk.qtbot, desk.tools.comment)
    desk.rest()
    (edit,) = desk.session.proofreading.history.active()
    assert (edit.kind, edit.text, edit.places) == ("comment", "what is this?", ((at(7),),))
    assert "what is this?" in desk.panel.history.model.index(0).data()
    assert desk.tools.text.text() == ""


def test_a_suggestion_is_flown_to_accepted_rejected_and_skipped(desk, complaints):
    queue = desk.panel.queue
    press(desk.qtbot, queue.look)
    desk.rest()
    first = queue.current
    assert first is not None
    assert desk.viewer.dims.point[0] == pytest.approx(first.place[0] * 40)
    colours = desk.viewer.layers[MARKED].data._table
    assert [int(colours[fragment]) for fragment in first.suggestion.fragments] == [1, 2]
    assert f"{first.suggestion.reason.capitalize()}" in queue.words.text()
    assert "left" in queue.left.text()
    together = first.suggestion.kind == "merge"
    desk.key("G")
    u, v = first.suggestion.fragments
    assert (desk.table[u] == desk.table[v]) == together
    second = queue.current
    desk.key("W")
    assert len(desk.session.proofreading.in_force) == 1
    third = queue.current
    assert third.suggestion.fragments != second.suggestion.fragments
    desk.key("H")
    assert queue.current.suggestion.fragments != third.suggestion.fragments
    assert len(desk.session.proofreading.in_force) == 1
    assert complaints == []
    queue.forget()
    queue.begin()
    desk.rest()
    shown = {s.fragments for s in list(queue._search.found)[:2000]}
    assert second.suggestion.fragments not in shown  # rejected, and that is kept
    assert third.suggestion.fragments in shown


@pytest.mark.parametrize("key", ["G", "W", "H"])
def test_a_key_that_is_held_down_answers_one_suggestion(desk, complaints, key):
    queue = desk.panel.queue
    press(desk.qtbot, queue.look)
    desk.rest()
    first = queue.current
    answer = queue.actions()[key]
    for _ in range(3):
        answer()  # before the next one is in view
    desk.rest()
    edits, kept = desk.session.proofreading.in_force, queue._answers or []
    assert (len(edits), len(kept), complaints) == (int(key == "G"), int(key != "H"), [])
    assert queue.current.suggestion.fragments != first.suggestion.fragments
    answer()
    desk.rest()
    assert len(queue._answers or []) == 2 * int(key != "H"), "the next one counts again"


def test_nothing_is_accepted_that_is_not_in_view(desk):
    queue = desk.panel.queue
    press(desk.qtbot, queue.look)
    desk.rest()
    desk.click(30)  # looks at something else
    desk.key("G")
    assert desk.session.proofreading.in_force == ()
    assert desk.viewer.layers[POINTED].visible  # it is shown again
    desk.key("G")
    assert len(desk.session.proofreading.in_force) == 1


def test_keys_work_only_while_the_step_is_shown(desk):
    desk.panel.hide()
    desk.key("J")
    assert desk.tools.mode == "Pick"
    desk.panel.show()
    desk.rest()
    desk.key("J")
    assert desk.tools.mode == "Merge"


def test_no_key_is_one_of_napari_s_for_the_viewer_images_or_labels():
    like_a_drawing = {"Enter", "Escape", "Backspace", "Delete"}
    words = ("image", "labels", "label", "points", "toggle", "increment", "brush", "slice", "contrast", "orient")
    theirs = {
        str(key)
        for name, keys in get_settings().shortcuts.shortcuts.items()
        if any(word in name for word in words) and "shape" not in name
        for key in keys
    }
    assert not ({key for key, _ in KEYS} - like_a_drawing) & theirs


def test_the_planned_edit_is_copied_as_a_command(desk, complaints):
    copy = desk.panel.copy.findChildren(type(desk.tools.do))[0]
    desk.mode("Merge")
    desk.click(1, 2)
    press(desk.qtbot, copy)
    text = QApplication.clipboard().text()
    assert text.startswith("napari-tokenunify proofread merge ")
    assert "0,0,0 0,0,3" in text
    desk.key("Escape")
    press(desk.qtbot, copy)
    assert QApplication.clipboard().text().startswith("napari-tokenunify proofread log ")


def test_a_drag_and_a_hidden_step_point_at_nothing(desk):
    desk.panel.hide()
    desk.click(3)
    assert MARKED not in desk.viewer.layers
    assert desk.tools.chosen is None


def test_a_damaged_file_of_edits_is_said_in_a_sentence(make_napari_viewer, qtbot, project, complaints):
    (project / "segmentation" / EDITS).write_bytes(b"no database" * 100)
    viewer = make_napari_viewer()
    bench = Workbench(viewer)
    panel = ProofreadPanel(bench)
    qtbot.addWidget(panel)
    bench.session.open_project(project)
    panel.show()
    qtbot.waitUntil(lambda: bool(complaints), timeout=PATIENCE_MS)
    assert "is damaged" in complaints[0]
    panel.hide()
    bench.close()


@pytest.mark.parametrize("key", [Qt.Key.Key_J])
def test_a_real_key_reaches_the_step(make_napari_viewer, qtbot, project, key):
    """Through Qt, with napari's window on the screen."""
    viewer = make_napari_viewer(show=True)
    bench = Workbench(viewer)
    panel = ProofreadPanel(bench)
    viewer.window.add_dock_widget(panel)
    bench.session.open_project(project)
    qtbot.waitUntil(lambda: bench.session.proofreading is not None, timeout=PATIENCE_MS)
    qtbot.keyClick(viewer.window._qt_window, key)
    assert panel.tools.mode == "Merge"
    panel.hide()
    bench.close()


@pytest.mark.flaky(reruns=2)  # a stall of ours comes every time; one of a busy disk does not
def test_the_event_loop_is_not_held_up_while_edits_are_planned_and_made(desk, monkeypatch):
    """But for napari's adding of a layer, which alone takes 0.1 s and more."""
    desk.mode("Merge")
    desk.click(1, 2)
    desk.key("Enter")
    longest = bearable(desk.viewer)
    with Stalls() as stalls:
        monkeypatch.setattr(ViewerModel, "add_layer", stalls.excusing(ViewerModel.add_layer))
        for u, v in ((6, 7), (11, 12), (16, 17)):
            desk.click(u, v)
            desk.key("Enter")
        desk.panel.queue.begin()
        desk.rest()
        for threshold in np.linspace(0, 1, 20):
            desk.session.move_threshold(float(threshold))
            desk.qtbot.wait(5)
        desk.rest()
    assert stalls.longest < longest, f"{stalls.longest:.3f} s\n{stalls.where}"


def test_segments_that_stand_out_are_seen_in_3d_in_their_colours(desk):
    desk.mode("Merge")
    desk.click(1, 2)
    desk.key("Enter")
    desk.mode("Split")
    desk.click(1)
    desk.key("T")
    desk.click(2)
    press(desk.qtbot, desk.panel.solid)
    desk.qtbot.waitUntil(lambda: desk.viewer.dims.ndisplay == 3, timeout=60_000)
    solids = [layer for layer in desk.viewer.layers if layer.name.startswith(SURFACE)]
    assert [layer.colormap.colors[0].tolist() for layer in solids] == [
        pytest.approx(COLOURS[1]),
        pytest.approx(COLOURS[2]),
    ]
    press(desk.qtbot, desk.panel.solid)
    assert desk.viewer.dims.ndisplay == 2
    assert not [layer for layer in desk.viewer.layers if layer.name.startswith(SURFACE)]
    assert desk.viewer.layers.selection.active is desk.viewer.layers[SEGMENTS]
    assert desk.tools.plan is not None


def test_while_edits_are_carried_over_none_is_made(desk, complaints, monkeypatch):
    desk.mode("Merge")
    desk.click(1, 2)
    monkeypatch.setattr(Session, "is_carrying", True)
    desk.key("Enter")
    assert "wait a moment" in complaints[0]
    assert desk.session.proofreading.in_force == ()


def test_an_error_of_ours_leaves_the_edits_after_it_possible(desk, qtbot):
    told = []
    desk.editing.failed.connect(told.append)

    def fault(proofreading):
        raise ValueError("odd")

    desk.editing.ask(desk.panel, fault, lambda _: None)
    desk.rest()
    assert told == ["Something went wrong that should not: ValueError: odd"]
    desk.mode("Merge")
    desk.click(1, 2)
    press(qtbot, desk.tools.do)
    desk.rest()
    assert desk.table[1] == desk.table[2]


def test_all_who_wait_hear_that_edits_cannot_be_opened(desk, monkeypatch):
    refused, told = [], []

    def locked(*_, **__):
        raise ProofreadError("The edits are locked.")

    desk.session._open_one.close_edits()
    monkeypatch.setattr(Proofreading, "open", locked)
    desk.editing.failed.connect(told.append)
    for _ in range(2):
        desk.editing.ask(desk.panel, lambda _: None, lambda _: None, refused.append)
        desk.editing.ask(desk.panel, lambda _: None, lambda _: None)
    desk.rest()
    assert refused == ["The edits are locked."] * 2
    assert told == ["The edits are locked."], "the user, once"
