from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.events import Preview
from napari_tokenunify.gui.affinity_views import BoundaryView, ColourView
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.segment import affinity_writer, segment, write_affinities
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from napari_tokenunify.session import Session

pytestmark = pytest.mark.gui

SHAPE = (8, 48, 48)
SIZE = (40.0, 4.0, 4.0)


@pytest.fixture
def show(make_napari_viewer):
    """Show a session in a viewer of its own; the layers are held, as signals do not hold who listens."""
    held = []

    def show(session):
        viewer = make_napari_viewer()
        held.append(ProjectLayers(viewer, session))
        return viewer, held[-1]

    return show


@pytest.fixture
def labels():
    labels = np.ones(SHAPE, np.uint64)
    labels[:, :, 23:25] = 0  # membrane
    labels[:, :, 25:] = 2
    return labels


@pytest.fixture
def session(tmp_path):
    np.save(tmp_path / "raw.npy", np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    return session


def soft_affinities(labels):
    """Affinities that part the two neurons at thresholds below 0.6."""
    affinities = known_affinities(labels)[0].astype(np.float32)
    affinities[affinities == 0] = 0.4
    return affinities


def segmented(session, labels):
    write_affinities(session.project.affinities, soft_affinities(labels), DEFAULT_OFFSETS, SIZE)
    list(
        segment(
            SegmentConfig(
                boundary_threshold=0.5,
                affinities=str(session.project.affinities),
                out=str(session.project.segmentation),
            )
        )
    )


def test_a_project_shows_its_image_with_scale_and_units(show, session):
    viewer, _ = show(session)
    assert [layer.name for layer in viewer.layers] == ["image"]
    np.testing.assert_array_equal(viewer.layers["image"].scale, SIZE)


def test_what_is_painted_is_on_the_disk(show, session):
    viewer, layers = show(session)
    layers.paint()
    layer = viewer.layers["annotations"]
    assert layer.mode == "paint"
    layer.brush_size = 5
    layer.paint((3, 10, 10), 7)
    again = Session()
    again.open_project(session.project.folder)
    other, _ = show(again)
    assert np.asarray(other.layers["annotations"].data[3, 10, 10]) == 7
    np.testing.assert_array_equal(other.layers["annotations"].scale, SIZE)


def test_affinities_and_segments_appear_and_the_threshold_moves_them(show, session, labels, qtbot):
    segmented(session, labels)
    session.open_project(session.project.folder)
    session.change(threshold=0.3)
    viewer, _ = show(session)
    assert {"image", "boundaries", "affinities", "segments"} == {layer.name for layer in viewer.layers}
    shown = viewer.layers["segments"]
    assert len(np.unique(np.asarray(shown.data[4]))) == 2
    session.change(threshold=0.9)
    qtbot.waitUntil(lambda: len(np.unique(np.asarray(shown.data[4]))) == 1)
    assert viewer.layers["segments"] is shown
    assert not shown.editable  # nobody paints over fragments
    for name in ("boundaries", "segments"):
        np.testing.assert_array_equal(viewer.layers[name].scale, SIZE)
        assert [str(unit) for unit in viewer.layers[name].units] == ["nanometer"] * 3


def test_another_change_computes_no_table(show, session, labels, qtbot, monkeypatch):
    segmented(session, labels)
    session.open_project(session.project.folder)
    viewer, _ = show(session)
    asked = []
    monkeypatch.setattr(viewer.layers["segments"].data.segmentation, "at", asked.append)
    session.change(minutes=3, method="mean")
    qtbot.wait(50)
    assert not asked


def test_a_prediction_fills_in_as_its_blocks_come(show, session, monkeypatch):
    """The writer's blocks appear in the same layers; what is not there yet is dark, and a sure boundary is bright."""
    viewer, _ = show(session)
    monkeypatch.setattr(affinity_writer, "CELL", (8, 48, 24))
    writer = AffinityWriter.create(
        session.project.affinities, AffinityLayout(SHAPE, DEFAULT_OFFSETS, voxel_size_nm=SIZE)
    )
    session.affinities_changed.emit(session.project.affinities)
    boundaries = viewer.layers["boundaries"]
    assert not np.asarray(boundaries.data[4]).any()
    writer.write((0, 0, 1), np.zeros((3, 8, 48, 24), np.uint8))
    session.affinities_changed.emit(session.project.affinities)
    assert viewer.layers["boundaries"] is boundaries
    half = np.asarray(boundaries.data[4])
    assert not half[:, :24].any()
    assert (half[:, 24:] == 255).all()
    assert boundaries.blending == "additive"
    assert viewer.layers["image"].visible
    assert not viewer.layers["affinities"].visible


def test_long_range_channels_have_layers_of_their_own(show, session, labels):
    offsets = (*DEFAULT_OFFSETS, (-2, 0, 0), (0, -9, 0))
    write_affinities(session.project.affinities, known_affinities(labels, offsets)[0].astype(np.float32), offsets, SIZE)
    viewer, _ = show(session)
    assert {"affinities", "affinities 4-5"} < {layer.name for layer in viewer.layers}
    far = np.asarray(viewer.layers["affinities 4-5"].data[4])
    assert far.shape == (48, 48, 3)
    assert far[..., :2].any()
    assert not far[..., 2].any()
    session.new_project(session.project.folder.with_name("q"), session.state.volume, "40,4,4")
    assert {layer.name for layer in viewer.layers} == {"image"}


def test_previews_step_back_when_a_prediction_comes(show, session, labels, tmp_path):
    viewer, _ = show(session)
    np.save(tmp_path / "9.npy", np.full((3, 2, 16, 16), 100, np.uint8))
    session.job_said.emit(None, Preview(9, str(tmp_path / "9.npy"), "2:4,16:32,8:24"))
    assert viewer.layers["preview"].visible
    write_affinities(session.project.affinities, soft_affinities(labels), DEFAULT_OFFSETS, SIZE)
    session.affinities_changed.emit(session.project.affinities)
    assert not viewer.layers["preview"].visible


def test_a_preview_lies_where_it_was_predicted_with_the_one_before_training_beside_it(show, session, tmp_path):
    viewer, _ = show(session)
    np.save(tmp_path / "0.npy", np.full((3, 2, 16, 16), 200, np.uint8))
    np.save(tmp_path / "9.npy", np.full((3, 2, 16, 16), 100, np.uint8))
    for step in (0, 9):
        session.job_said.emit(None, Preview(step, str(tmp_path / f"{step}.npy"), "2:4,16:32,8:24"))
    assert not viewer.layers["preview before training"].visible
    shown = viewer.layers["preview"]
    np.testing.assert_array_equal(shown.translate, (80, 64, 32))
    assert np.asarray(shown.data[0]).max() == 155


def test_another_project_takes_the_layers_of_the_one_before_away(show, session, labels, tmp_path):
    viewer, _ = show(session)
    viewer.add_points(np.zeros((1, 3)), name="mine")
    segmented(session, labels)
    session.open_project(session.project.folder)
    session.new_project(tmp_path / "q", str(tmp_path / "raw.npy"), "40,4,4")
    assert {layer.name for layer in viewer.layers} == {"mine", "image"}


def test_layers_of_the_user_are_left_alone_whatever_they_are_called(show, session, labels, tmp_path):
    viewer, layers = show(session)
    mine = {}
    for name in ("annotations", "segments", "boundaries", "preview", "picked segment"):
        mine[name] = viewer.add_labels(np.full((4, 5, 6), 7, np.uint8), name=name)
    segmented(session, labels)
    session.open_project(session.project.folder)
    layers.paint()
    np.save(tmp_path / "9.npy", np.full((3, 2, 16, 16), 100, np.uint8))
    session.job_said.emit(None, Preview(9, str(tmp_path / "9.npy"), "2:4,16:32,8:24"))
    session.new_project(tmp_path / "q", str(tmp_path / "raw.npy"), "40,4,4")
    assert {layer.name for layer in viewer.layers} == {*mine, "image"}
    for name, layer in mine.items():
        assert layer in viewer.layers
        assert (layer.data == 7).all(), name


def test_the_image_that_the_user_had_opened_stays_when_another_project_comes(show, session, tmp_path):
    viewer, _ = show(session)
    viewer.layers.clear()
    uri = {"tokenunify": {"uri": str(tmp_path / "raw.npy")}}
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="hers", metadata=uri)
    session.open_project(session.project.folder)
    np.save(tmp_path / "other.npy", np.zeros(SHAPE, np.uint8))
    session.new_project(tmp_path / "q", str(tmp_path / "other.npy"), "40,4,4")
    assert {layer.name for layer in viewer.layers} == {"hers", "image"}


def test_the_views_give_what_the_affinities_say():
    affinities = np.random.default_rng(0).random((3, 4, 6, 5)).astype(np.float16)
    bytes_ = np.rint(affinities.astype(np.float32) * 255).astype(np.uint8)
    boundary, colour = BoundaryView(affinities), ColourView(affinities)
    expected = 255 - bytes_.min(0)
    np.testing.assert_array_equal(boundary[1], expected[1])
    np.testing.assert_array_equal(boundary[1:3, 2:, ::2], expected[1:3, 2:, ::2])
    np.testing.assert_array_equal(np.asarray(colour), np.moveaxis(bytes_, 0, -1))
    np.testing.assert_array_equal(colour[1, :, 2:, :], np.moveaxis(bytes_, 0, -1)[1, :, 2:, :])
