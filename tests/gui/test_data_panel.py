from __future__ import annotations

from threading import Event, get_ident

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog

from napari_tokenunify.data import check_volume
from napari_tokenunify.gui.data_panel import DataPanel
from napari_tokenunify.gui.kept_layers import Nodes
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

SHAPE = (24, 64, 64)


@pytest.fixture
def image():
    """Something like tissue, with a blank section."""
    image = np.random.default_rng(0).integers(60, 200, SHAPE).astype(np.uint8)
    image[9] = 0
    return image


@pytest.fixture
def open_panel(make_napari_viewer, qtbot):
    held = []

    def open_panel(viewer=None):
        viewer = viewer or make_napari_viewer()
        session = Session()
        layers = ProjectLayers(viewer, session)
        panel = DataPanel(viewer, session)
        qtbot.addWidget(panel)
        panel.session, panel.viewer = session, viewer
        held.extend([panel, layers])
        panel.show()
        return panel

    return open_panel


def press(qtbot, button):
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def read(qtbot, panel, *paths):
    panel.open_path(*paths)
    qtbot.waitUntil(panel.file.isEnabled, timeout=10_000)


def drop(panel, *paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPoint(5, 5).toPointF(),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    panel.dropEvent(event)


def started(qtbot, panel, folder, size="40,4,4"):
    panel.folder.setText(str(folder))
    if size:
        panel.voxel_size.setText(size)
    press(qtbot, panel.start)
    qtbot.waitUntil(lambda: panel.session.is_open, timeout=10_000)


def checked(qtbot, panel):
    qtbot.waitUntil(lambda: panel.check.button.isEnabled() and panel.check.about.isVisible(), timeout=20_000)


def test_a_new_project_is_checked_by_itself_and_a_finding_leads_to_its_section(
    open_panel, image, qtbot, tmp_path, monkeypatch
):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "raw.npy"), ""))
    panel.file.menu().actions()[0].trigger()
    qtbot.waitUntil(panel.file.isEnabled, timeout=10_000)
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    texts = [panel.check.findings.item(row).text() for row in range(panel.check.findings.count())]
    blank = next(row for row, text in enumerate(texts) if "Blank: section 9" in text)
    assert texts[blank].startswith("Warning: ")
    panel.check.findings.setCurrentRow(blank)
    qtbot.keyClick(panel.check.findings, Qt.Key.Key_Return)
    assert panel.viewer.dims.point[0] == 9 * 40


def test_what_was_checked_is_shown_again_and_not_computed_again(open_panel, image, qtbot, tmp_path, monkeypatch):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npy"))
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    before = panel.check.findings.count()
    assert before
    monkeypatch.setattr("napari_tokenunify.data.check_volume", lambda volume: pytest.fail("was computed again"))
    again = open_panel()
    drop(again, tmp_path / "p.tokenunify")
    qtbot.waitUntil(lambda: again.session.is_open, timeout=10_000)
    assert again.check.findings.count() == before
    assert again.check.button.text() == "&Check the data again"


def test_the_check_can_be_run_again_by_its_button(open_panel, image, qtbot, tmp_path):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npy"))
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    (tmp_path / "p.tokenunify" / "check.json").write_text("torn")
    press(qtbot, panel.check.button)
    checked(qtbot, panel)
    expected = drive(check_volume(panel.session.volume))
    assert panel.check.findings.count() == len(expected)


