from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt

from napari_tokenunify.data import open_annotations
from napari_tokenunify.gui.annotate_panel import AnnotatePanel
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.gui.suggest_places import FRAME
from napari_tokenunify.segment import write_affinities
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

SHAPE = (16, 96, 96)
SIZE = (40.0, 4.0, 4.0)


@pytest.fixture
def session(tmp_path):
    np.save(tmp_path / "raw.npy", np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    return session


@pytest.fixture
def show(make_napari_viewer, qtbot):
    held = []

    def show(session, folder=None):
        viewer = make_napari_viewer()
        layers = ProjectLayers(viewer, session)
        panel = AnnotatePanel(viewer, session, layers)
        qtbot.addWidget(panel)
        panel.viewer = viewer
        held.extend([panel, layers])
        session.open_project(folder or session.project.folder)
        panel.resize(380, 700)
        panel.show()
        return panel

    return show


@pytest.fixture
def labels():
    labels = np.zeros(SHAPE, np.uint32)
    labels[4:6, 10:50, 10:50] = 3
    labels[4:6, 10:50, 50:90] = 9
    return labels


def press(qtbot, button):
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def type_key(panel, key):
    """As if the key was pressed over the canvas."""
    from napari.utils.key_bindings import coerce_keybinding

    layer = panel.viewer.layers.selection.active
    binding = coerce_keybinding(key)
    action = layer.keymap.get(binding) or type(layer).class_keymap.get(binding)
    action(layer)


def counted(qtbot, panel, text):
    qtbot.waitUntil(lambda: text in panel.about.text(), timeout=20_000)


def said(before):
    return [str(record.message) for record in notification_manager.records[before:]]


def test_the_keys_choose_ids_that_nobody_has(show, session, qtbot):
    panel = show(session)
    press(qtbot, panel.paint)
    layer = panel.labels
    assert panel.viewer.layers.selection.active is layer
    type_key(panel, "N")
    assert layer.selected_label == 1
    layer.paint((8, 20, 20), 1)
    type_key(panel, "B")
    assert (layer.selected_label, session.state.boundary_id) == (2, 2)
    layer.paint((8, 30, 20), 2)
    type_key(panel, "N")
    assert layer.selected_label == 3
    type_key(panel, ",")
    assert layer.selected_label == 2
    for _ in range(4):
        type_key(panel, ",")
    assert layer.selected_label == 1  # and not 0, which erases
    type_key(panel, ".")
    assert layer.selected_label == 2
    type_key(panel, "Shift-B")
    assert layer.preserve_labels
    type_key(panel, "M")  # napari's own key for this
    assert layer.selected_label == 3


def test_the_keys_of_the_brush_are_on_no_other_layer(show, session, qtbot):
    panel = show(session)
    other = panel.viewer.add_labels(np.zeros(SHAPE, np.uint8), name="other")
    press(qtbot, panel.paint)
    assert panel.labels.keymap
    assert not other.keymap


def test_a_panel_that_is_opened_later_knows_what_is_painted(show, session, qtbot):
    first = show(session)
    press(qtbot, first.neuron)
    first.labels.paint((8, 20, 20), 1)
    later = AnnotatePanel(first.viewer, session, first._layers)
    qtbot.addWidget(later)
    counted(qtbot, later, "1 neuron<")
    press(qtbot, later.neuron)
    assert later.labels is first.labels
    assert later.labels.selected_label == 2


def test_after_napari_was_closed_a_new_neuron_has_a_new_id_and_keys_work(show, session, qtbot):
    panel = show(session)
    press(qtbot, panel.neuron)
    panel.labels.selected_label = 41
    panel.labels.paint((8, 20, 20), 41)
    again = Session()
    panel = show(again, session.project.folder)
    counted(qtbot, panel, "1 neuron<")
    panel.viewer.layers.selection.active = panel.labels
    type_key(panel, "N")
    assert panel.labels.selected_label == 42


def test_a_new_neuron_waits_for_the_first_count(show, session, qtbot):
    store = session.painted_labels()
    import zarr

    zarr.open_array(store, mode="r+")[3, 5, 5] = 70
    panel = show(session)
    press(qtbot, panel.neuron)
    qtbot.waitUntil(lambda: panel.labels.selected_label == 71, timeout=20_000)


def test_painting_is_counted_by_itself_and_undo_too(show, session, qtbot):
    panel = show(session)
    press(qtbot, panel.neuron)
    layer = panel.labels
    layer.brush_size = 15
    panel.viewer.dims.set_point(0, 6 * 40)
    layer.paint((6, 40, 30), 1)
    counted(qtbot, panel, "<b>1 neuron</b> in 1 of 16 sections")
    press(qtbot, panel.neuron)
    layer.paint((6, 40, 45), 2)
    counted(qtbot, panel, "<b>2 neurons</b>")
    assert "Known pairs: " in panel.about.text()
    assert panel.strip._labelled == (6,)
    layer.undo()
    counted(qtbot, panel, "<b>1 neuron</b>")


def test_slips_of_the_brush_are_listed_and_enter_leads_there(show, session, qtbot):
    panel = show(session)
    press(qtbot, panel.neuron)
    panel.labels.brush_size = 15
    panel.labels.paint((6, 40, 30), 1)
    panel.labels.data_setitem((np.array([11]), np.array([70]), np.array([80])), 2)
    counted(qtbot, panel, "2 neurons")
    texts = [panel.findings.item(row).text() for row in range(panel.findings.count())]
    tiny = next(row for row, text in enumerate(texts) if "fewer than 10 voxels" in text)
    panel.findings.setCurrentRow(tiny)
    qtbot.keyClick(panel.findings, Qt.Key.Key_Return)
    assert panel.viewer.dims.point[0] == 11 * 40
    camera = getattr(panel.viewer, "scene", panel.viewer).camera
    assert camera.center[-2:] == (280, 320)


def test_the_strip_follows_the_viewer_and_leads_it(show, session, qtbot):
    panel = show(session)
    panel.viewer.dims.set_point(0, 5 * 40)
    assert panel.strip._shown == 5
    width = panel.strip.width()
    qtbot.mouseClick(panel.strip, Qt.MouseButton.LeftButton, pos=QPoint(width - 7, 15))
    assert panel.viewer.dims.point[0] == 15 * 40
    qtbot.keyClick(panel.strip, Qt.Key.Key_Left)
    assert panel.viewer.dims.point[0] == 14 * 40
    panel.strip.show_labelled(16, (2, 9))
    qtbot.keyClick(panel.strip, Qt.Key.Key_PageUp)
    assert panel.viewer.dims.point[0] == 9 * 40


def test_labels_of_a_file_are_used_shown_and_not_painted_on(show, session, labels, qtbot, tmp_path):
    np.save(tmp_path / "labels.npy", labels)
    panel = show(session)
    press(qtbot, panel.paint)
    panel.existing.take_file(str(tmp_path / "labels.npy"))
    counted(qtbot, panel, "<b>2 neurons</b> in 2 of 16 sections")
    assert session.annotations == str(tmp_path / "labels.npy")
    layer = panel.viewer.layers["annotations"]
    assert not layer.editable
    np.testing.assert_array_equal(np.asarray(layer.data), labels)
    np.testing.assert_array_equal(layer.scale, SIZE)
    assert not panel.neuron.isEnabled()
    assert "labels.npy" in panel.source.text()
    press(qtbot, panel.paint)  # "Paint instead"
    assert session.state.annotations is None
    assert panel.labels.editable
    assert not np.asarray(panel.labels.data).any()
    assert panel.neuron.isEnabled()


def test_labels_that_do_not_fit_are_a_notification(show, session, qtbot, tmp_path):
    np.save(tmp_path / "labels.npy", np.ones((2, 3, 4), np.uint8))
    panel = show(session)
    before = len(notification_manager.records)
    panel.use(str(tmp_path / "labels.npy"))
    qtbot.waitUntil(lambda: len(said(before)) == 1, timeout=10_000)
    assert "give the labels that were made on this volume" in said(before)[0]
    assert session.state.annotations is None


def choose_layer(panel, name):
    panel.existing.layers.setCurrentText(name)
    assert panel.existing.layers.currentText() == name


def test_a_labels_layer_in_memory_is_kept_in_the_project(show, session, labels, qtbot):
    panel = show(session)
    assert not panel.existing.take.isEnabled()
    panel.viewer.add_labels(labels, name="mine")
    choose_layer(panel, "mine")
    press(qtbot, panel.existing.take)
    counted(qtbot, panel, "<b>2 neurons</b>")
    kept = open_annotations(session.annotations, session.volume)
    np.testing.assert_array_equal(np.asarray(kept.labels.dask()), labels)
    assert session.annotations.startswith(str(session.project.folder))


def test_a_lazy_labels_layer_is_read_from_its_file(show, session, labels, qtbot, tmp_path):
    import zarr

    zarr.save_array(tmp_path / "labels.zarr", labels)
    panel = show(session)
    panel.viewer.add_labels(zarr.open_array(tmp_path / "labels.zarr", mode="r"), name="lazy")
    choose_layer(panel, "lazy")
    press(qtbot, panel.existing.take)
    counted(qtbot, panel, "<b>2 neurons</b>")
    assert session.annotations == str(tmp_path / "labels.zarr")


def test_points_are_taken_where_they_are_seen_with_their_neurons(show, session, qtbot):
    panel = show(session)
    world = np.array([[160.0, 40, 40], [160, 80, 40], [240, 40, 200]])
    panel.viewer.add_points(world, name="somata", features={"id": [5, 5, 8]})
    choose_layer(panel, "somata")
    press(qtbot, panel.existing.take)
    counted(qtbot, panel, "<b>2 neurons</b> in 2 of 16 sections")
    kept = np.asarray(open_annotations(session.annotations, session.volume).labels.dask())
    assert (kept[4, 10, 10], kept[4, 20, 10], kept[6, 10, 50]) == (5, 5, 8)


def test_points_without_whole_ids_are_refused_in_one_sentence(show, session, qtbot):
    panel = show(session)
    panel.viewer.add_points(np.ones((2, 3)), name="somata", features={"id": [1.5, 2]})
    choose_layer(panel, "somata")
    before = len(notification_manager.records)
    press(qtbot, panel.existing.take)
    assert "must hold whole numbers from 1" in said(before)[0]


def test_skeletons_are_put_into_voxels_with_the_unit_that_was_chosen(show, session, qtbot, tmp_path):
    text = "1 0 20 40 220 1 -1\n2 0 300 40 220 1 1\n"  # number, type, x, y, z in nm, radius, parent
    (tmp_path / "a.swc").write_text(text)
    panel = show(session)
    assert panel.existing.unit.currentText() == "nm"
    panel.existing.take_file(str(tmp_path / "a.swc"))
    counted(qtbot, panel, "<b>1 neuron</b> in 1 of 16 sections")
    kept = np.asarray(open_annotations(session.annotations, session.volume).labels.dask())
    assert kept[5, 10, 5:74].all()


def test_the_most_doubtful_place_is_suggested_and_framed(show, session, qtbot):
    affinities = np.ones((3, *SHAPE), np.float32)
    affinities[:, 8:12, 48:, 48:] = 0.5
    panel = show(session)
    assert not panel.suggest.button.isEnabled()
    write_affinities(session.project.affinities, affinities, voxel_size_nm=SIZE)
    session.affinities_changed.emit(session.project.affinities)
    press(qtbot, panel.paint)
    press(qtbot, panel.suggest.button)
    qtbot.waitUntil(lambda: FRAME in panel.viewer.layers, timeout=20_000)
    frame = panel.viewer.layers[FRAME]
    assert panel.viewer.layers.selection.active is panel.labels  # the brush stays in the hand
    assert frame.translate[0] <= panel.viewer.dims.point[0] <= frame.translate[0] + frame.data.shape[0] * 40
    assert 8 * 40 <= panel.viewer.dims.point[0] < 12 * 40
    assert "Place 1 of " in panel.suggest.about.text()
    first = tuple(frame.translate)
    press(qtbot, panel.suggest.button)
    if "Place 2 of" in panel.suggest.about.text():
        assert tuple(frame.translate) != first


def test_what_is_annotated_is_not_suggested(show, session, qtbot, tmp_path):
    write_affinities(session.project.affinities, np.full((3, *SHAPE), 0.5, np.float32), voxel_size_nm=SIZE)
    np.save(tmp_path / "labels.npy", np.ones(SHAPE, np.uint8))
    panel = show(session)
    panel.use(str(tmp_path / "labels.npy"))
    counted(qtbot, panel, "1 neuron")
    press(qtbot, panel.suggest.button)
    qtbot.waitUntil(lambda: "No place was found" in panel.suggest.about.text(), timeout=20_000)


def test_every_button_can_be_reached_by_keyboard(show, session):
    panel = show(session)
    panel.viewer.add_labels(np.zeros(SHAPE, np.uint8), name="other")
    panel.findings.show()
    seen, widget = [], panel.paint
    for _ in range(40):
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(panel):
            seen.append(widget)
        widget = widget.nextInFocusChain()
    existing = panel.existing
    wanted = [panel.paint, panel.neuron, panel.boundary, panel.boundary_id, panel.strip, panel.findings, panel.look]
    wanted += [panel.suggest.button, existing.file, existing.layers, existing.take, existing.unit]
    assert [widget for widget in seen if widget in wanted][: len(wanted)] == wanted


def test_a_layer_that_is_refused_leaves_the_labels_that_are_used_as_they_are(show, session, labels, qtbot):
    panel = show(session)
    panel.viewer.add_labels(labels, name="mine")
    panel.viewer.add_labels(labels[:4], name="torn")
    choose_layer(panel, "mine")
    press(qtbot, panel.existing.take)
    counted(qtbot, panel, "<b>2 neurons</b>")
    used, before = session.annotations, len(notification_manager.records)
    choose_layer(panel, "torn")
    press(qtbot, panel.existing.take)
    qtbot.waitUntil(lambda: bool(said(before)), timeout=10_000)
    assert session.annotations == used
    np.testing.assert_array_equal(np.asarray(open_annotations(used, session.volume).labels.dask()), labels)
    choose_layer(panel, "mine")
    press(qtbot, panel.existing.take)
    qtbot.waitUntil(lambda: session.annotations != used, timeout=10_000)
    names = sorted(path.name for path in session.project.kept.iterdir())
    assert names == ["labels-1.npy", "labels-2.npy"]  # the one that was refused is gone


def test_a_layer_keeps_being_the_chosen_one_when_it_is_renamed(show, session, labels):
    panel = show(session)
    panel.viewer.add_labels(labels, name="other")
    layer = panel.viewer.add_labels(labels, name="mine")
    choose_layer(panel, "mine")
    layer.name = "better name"
    assert panel.existing.layers.currentText() == "better name"


@pytest.mark.parametrize(("unit", "nm"), [("um", 1000), ("nm", 1), ("angstrom", 0.1)])
def test_points_may_count_in_any_unit_of_length(show, session, qtbot, unit, nm):
    panel = show(session)
    world = np.array([[160.0, 40, 40], [160, 80, 40], [240, 40, 200]]) / nm
    panel.viewer.add_points(world, name="somata", features={"id": [5, 5, 8]}, units=(unit,) * 3)
    choose_layer(panel, "somata")
    press(qtbot, panel.existing.take)
    counted(qtbot, panel, "<b>2 neurons</b> in 2 of 16 sections")
    kept = np.asarray(open_annotations(session.annotations, session.volume).labels.dask())
    assert (kept[4, 10, 10], kept[4, 20, 10], kept[6, 10, 50]) == (5, 5, 8)


def test_points_in_units_that_are_no_lengths_are_refused(show, session, qtbot):
    panel = show(session)
    panel.viewer.add_points(np.ones((2, 3)), name="somata", units=("second", "um", "um"))
    choose_layer(panel, "somata")
    before = len(notification_manager.records)
    press(qtbot, panel.existing.take)
    assert "counts in second, micrometer, which cannot be compared with the image's nm" in said(before)[0]
