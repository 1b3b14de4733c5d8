from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.reconstructions import LAYERS, Reconstructions
from napari_tokenunify.jobs import JobState, JobStatus
from napari_tokenunify.train.pretraining.reconstructions import Reconstruction, write_reconstructions
from tests.gui.test_train_panel import own_folders, session  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui

BOX = Box((4, 8, 16), (8, 24, 32))


@pytest.fixture
def run(session):  # noqa: F811
    return session.project.new_run("pretrain")


@pytest.fixture
def shown(make_napari_viewer, qtbot, session):  # noqa: F811
    viewer = make_napari_viewer()
    widget = Reconstructions(viewer, session)
    qtbot.addWidget(widget)
    return viewer, widget


def tell(session, run, step):  # noqa: F811
    """Say that there is a reconstruction, whose voxels hold the step."""

    def filled(value):
        return np.full(BOX.shape, value, np.uint8)

    found = {
        name: Reconstruction(filled(step), filled(255), filled(step + number), filled(9))
        for number, name in enumerate(("random", "next"))
    }
    preview = write_reconstructions(run / "previews" / f"{step:07d}.npz", found, step, BOX, session.state.volume)
    session.job_said.emit(JobStatus(JobState.RUNNING, "pretrain", run.name, run), preview)


def test_a_running_pre_training_shows_its_pictures_and_refreshes_the_layers(shown, session, run, qtbot):  # noqa: F811
    viewer, widget = shown
    assert widget.isHidden()
    tell(session, run, 10)
    qtbot.waitUntil(lambda: "pretrain-1, step 10" in widget.words.text())
    assert [widget.objective.itemText(row) for row in range(2)] == ["random token", "next token"]
    assert not any(picture.pixmap().isNull() for picture in widget.pictures)
    assert not any(name in viewer.layers for name in LAYERS.values())  # nobody asked for them yet

    widget.show_layers.click()
    prediction = viewer.layers[LAYERS["prediction"]]
    np.testing.assert_array_equal(prediction.translate, [160, 32, 64])  # 40, 4, 4 nm
    np.testing.assert_array_equal(prediction.scale, [40, 4, 4])
    assert [viewer.layers[name].visible for name in LAYERS.values()] == [False, True, False]
    assert 4 <= viewer.dims.point[0] / 40 < 8

    prediction.colormap = "green"
    tell(session, run, 20)
    qtbot.waitUntil(lambda: int(np.asarray(prediction.data).max()) == 20)
    assert prediction.colormap.name == "green"
    widget.objective.setCurrentIndex(1)
    assert int(np.asarray(viewer.layers[LAYERS["prediction"]].data).max()) == 21


def test_what_was_there_before_napari_was_opened_is_shown(session, run, make_napari_viewer, qtbot):  # noqa: F811
    tell(session, run, 10)
    tell(session, run, 20)
    again = Reconstructions(make_napari_viewer(), session)
    qtbot.addWidget(again)
    qtbot.waitUntil(lambda: "pretrain-1, step 20, on sections that" in again.words.text())


def test_another_project_leaves_nothing_of_the_one_before(shown, session, run, qtbot):  # noqa: F811
    viewer, widget = shown
    tell(session, run, 10)
    qtbot.waitUntil(lambda: not widget.isHidden())
    widget.show_layers.click()
    session.new_project(session.project.folder.parent / "q.tokenunify", session.state.volume)
    assert not any(name in viewer.layers for name in LAYERS.values())
    qtbot.waitUntil(widget.isHidden)