def drive(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def test_a_voxel_size_that_is_not_known_is_asked_for_where_one_looks(open_panel, image, qtbot, tmp_path):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    assert not panel.start.isEnabled()
    drop(panel, tmp_path / "raw.npy")
    qtbot.waitUntil(panel.file.isEnabled, timeout=10_000)
    assert panel.image.currentText() == "raw"
    assert not panel.start.isEnabled()
    assert "give it, or tick" in panel.hint.text()
    assert "border" in panel.voxel_size.styleSheet()
    panel.voxel_size.setText("40,4")
    assert "is no voxel size" in panel.hint.text()
    assert not panel.start.isEnabled()
    panel.voxel_size.setText("40,4,4")
    assert panel.start.isEnabled()
    assert not panel.hint.isVisible()
    panel.voxel_size.clear()
    qtbot.mouseClick(panel.not_known, Qt.MouseButton.LeftButton, pos=QPoint(8, panel.not_known.height() // 2))
    assert panel.not_known.isChecked()
    started(qtbot, panel, tmp_path / "p.tokenunify", size="")
    assert panel.session.volume.voxel_size_nm is None
    assert "of unknown nm" in panel.about.text()
    checked(qtbot, panel)


def test_what_the_file_says_of_the_voxel_size_stays_as_exact_as_it_is(open_panel, image, qtbot, tmp_path):
    np.savez(tmp_path / "raw.npz", raw=image, meta='{"voxel_size_nm": [40.123456789, 4, 4]}')
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npz"))
    assert panel.voxel_size.text() == "40.1235,4,4"
    started(qtbot, panel, tmp_path / "p.tokenunify", size="")
    assert panel.session.volume.voxel_size_nm == (40.123456789, 4, 4)
    checked(qtbot, panel)


def test_a_size_that_another_reader_passed_over_is_found_in_the_file(open_panel, image, qtbot, tmp_path):
    np.savez(tmp_path / "raw.npz", raw=image, meta='{"voxel_size_nm": [50, 5, 5]}')
    panel = open_panel()
    panel.viewer.add_image(image, name="seen", metadata={"tokenunify": {"uri": f"{tmp_path / 'raw.npz'}::raw"}})
    qtbot.waitUntil(lambda: panel.voxel_size.text() == "50,5,5", timeout=10_000)


@pytest.mark.parametrize("multiscale", [False, True])
def test_an_image_in_memory_is_kept_in_the_project(open_panel, image, qtbot, tmp_path, multiscale):
    panel = open_panel()
    data = [image, image[:, ::2, ::2]] if multiscale else image
    panel.viewer.add_image(data, name="mine", multiscale=multiscale)
    started(qtbot, panel, tmp_path / "p.tokenunify")
    kept = panel.session.volume
    np.testing.assert_array_equal(np.asarray(kept.dask()), image)
    assert kept.uri == str(tmp_path / "p.tokenunify" / "image.npy")
    checked(qtbot, panel)


def test_a_file_with_levels_is_used_where_it_lies(open_panel, qtbot, tmp_path):
    from napari_tokenunify.data import synthetic_em, write_sample

    write_sample(tmp_path / "s.zarr", synthetic_em(shape=(16, 256, 256)))
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "s.zarr"))
    assert panel.viewer.layers["s"].multiscale
    started(qtbot, panel, tmp_path / "p.tokenunify", size="")
    assert panel.session.volume.shape == (16, 256, 256)
    assert not (tmp_path / "p.tokenunify" / "image.npy").exists()
    checked(qtbot, panel)


def test_lazy_data_without_a_file_are_refused_in_one_sentence(open_panel, image, qtbot, tmp_path):
    from napari.utils.notifications import notification_manager

    panel = open_panel()
    panel.viewer.add_image(da.from_array(image), name="lazy")
    panel.voxel_size.setText("40,4,4")
    panel.folder.setText(str(tmp_path / "p.tokenunify"))
    before = len(notification_manager.records)
    press(qtbot, panel.start)
    assert "lazy: is neither opened from a file" in str(notification_manager.records[before].message)
    assert not panel.session.is_open


def test_a_project_that_is_there_is_opened_and_keeps_its_image(open_panel, image, qtbot, tmp_path):
    panel = open_panel()
    panel.viewer.add_image(image, name="mine")
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    assert not panel.start.isEnabled()  # as it is open
    other = open_panel()
    other.viewer.add_image(image + 1, name="other")
    other.voxel_size.setText("40,4,4")
    other.folder.setText(str(tmp_path / "p.tokenunify"))
    assert other.start.text().replace("&", "") == "Open this project"
    press(qtbot, other.start)
    qtbot.waitUntil(lambda: other.session.is_open, timeout=10_000)
    checked(qtbot, other)
    assert other.session.project.folder == tmp_path / "p.tokenunify"
    np.testing.assert_array_equal(np.load(tmp_path / "p.tokenunify" / "image.npy"), image)


def test_a_project_is_proposed_beside_the_one_that_an_image_lies_in(open_panel, image, qtbot, tmp_path):
    panel = open_panel()
    panel.viewer.add_image(image, name="mine")
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    other = open_panel()
    read(qtbot, other, str(tmp_path / "p.tokenunify" / "image.npy"))
    assert other.folder.text() == str(tmp_path / "image.tokenunify")


def test_a_picture_in_colours_is_no_volume(open_panel, qtbot, tmp_path):
    from napari.utils.notifications import notification_manager

    panel = open_panel()
    panel.viewer.add_image(np.zeros((64, 80, 3), np.uint8), rgb=True, name="photo")
    panel.voxel_size.setText("40,4,4")
    panel.folder.setText(str(tmp_path / "p.tokenunify"))
    before = len(notification_manager.records)
    press(qtbot, panel.start)
    assert "photo: is neither opened from a file nor a 3-D array" in str(notification_manager.records[before].message)
    assert not panel.session.is_open


def test_another_layer_of_the_same_name_is_asked_for_its_own_voxel_size(open_panel, image):
    panel = open_panel()
    panel.viewer.add_image(image, name="stack")
    panel.voxel_size.setText("40,4,4")
    panel.viewer.layers.clear()
    panel.viewer.add_image(image + 1, name="stack")
    assert panel.voxel_size.text() == ""


def test_what_was_typed_stays_when_the_project_shows_its_image(open_panel, image, qtbot, tmp_path):
    panel = open_panel()
    panel.viewer.add_image(image, name="stack")
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    assert (panel.folder.text(), panel.voxel_size.text()) == (str(tmp_path / "p.tokenunify"), "40,4,4")


@pytest.mark.parametrize("text", ["~nobody-of-that-name/x", "long" * 100])
def test_a_folder_that_cannot_be_is_said_when_the_project_is_started(open_panel, image, qtbot, text):
    from napari.utils.notifications import notification_manager

    panel = open_panel()
    panel.viewer.add_image(image, name="stack")
    panel.voxel_size.setText("40,4,4")
    before = len(notification_manager.records)
    panel.folder.setText(text)
    assert len(notification_manager.records) == before
    press(qtbot, panel.start)
    qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=10_000)
    (record,) = notification_manager.records[before:]
    assert str(record.message).count("\n") == 0
    assert record.severity.value == "error"
    assert not panel.session.is_open


