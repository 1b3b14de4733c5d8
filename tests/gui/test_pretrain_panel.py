from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from qtpy.QtWidgets import QFileDialog

from napari_tokenunify.gui.job_watch import JobWatch
from napari_tokenunify.gui.pretrain_panel import PretrainPanel
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.gui.reconstructions import LAYERS
from napari_tokenunify.gui.train_panel import TrainPanel
from napari_tokenunify.jobs import JobState, JobStatus
from napari_tokenunify.session import Session
from tests.gui.test_train_panel import own_folders, press  # noqa: F401 - a fixture
from tests.train.pretraining.test_pretraining import tissue

pytestmark = pytest.mark.gui

PATIENCE_MS = 120_000


@pytest.fixture
def session(tmp_path):
    np.save(tmp_path / "raw.npy", tissue(shape=(24, 48, 48)))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "10,10,10")
    return session


@pytest.fixture
def panel(make_napari_viewer, qtbot, session):
    panel = PretrainPanel(make_napari_viewer(), session)
    qtbot.addWidget(panel)
    return panel


def test_a_new_project_begins_with_its_own_volume_and_the_recipe_of_the_paper(panel, session):
    config = panel.config()
    assert config.volumes == (session.state.volume,)
    assert (config.recipe, config.model, config.voxel_size) == ("paper", "small", "10,10,10")
    assert panel.button.text() == "Pre-train small for 60 minutes"
    assert panel.button.isEnabled()
    panel.model.setCurrentIndex(panel.model.findData("tiny"))
    panel.recipe.setCurrentIndex(panel.recipe.findData("mae"))
    panel.minutes.setValue(1)
    panel.form["order"].value = "hilbert"
    config = panel.config()
    assert (config.recipe, config.model, config.minutes, config.order) == ("mae", "tiny", 1, "hilbert")
    assert "baseline" in panel.about.text()
    assert panel.button.text() == "Pre-train tiny for 1 minute"


def test_another_volume_keeps_the_voxel_size_of_its_own_file(panel, qtbot, volume_file):
    panel.volumes.add([str(volume_file)])
    qtbot.waitUntil(lambda: len(panel.volumes.addresses) == 2)
    assert panel.config().voxel_size == "10,10,10 file"
    panel.volumes.list.setCurrentRow(1)
    panel.volumes.size.setText("50,4,4")
    panel.volumes.size.textEdited.emit("50,4,4")
    assert panel.config().voxel_size == "10,10,10 50,4,4"


def test_without_a_volume_the_button_says_so(panel):
    panel.volumes.list.setCurrentRow(0)
    panel.volumes.remove.click()
    assert not panel.button.isEnabled()
    assert "add one" in panel.reason.text()


def test_a_recipe_of_ones_own_is_a_file(panel, tmp_path, monkeypatch):
    own, wrong = tmp_path / "own.yaml", tmp_path / "wrong.yaml"
    own.write_text(
        yaml.safe_dump({"title": "Mine", "description": "My own.", "phases": [{"until": 1, "weights": {"next": 1}}]})
    )
    wrong.write_text("title: 3")
    said = []
    monkeypatch.setattr("napari_tokenunify.gui.pretrain_panel.show_error", said.append)
    for path, recipe in ((wrong, "paper"), (own, str(own))):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, path=path, **__: (str(path), ""))
        last = panel.recipe.count() - 1
        panel.recipe.setCurrentIndex(last)
        panel.recipe.activated.emit(last)
        assert panel.config().recipe == recipe
    assert len(said) == 1
    assert "wrong.yaml" in said[0]
    assert (panel.recipe.currentText(), panel.about.text()) == ("Mine", "My own.")


def test_from_the_train_step_a_pre_training_runs_is_watched_and_training_starts_from_it(
    make_napari_viewer, qtbot, session
):
    viewer = make_napari_viewer()
    layers, train = ProjectLayers(viewer, session), TrainPanel(viewer, session)
    viewer.window.add_dock_widget(train)
    watch = JobWatch(lambda: list(session.project.runs))
    watch.reported.connect(session.take)
    session.open_project(session.project.folder)
    assert train.pretraining is None  # nothing of it is made before somebody asks
    press(qtbot, train.unfold)
    panel = train.pretraining
    panel.model.setCurrentIndex(panel.model.findData("tiny"))
    for name, value in {"steps": "3", "crop": "4,32,32", "token": "2,8,8", "precision": "fp32"}.items():
        panel.form[name].value = value
    panel.form["device"].value = "cpu"
    panel.button.click()
    assert "pretrain-1 is" in panel.reason.text()
    assert not panel.button.isEnabled()
    watch.start()
    try:
        qtbot.waitUntil(lambda: not panel.seen.isHidden(), timeout=PATIENCE_MS)
        panel.seen.show_layers.click()
        assert set(LAYERS.values()) < {layer.name for layer in viewer.layers}
        qtbot.waitUntil(lambda: session.jobs[-1].state.final, timeout=PATIENCE_MS)
    finally:
        watch.close()
    assert session.jobs[-1].state == JobState.DONE, session.jobs[-1]
    assert panel.button.isEnabled()
    assert session.state.trained is None  # nothing predicts with it
    run = session.jobs[-1].folder
    assert panel.model.findData(str(run)) >= 0
    assert panel.helped.model.currentData() == str(run)
    assert panel.use.text() == "Train from pretrain-1"
    panel.use.click()
    assert train.config().model == str(run)
    qtbot.waitUntil(lambda: "pre-trained without labels by the recipe paper" in train.card.text())
    assert json.loads((run / "training.json").read_text())["plan"]["crop"] == [4, 32, 32]
    press(qtbot, train.unfold)
    assert panel.isHidden()
    del layers


def test_a_sweep_is_not_offered_to_start_from(panel, session, monkeypatch):
    folders = [session.project.new_run("pretrain") for _ in range(2)]
    (folders[0] / "checkpoints").mkdir()
    ended = [JobStatus(JobState.DONE, "pretrain", folder.name, folder) for folder in folders]
    monkeypatch.setattr(type(session), "jobs", property(lambda _: ended))
    panel._list_models()
    panel._offer()
    named = [panel.model.itemData(row) for row in range(panel.model.count())]
    assert str(folders[0]) in named
    assert str(folders[1]) not in named
    assert panel.use.text() == f"Train from {folders[0].name}"
