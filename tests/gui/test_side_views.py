from __future__ import annotations

import threading
import time

import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from qtpy.QtCore import QPoint, Qt

from napari_tokenunify.gui import side_views
from napari_tokenunify.gui.look_at import stand_at
from napari_tokenunify.gui.side_picture import Plane, draw, shown_sources
from napari_tokenunify.gui.side_views import NAME, SideViewsButton
from napari_tokenunify.gui.view_box import middle_of
from napari_tokenunify.segment.fragment_store import SegmentView, StoredFragments
from tests.gui.stalls import Stalls, bearable
from tests.proofread.conftest import affinities, bars, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

SHAPE, SCALE = (20, 50, 60), (40.0, 4.0, 4.0)
PATIENCE_MS = 10_000


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)


@pytest.fixture
def opened(make_napari_viewer, qtbot, image):
    """A viewer with an image, and the side views open."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(image, scale=SCALE, contrast_limits=(0, 255))
    button = SideViewsButton(viewer)
    qtbot.addWidget(button)
    button.setChecked(True)
    settled(qtbot, button)
    return viewer, button


def settled(qtbot, button):
    qtbot.waitUntil(lambda: all(view.plane is not None for view in button.views.views), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not button.views.busy, timeout=PATIENCE_MS)


def drawn(sources, *planes, below=(0, 0, 0)):
    *_, pictures = finished(draw(sources, planes, below))
    return pictures


def finished(generator):
    while True:
        try:
            yield next(generator)
        except StopIteration as end:
            yield end.value
            return


def slowly(viewer, plane, below):
    """Draw a plane pixel by pixel, as napari says it: what each layer has at a place, laid over what is below."""
    picture = np.zeros((*plane.size, 3))
    for row, column in np.ndindex(plane.size):
        colour = np.array(below, float)
        for layer in viewer.layers:
            voxel = np.floor(layer.world_to_data(plane.at(row + 0.5, column + 0.5)) + 0.5).astype(int)
            if not layer.visible or (voxel < 0).any() or (voxel >= layer.data.shape[:3]).any():
                continue
            value = np.asarray(layer.data)[tuple(voxel)]
            if hasattr(layer, "contrast_limits"):
                low, high = layer.contrast_limits
                value = (float(value) - low) / (high - low)
            found = np.asarray(layer.colormap.map(np.atleast_1d(value))).reshape(4)
            alpha = found[3] * layer.opacity
            kept = colour if layer.blending == "additive" else colour * (1 - alpha)
            colour = kept + alpha * found[:3]
        picture[row, column] = colour
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(("along", "axes"), [(1, (0, 2)), (2, (0, 1)), (0, (2, 1))])
def test_a_picture_is_what_napari_s_layers_have_there(make_napari_viewer, image, along, axes):
    viewer = make_napari_viewer()
    viewer.add_image(image, scale=SCALE, contrast_limits=(10, 200))
    ids = np.random.default_rng(1).integers(0, 9, (6, 20, 20)).astype(np.uint64)
    viewer.add_labels(ids, scale=SCALE, translate=(160, 40, 80), opacity=0.4)
    viewer.add_image(image[:8], scale=SCALE, colormap="magenta", blending="additive", opacity=0.7)
    viewer.add_image(image, visible=False)
    plane = Plane(along, axes, (250.0, 90.0, 120.0), (23, 31), 0.09)
    (picture,) = drawn(shown_sources(viewer), plane, below=(0.2, 0.4, 0.6))
    expected = slowly(viewer, plane, (0.2, 0.4, 0.6))
    assert (expected != expected[0, 0]).any()
    np.testing.assert_allclose(picture, expected, atol=2)  # napari's colours have 256 steps here


def test_painted_colours_and_colour_images_are_shown_too(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.add_image(np.full((4, 4, 4, 3), (255, 128, 0), np.uint8), rgb=True)
    plane = Plane(1, (0, 2), (1.5, 1.5, 1.5), (4, 4), 1.0)
    (picture,) = drawn(shown_sources(viewer), plane)
    assert (picture == (255, 128, 0)).all()
    ids = np.full((4, 4, 4), 2**40, np.int64)
    viewer.add_labels(ids, colormap={None: "transparent", 2**40: "blue"}, opacity=1.0)
    (picture,) = drawn(shown_sources(viewer), plane)
    assert (picture == (0, 0, 255)).all()


def test_of_several_levels_the_one_is_read_that_the_screen_can_show(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.add_image([np.full((32,) * 3, 0, np.uint8), np.full((16,) * 3, 255, np.uint8)], contrast_limits=(0, 255))
    near = Plane(1, (0, 2), (16.0, 16.0, 16.0), (8, 8), 1.0)
    far = Plane(1, (0, 2), (16.0, 16.0, 16.0), (8, 8), 0.5)
    close, wide = drawn(shown_sources(viewer), near, far)
    assert (close == 0).all()
    assert (wide == 255).all()


def test_segments_are_read_beside_the_window_and_dask_keeps_what_napari_wants(make_napari_viewer, master):  # noqa: F811
    viewer = make_napari_viewer()
    fragments = StoredFragments(master / "fragments.zarr", 40)
    table = np.arange(41, dtype=np.uint64)
    segments = SegmentView(fragments, table)
    viewer.add_labels(segments, name="segments")
    lazy = da.zeros(segments.shape, chunks=2, dtype=np.uint8)
    viewer.add_image(lazy, contrast_limits=(0, 1), blending="additive")
    sources = shown_sources(viewer)
    segments.set_table(table[::-1].copy())  # moved while the picture is made
    plane = Plane(1, (0, 2), (1.0, 4.0, 7.0), (4, 15), 1.0)
    seen = []
    with fragments._lock, Callback(start=seen.append):  # who waits for the window would hang here
        (picture,) = drawn(sources, plane)
    ids = np.asarray(fragments[:, 4, :])
    expected = viewer.layers["segments"].colormap.map(ids)
    expected = np.rint(expected[..., :3] * expected[..., 3:] * viewer.layers["segments"].opacity * 255)
    np.testing.assert_allclose(picture, expected[:, :15], atol=1)
    assert seen == []


def test_the_views_follow_the_place_and_what_changes(opened, qtbot, image):
    viewer, button = opened
    xz, yz = button.views.views
    assert (xz.plane.along, xz.plane.axes) == (1, (0, 2))
    assert (yz.plane.along, yz.plane.axes) == (2, (0, 1))
    stand_at(viewer, (400.0, 60.0, 100.0))
    settled(qtbot, button)
    assert xz.plane.centre == yz.plane.centre == (400.0, 60.0, 100.0)
    viewer.dims.set_point(0, 480.0)
    settled(qtbot, button)
    assert xz.plane.centre == (480.0, 60.0, 100.0)
    before = xz._image.copy()
    viewer.layers[0].data = 255 - image
    settled(qtbot, button)
    assert xz._image != before
    labels = viewer.add_labels(np.ones(SHAPE, np.uint8), scale=SCALE)
    settled(qtbot, button)
    covered = xz._image.copy()
    labels.visible = False
    settled(qtbot, button)
    assert xz._image != covered


def test_a_click_in_a_side_view_moves_the_view_there(opened, qtbot):
    viewer, button = opened
    xz, _ = button.views.views
    stand_at(viewer, (400.0, 100.0, 100.0))
    settled(qtbot, button)
    zoom = xz.plane.zoom
    spot = QPoint(xz.width() // 2 + 30, xz.height() // 2 - 20)
    qtbot.mouseClick(xz, Qt.MouseButton.LeftButton, pos=spot)
    z, y, x = middle_of(viewer)
    assert y == 100.0
    assert z == pytest.approx(400 - 20 / zoom, abs=SCALE[0])
    assert x == pytest.approx(100 + 30 / zoom, abs=1 / zoom)
    settled(qtbot, button)
    assert xz.plane.zoom == zoom


def test_the_place_is_what_was_clicked_in_the_view_until_that_moves(opened, qtbot):
    from tests.gui.test_segment_panel import click_at

    viewer, button = opened
    click_at(viewer, (10, 5, 7))
    viewer.dims.set_point(0, 320.0)
    settled(qtbot, button)
    assert button.views.views[0].plane.centre == (320.0, 20.0, 28.0)
    stand_at(viewer, (320.0, 40.0, 44.0))
    assert button.views.place == (320.0, 40.0, 44.0)


def test_closing_leaves_nothing_behind(opened, qtbot):
    viewer, button = opened
    callbacks = len(viewer.mouse_drag_callbacks)
    button.setChecked(False)
    assert len(viewer.mouse_drag_callbacks) == callbacks - 1
    assert NAME not in viewer.window.dock_widgets
    viewer.dims.set_point(0, 0)
    button.setChecked(True)
    settled(qtbot, button)
    dock = viewer.window.dock_widgets[NAME].parent()
    dock.destroyOnClose()  # its own button
    qtbot.waitUntil(lambda: not button.isChecked())
    assert button.views is None
    button.setChecked(True)
    settled(qtbot, button)
    viewer.window.dock_widgets[NAME].parent().close()  # only hidden, says napari
    qtbot.waitUntil(lambda: not button.isChecked())
    assert NAME not in viewer.window.dock_widgets


def test_they_wait_while_the_view_is_in_3d(opened, qtbot):
    viewer, button = opened
    kept = button.views.views[0].plane
    viewer.dims.ndisplay = 3
    qtbot.wait(150)
    assert button.views.views[0].plane is kept
    viewer.dims.ndisplay = 2
    settled(qtbot, button)


class Slow:
    """Quick for the window, slow for whoever reads across the sections."""

    dtype, ndim, shape, chunks = np.dtype(np.uint8), 3, (64, 64, 64), (1, 64, 64)

    def __init__(self):
        self.read = []

    def __getitem__(self, index):
        if threading.current_thread() is not threading.main_thread():
            self.read.append(index)
            time.sleep(0.3)
        return np.zeros(self.shape, np.uint8)[index]

    def __array__(self, dtype=None, copy=None):
        return np.zeros(self.shape, np.uint8)


@pytest.fixture
def slowly_opened(make_napari_viewer, qtbot):
    viewer, slow = make_napari_viewer(show=True), Slow()
    viewer.add_image(slow, contrast_limits=(0, 255))
    button = SideViewsButton(viewer)
    qtbot.addWidget(button)
    button.setChecked(True)
    settled(qtbot, button)
    return viewer, button, slow


@pytest.mark.flaky(reruns=2)  # a stall of ours comes every time; one of a busy disk does not
def test_the_window_waits_for_no_disk(slowly_opened, qtbot):
    viewer, button, _ = slowly_opened
    longest = bearable(viewer)
    with Stalls() as stalls:
        for section in range(20, 30):
            viewer.dims.set_point(0, section)
            qtbot.wait(100)
    settled(qtbot, button)
    assert button.views.views[0].plane.centre[0] == 29
    assert stalls.longest < longest, f"{stalls.longest:.3f} s\n{stalls.where}"


def test_the_picture_of_a_place_that_was_left_is_given_up(slowly_opened, qtbot, monkeypatch):
    monkeypatch.setattr(side_views, "_PATIENCE", 0.0)
    viewer, button, slow = slowly_opened
    slow.read.clear()
    stand_at(viewer, (32.0, 10.0, 11.0))
    qtbot.waitUntil(lambda: len(slow.read) == 1, timeout=PATIENCE_MS)
    stand_at(viewer, (32.0, 20.0, 21.0))
    settled(qtbot, button)
    across = [(index[1], index[2]) for index in slow.read]
    assert [y for y, _ in across if not isinstance(y, slice)] == [10, 20, 20]
    assert [x for _, x in across if not isinstance(x, slice)] == [21, 21]
    assert button.views.views[1].plane.centre == (32.0, 20.0, 21.0)