def test_every_field_can_be_reached_by_keyboard(open_panel, image, qtbot, tmp_path):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npy"))
    panel.voxel_size.setText("40,4,4")
    seen, widget = [], panel.file
    for _ in range(30):
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(panel) and widget.isEnabled():
            seen.append(widget)
        widget = widget.nextInFocusChain()
    wanted = [panel.file, panel.image, panel.voxel_size, panel.folder, panel.start, panel.open]
    assert [widget for widget in seen if widget in wanted][: len(wanted)] == wanted


def test_the_window_goes_on_while_an_image_is_opened(open_panel, image, qtbot, tmp_path, monkeypatch):
    from napari_tokenunify.gui import opening

    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npy"))
    far_away, inner, window = Event(), opening.open_volume, get_ident()

    def slowly(*args):
        assert get_ident() != window
        far_away.wait(10)
        return inner(*args)

    monkeypatch.setattr(opening, "open_volume", slowly)
    monkeypatch.setattr("napari_tokenunify.data.open_volume", slowly)
    panel.folder.setText(str(tmp_path / "p.tokenunify"))
    panel.voxel_size.setText("40,4,4")
    press(qtbot, panel.start)
    assert panel.start.text() == "Opening..."
    assert not panel.start.isEnabled()
    assert not panel.session.is_open
    far_away.set()
    qtbot.waitUntil(lambda: panel.session.is_open, timeout=10_000)
    assert panel.session.volume.shape == SHAPE
    checked(qtbot, panel)
    again = open_panel()
    drop(again, tmp_path / "p.tokenunify")
    qtbot.waitUntil(lambda: again.session.is_open, timeout=10_000)
    assert again.session.volume.shape == SHAPE


