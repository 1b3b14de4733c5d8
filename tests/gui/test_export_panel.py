from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ConfigError, ProjectError
from napari_tokenunify.export import FORMATS
from napari_tokenunify.gui import export_panel
from napari_tokenunify.gui.export_panel import ExportPanel
from napari_tokenunify.jobs import JobState
from napari_tokenunify.segment import segment, write_affinities
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

SHAPE = (8, 48, 48)
SIZE = (40.0, 4.0, 4.0)
PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))


@pytest.fixture
def session(tmp_path):
    np.save(tmp_path / "raw.npy", np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    return session


@pytest.fixture
def segmented(session):
    """The session, with two neurons that are one above the threshold 0.6."""
    labels = np.ones(SHAPE, np.uint64)
    labels[:, :, 24:] = 2
    affinities = known_affinities(labels)[0].astype(np.float32)
    affinities[affinities == 0] = 0.4
    write_affinities(session.project.affinities, affinities, DEFAULT_OFFSETS, SIZE)
    list(
        segment(
            SegmentConfig(
                boundary_threshold=0.5,
                affinities=str(session.project.affinities),
                out=str(session.project.segmentation),
            )
        )
    )
    return session


@pytest.fixture
def panel(make_napari_viewer, qtbot, session):
    panel = ExportPanel(make_napari_viewer(), session)
    qtbot.addWidget(panel)
    return panel


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def said_since(before):
    return [str(record.message) for record in notification_manager.records[before:]]


def test_without_segments_nothing_can_be_pressed_and_it_says_why(panel, session):
    assert not any(widget.isEnabled() for widget in (panel.format, panel.where, panel.export, panel.copy))
    assert "no segments yet" in panel.about.text()
    with pytest.raises(ProjectError, match="no segments yet"):
        panel.config()


def test_a_press_writes_what_is_shown_in_the_background(panel, segmented, qtbot):
    segmented.open_project(segmented.project.folder)
    segmented.change(threshold=0.9)
    assert panel.export.isEnabled()
    first = segmented.project.folder / "exports" / "segments-1.zarr"
    assert panel.where.text() == str(first)
    said = []
    segmented.said.connect(lambda text, level: said.append((text, level)))
    press(qtbot, panel.export)
    assert panel.where.text().endswith("segments-2.zarr")  # the next one goes elsewhere, though nothing is written yet

    def is_done():
        segmented.poll()
        return segmented.jobs[-1].state.final

    qtbot.waitUntil(is_done, timeout=PATIENCE_MS)
    assert segmented.jobs[-1].state == JobState.DONE, segmented.jobs[-1]
    volume = open_volume(first)
    np.testing.assert_array_equal(volume.levels[0][:, :, :], segmented.segmentation.view(0.9)[:])
    assert volume.voxel_size_nm == SIZE
    assert said == [(f"export-1 is written: {first}", "info")]


def test_the_ending_follows_the_format_and_the_place_that_was_typed_stays(panel, segmented, tmp_path):
    segmented.open_project(segmented.project.folder)
    panel.format.setCurrentIndex(panel.format.findData("tiff"))
    assert panel.where.text().endswith("segments-1.tif")
    panel.where.setText(str(tmp_path / "mine.tif"))
    panel.format.setCurrentIndex(panel.format.findData("hdf5"))
    assert panel.where.text() == str(tmp_path / "mine.h5")
    config = panel.config()
    assert (config.format, config.out, config.overwrite) == ("hdf5", str(tmp_path / "mine.h5"), False)
    panel.choose(str(tmp_path / "other.h5"))
    assert panel.config().overwrite
    panel.where.setText(str(tmp_path / "mine.h5"))
    assert not panel.config().overwrite


def test_formats_stand_in_groups_and_segments_can_be_named(panel, segmented):
    segmented.open_project(segmented.project.folder)
    names = [panel.format.itemData(row) for row in range(panel.format.count())]
    assert [name for name in names if name] == list(FORMATS)
    assert names.count(None) == 3  # lines between voxels, meshes, skeletons and tables
    panel.format.setCurrentIndex(panel.format.findData("swc"))
    assert panel.where.text().endswith("segments-1.skeletons")
    assert panel.config().segments == ()
    panel.segments.setText("2, 17 5,")
    assert (panel.config().format, panel.config().segments) == ("swc", (2, 17, 5))
    panel.segments.setText("2; all")
    with pytest.raises(ConfigError, match="'2; all' are no segments: write their ids"):
        panel.config()


def test_a_copy_is_a_plain_layer_that_lies_over_the_segments(panel, segmented, qtbot):
    segmented.open_project(segmented.project.folder)
    segmented.change(threshold=0.3)
    press(qtbot, panel.copy)
    assert not panel.copy.isEnabled()
    viewer = panel._viewer
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(panel.copy.isEnabled, timeout=PATIENCE_MS)
    (layer,) = viewer.layers
    assert isinstance(layer.data, np.ndarray)
    assert layer.data.dtype == np.uint32
    np.testing.assert_array_equal(layer.data, segmented.segmentation.view(0.3)[:])
    np.testing.assert_array_equal(layer.scale, SIZE)
    assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.metadata["tokenunify"]["threshold"] == 0.3
    layer.paint((3, 10, 10), 77)
    assert 77 not in segmented.segmentation.view(0.3)[:]


def test_a_copy_that_would_not_fit_is_not_begun(panel, segmented, qtbot, monkeypatch):
    segmented.open_project(segmented.project.folder)
    few = SimpleNamespace(available=40_000)
    monkeypatch.setattr(export_panel.psutil, "virtual_memory", lambda: few)
    before = len(notification_manager.records)
    press(qtbot, panel.copy)
    assert said_since(before) == [
        "A copy in memory would take 74 kB, and 40 kB are free: export to OME-Zarr instead, and open that."
    ]
    assert panel.copy.isEnabled()


def test_a_segmentation_that_is_damaged_is_said_in_one_sentence(panel, segmented, qtbot):
    segmented.open_project(segmented.project.folder)
    for shard in (segmented.project.segmentation / "fragments.zarr" / "0" / "c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(b"")
    before = len(notification_manager.records)
    press(qtbot, panel.copy)
    qtbot.waitUntil(lambda: len(said_since(before)) == 1, timeout=PATIENCE_MS)
    assert "seems damaged" in said_since(before)[0]
    qtbot.waitUntil(panel.copy.isEnabled, timeout=PATIENCE_MS)


def test_another_project_begins_anew_and_gets_no_copy_of_the_one_before(panel, segmented, tmp_path, qtbot):
    segmented.open_project(segmented.project.folder)
    press(qtbot, panel.copy)
    segmented.new_project(tmp_path / "q", str(tmp_path / "raw.npy"), "40,4,4")
    assert not panel.export.isEnabled()
    assert panel.where.text() == ""
    qtbot.wait(300)
    assert (len(panel._viewer.layers), panel.copy.text()) == (0, export_panel.COPY)


def test_a_copy_does_not_mind_what_is_written_for_the_export(panel, segmented, qtbot):
    segmented.open_project(segmented.project.folder)
    panel.segments.setText("12 to 15")
    press(qtbot, panel.copy)
    qtbot.waitUntil(lambda: len(panel._viewer.layers) == 1, timeout=PATIENCE_MS)
    qtbot.waitUntil(panel.copy.isEnabled, timeout=PATIENCE_MS)
