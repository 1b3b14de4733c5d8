from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tokenunify.events import Preview
from napari_tokenunify.gui.model_words import PARAMETERS, model_words, network_in_use
from napari_tokenunify.gui.project_layers import BEFORE, PREVIEW, ProjectLayers
from napari_tokenunify.gui.train_panel import TrainPanel
from napari_tokenunify.jobs import JobState
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard, build_network, save_checkpoint
from napari_tokenunify.session import Session
from tests.train.test_finetuning import SMALLEST

pytestmark = pytest.mark.gui

SHAPE = (8, 32, 32)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))


@pytest.fixture
def session(tmp_path):
    np.save(tmp_path / "raw.npy", np.zeros(SHAPE, np.uint8))
    session = Session()
    session.new_project(tmp_path / "p.tokenunify", str(tmp_path / "raw.npy"), "40,4,4")
    return session


@pytest.fixture
def show(make_napari_viewer, qtbot):
    held = []

    def show(session):
        viewer = make_napari_viewer()
        held.append((ProjectLayers(viewer, session), TrainPanel(viewer, session)))
        viewer.window.add_dock_widget(held[-1][1])
        session.open_project(session.project.folder)
        return viewer, *held[-1]

    return show


@pytest.fixture
def model(tmp_path):
    """Weights with a card, trained at 10 nm."""
    card = ModelCard(
        network=SMALLEST.replace(voxel_size_nm=(10, 10, 10)),
        name="mine",
        licence="CC-BY-4.0",
        step=700,
        data=[{"name": "FIB-25", "licence": "CC BY 3.0 US"}],
        metrics={"affinity_f1": 0.9123, "validation_loss": 0.2},
    )
    save_checkpoint(tmp_path / "models" / "mine", build_network(card.network), card)
    return "mine"


def press(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_the_button_waits_for_annotations_and_says_so(show, session):
    _, layers, panel = show(session)
    assert not panel.button.isEnabled()
    assert "Nothing is annotated yet" in panel.reason.text()
    layers.paint()  # an empty store is no annotation
    panel._look.timeout.emit()
    assert not panel.button.isEnabled()
    layer = panel._viewer.layers["annotations"]
    layer.brush_size = 5
    layer.paint((3, 10, 10), 1)
    panel._look.timeout.emit()
    assert panel.button.isEnabled()
    assert panel.reason.text() == ""


def test_labels_from_a_file_are_annotations_too(show, session, tmp_path):
    _, _, panel = show(session)
    session.change(annotations=str(tmp_path / "labels.npy"))
    assert panel.button.isEnabled()


def test_the_button_says_what_will_happen(show, session, tmp_path):
    _, _, panel = show(session)
    panel.model.setCurrentText("tiny")
    panel.minutes.setValue(1)
    assert panel.button.text() == "Train tiny for 1 minute"
    panel.model.setCurrentText(str(tmp_path / "weights"))
    panel.minutes.setValue(2.5)
    assert panel.button.text() == "Train weights for 2.5 minutes"


def test_a_model_shows_its_card_and_a_voxel_size_that_differs(show, session, model, qtbot):
    _, _, panel = show(session)
    panel.model.setCurrentText(model)
    qtbot.waitUntil(lambda: "CC-BY-4.0" in panel.card.text())
    for words in ("voxels of 10x10x10 nm", "700 steps", "FIB-25 (CC BY 3.0 US)", "affinity F1 0.912"):
        assert words in panel.card.text()
    assert "The volume has voxels of 40x4x4 nm (z y x), but the network was trained at 10x10x10 nm" in panel.card.text()
    panel.model.setCurrentText("small")
    qtbot.waitUntil(lambda: "Starts from nothing, so it needs more minutes" in panel.card.text())
    panel.model.setCurrentText("no such model")
    qtbot.waitUntil(lambda: "no such model: is no model and no path" in panel.card.text())


def test_parameters_are_those_of_the_networks(model):
    assert set(PARAMETERS) == set(NETWORK_PRESETS)
    for name in ("tiny", "small"):
        count = sum(parameter.numel() for parameter in build_network(NETWORK_PRESETS[name]).parameters())
        assert PARAMETERS[name] == pytest.approx(count / 1e6, rel=0.01)
    count = sum(parameter.numel() for parameter in build_network(SMALLEST).parameters())
    assert f"{count / 1e6:.3g} M parameters" in model_words(model, None)


def test_previews_flip_between_before_and_now(show, session, tmp_path, qtbot):
    viewer, _, panel = show(session)
    assert not panel.before.isEnabled()
    for step in (0, 9):
        np.save(tmp_path / f"{step}.npy", np.full((3, *SHAPE), 200 - step, np.uint8))
        session.job_said.emit(None, Preview(step, str(tmp_path / f"{step}.npy"), "0:8,0:32,0:32"))
    assert panel.before.isEnabled()

    def visible():
        return [name for name in (BEFORE, PREVIEW) if viewer.layers[name].visible]

    assert visible() == [PREVIEW]
    press(qtbot, panel.before)
    assert visible() == [BEFORE]
    press(qtbot, panel.before)
    assert visible() == [PREVIEW]


def test_the_last_training_is_named_with_its_best_score_and_offered_as_a_start(show, session, model, tmp_path):
    _, _, panel = show(session)
    run = session.project.new_run("finetune")
    card = ModelCard(network=SMALLEST, step=40, metrics={"affinity_f1": 0.87})
    (run / "checkpoints").mkdir()
    save_checkpoint(run / "checkpoints" / "best.safetensors", build_network(SMALLEST), card)
    session.change(trained=str(run))
    assert "finetune-1" in panel.last.text()
    assert "affinity F1 0.87" in panel.last.text()
    panel.model.setCurrentText("finetune-1 (this project)")
    assert panel.config().model == str(run)
    assert panel.button.text().startswith("Train finetune-1 for")
    assert session.predict_config().model == str(run)


def test_without_weights_nothing_predicts(session, model):
    assert network_in_use(session.state) == (
        "No network is trained yet: train one in the step Train, or choose a trained one there.",
        False,
    )
    session.change(model=model)
    words, there = network_in_use(session.state)
    assert there
    assert words.startswith("Network: <b>mine</b> (best of its run at step 700: affinity F1 0.912")


def test_what_was_only_pre_trained_says_so_and_does_not_predict(session, tmp_path):
    shape = SMALLEST.replace(offsets=((0, 0, 0),))
    run = {"stage": "pretrain", "steps": 3, "started": "", "seconds": 1, "settings": {"recipe": "mae"}}
    save_checkpoint(tmp_path / "models" / "pre", build_network(shape), ModelCard(network=shape, history=[run]))
    assert "pre-trained without labels by the recipe mae" in model_words("pre", None)
    session.change(model="pre")
    assert network_in_use(session.state) == ("pre was only pre-trained: train from it in the step Train.", False)


def test_while_it_trains_the_button_says_so_and_a_start_takes_no_time(show, session, tmp_path, qtbot, monkeypatch):
    _, _, panel = show(session)
    np.save(tmp_path / "labels.npy", np.ones(SHAPE, np.uint16))
    session.change(annotations=str(tmp_path / "labels.npy"))
    press(qtbot, panel.button)
    assert [status.stage for status in session.jobs] == ["finetune"]
    assert not panel.button.isEnabled()
    assert "finetune-1 is starting" in panel.reason.text()
    session.job(session.jobs[-1].folder).kill()
    session.poll()
    assert session.jobs[-1].state != JobState.RUNNING
    assert panel.button.isEnabled()