def test_several_files_may_be_dropped_and_one_that_is_no_image_is_told(open_panel, image, qtbot, tmp_path):
    from napari.utils.notifications import notification_manager

    np.save(tmp_path / "raw.npy", image)
    np.save(tmp_path / "more.npy", image)
    (tmp_path / "torn.npy").write_bytes(b"torn")
    panel = open_panel()
    before = len(notification_manager.records)
    drop(panel, tmp_path / "torn.npy", tmp_path / "raw.npy", tmp_path / "more.npy")
    qtbot.waitUntil(panel.file.isEnabled, timeout=10_000)
    assert [layer.name for layer in panel.viewer.layers] == ["raw", "more"]
    assert any("torn.npy" in str(record.message) for record in notification_manager.records[before:])


def test_a_project_whose_image_is_gone_is_opened_and_says_so(open_panel, image, qtbot, tmp_path):
    np.save(tmp_path / "raw.npy", image)
    panel = open_panel()
    read(qtbot, panel, str(tmp_path / "raw.npy"))
    started(qtbot, panel, tmp_path / "p.tokenunify")
    checked(qtbot, panel)
    (tmp_path / "raw.npy").unlink()
    other = open_panel()
    drop(other, tmp_path / "p.tokenunify")
    qtbot.waitUntil(lambda: other.session.is_open, timeout=10_000)
    assert "raw.npy" in other.about.text()


def test_an_image_in_memory_keeps_its_place_and_what_is_drawn_on_it(open_panel, image, qtbot, tmp_path):
    panel = open_panel()
    grid = {"scale": (0.04, 0.004, 0.004), "translate": (0.08, 0.04, 0.02), "units": ("um",) * 3}
    panel.viewer.add_image(image, name="mine", **grid)
    points = panel.viewer.add_points(np.array([[10, 20, 30], [3, 4, 5]]), name="somata", **grid)
    started(qtbot, panel, tmp_path / "p.tokenunify", size="")
    volume = panel.session.volume
    assert volume.voxel_size_nm == pytest.approx((40, 4, 4))
    assert volume.origin_nm == pytest.approx((80, 40, 20))
    np.testing.assert_array_equal(np.asarray(volume.dask()), image)
    np.testing.assert_allclose(Nodes.of(points, volume).voxels, points.data)
    shown = panel.viewer.layers["mine"]
    np.testing.assert_allclose(shown.world_to_data(points.data_to_world((10, 20, 30))), (10, 20, 30))
    checked(qtbot, panel)


def test_what_was_drawn_on_an_image_without_a_voxel_size_stays_on_it(open_panel, image, qtbot, tmp_path):
    panel = open_panel()
    panel.viewer.add_image(image, name="mine", translate=(5, 6, 7))
    points = panel.viewer.add_points(np.array([[10, 20, 30]]), name="somata", translate=(4, 6, 7))
    other = panel.viewer.add_points(np.array([[1, 2, 3]]), name="elsewhere", scale=(3, 3, 3))
    started(qtbot, panel, tmp_path / "p.tokenunify")
    np.testing.assert_allclose(Nodes.of(points, panel.session.volume).voxels, [[9, 20, 30]])
    assert tuple(other.scale) == (3, 3, 3)
    checked(qtbot, panel)
