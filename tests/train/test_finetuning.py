from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.errors import AnnotationError, ConfigError, TrainError, VolumeError
from napari_tokenunify.events import Message, Metric, Preview
from napari_tokenunify.geometry import Box
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard, build_network, load_checkpoint, save_checkpoint
from napari_tokenunify.network.installed import find_model
from napari_tokenunify.train import loop
from napari_tokenunify.train.finetuning import finetune
from tests.train.toy import drive

SHAPE = (16, 64, 64)
SMALLEST = NETWORK_PRESETS["tiny"].replace(widths=(4, 4), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)))


def neurons(shape=SHAPE):
    """Return two neurons on both sides of a dark membrane."""
    rng = np.random.default_rng(0)
    raw = rng.normal(170, 20, shape).clip(0, 255).astype(np.uint8)
    labels = np.ones(shape, np.uint32)
    labels[:, :, shape[2] // 2 :] = 2
    raw[:, :, shape[2] // 2 - 1 : shape[2] // 2 + 1] //= 3
    return raw, labels


@pytest.fixture
def data(tmp_path):
    raw, labels = neurons()
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "labels.npy", labels)
    card = ModelCard(network=SMALLEST.replace(voxel_size_nm=(10, 10, 10)), name="seed", step=7)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "seed", build_network(card.network), card)
    return tmp_path


def config(folder, **changes):
    values = {
        "volume": str(folder / "raw.npy"),
        "annotations": str(folder / "labels.npy"),
        "model": str(folder / "seed"),
        "out": str(folder / "run"),
        "voxel_size": "10,10,10",
        "steps": 3,
        "crop": (8, 32, 32),
        "device": "cpu",
        "precision": "fp32",
        "workers": 0,
        "parts": "all",
    }
    return FinetuneConfig(**{**values, **changes})


def texts(events):
    return [event.text for event in events if isinstance(event, Message)]


def test_a_run_leaves_a_model_that_says_where_it_comes_from(data):
    _, events, result = drive(finetune(config(data, preview="4:12,8:40,8:40")))
    assert result["steps"] == 3
    assert 0 < result["affinity_f1"] <= 1
    _, card = load_checkpoint(find_model(data / "run"))
    assert result["model"].endswith("best.safetensors")
    assert (card.name, card.step, card.lineage[0].name) == ("run", 7 + card.history[0].steps, "seed")
    assert card.voxel_size_nm == (10, 10, 10)
    assert card.history[0].settings["crop"] == [8, 32, 32]
    assert card.data[0].name.endswith("raw.npy")
    assert card.metrics["validation_loss"] == pytest.approx(result["validation_loss"], abs=1e-4)
    preview = next(event for event in events if isinstance(event, Preview))
    assert np.load(preview.path).shape == (3, 8, 32, 32)
    assert preview.box == "4:12,8:40,8:40"
    settings = json.loads((data / "run" / "training.json").read_text())
    assert settings["data"][0]["hash"]
    assert "torch" in settings["versions"]
    assert "# run" in (data / "run" / "summary.md").read_text()
    assert list((data / "run" / "tensorboard").iterdir())


def test_weights_change_only_where_they_learn(data):
    drive(finetune(config(data, parts="decoder")))
    before, after = (load_checkpoint(path)[0].state_dict() for path in (data / "seed", find_model(data / "run")))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("decoder", "out")) for name in changed)


def test_adapters_are_merged_in_what_is_stored(data):
    drive(finetune(config(data, parts="adapters")))
    before, after = (load_checkpoint(path)[0].state_dict() for path in (data / "seed", find_model(data / "run")))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("vit"))


def test_a_run_that_is_stopped_and_resumed_follows_the_losses_of_one_that_never_was(data, monkeypatch):
    monkeypatch.setattr(loop._Due, "now", lambda *_, **__: True)  # say, measure and store after every step
    whole, _, _ = drive(finetune(config(data, steps=4, out=str(data / "whole"))))
    drive(finetune(config(data, steps=4)), stop_after=1)
    assert (data / "run" / "state.safetensors").exists()
    assert "was stopped" in (data / "run" / "summary.md").read_text()
    later, events, _ = drive(finetune(config(data, steps=4)))
    assert "Going on after step 1." in texts(events)
    assert list(later) == [2, 3, 4]
    assert later == pytest.approx({step: whole[step] for step in later}, rel=1e-6)


def test_other_settings_in_the_same_folder_are_refused_but_a_longer_budget_is_not(data):
    drive(finetune(config(data, steps=1)))
    with pytest.raises(TrainError, match="choose another --out"):
        drive(finetune(config(data, steps=1, loss="mse")))
    _, _, result = drive(finetune(config(data, steps=2)))
    assert result["steps"] == 2


def test_minutes_choose_the_plan_and_say_it(data):
    _, events, result = drive(finetune(config(data, steps=None, minutes=0.03, crop=None)))
    assert any("steps in 0.03 minutes, each of 1 crop of" in text for text in texts(events))
    assert result["steps"] >= 1


def test_few_labels_let_the_decoder_of_a_trained_network_learn_and_all_of_a_new_one(data):
    _, events, result = drive(finetune(config(data, parts="auto", steps=1)))
    assert result["parts"] in {"decoder", "all"}
    known = np.zeros(SHAPE, np.uint32)
    known[8] = neurons()[1][8]
    np.save(data / "few.npy", known)
    few = config(data, parts="auto", steps=1, annotations=str(data / "few.npy"), out=str(data / "few"))
    _, events, result = drive(finetune(few))
    assert result["parts"] == "decoder"
    assert any("pairs of voxels are known, too few" in text for text in texts(events))


def test_a_size_without_weights_starts_from_scratch_and_says_so(data):
    _, events, _ = drive(finetune(config(data, model="tiny", steps=1)))
    assert any("starts from scratch" in text for text in texts(events))


def test_a_network_that_was_only_pretrained_gets_a_new_head(data):
    network = SMALLEST.replace(offsets=((0, 0, 0),))
    save_checkpoint(data / "pre", build_network(network), ModelCard(network=network))
    _, events, _ = drive(finetune(config(data, model=str(data / "pre"), parts="auto", steps=1)))
    assert any("new last layer" in text for text in texts(events))
    assert any("never seen labels" in text for text in texts(events))  # so all of it learns
    assert load_checkpoint(find_model(data / "run"))[0].config.outputs == 3


def test_of_a_pretraining_all_is_taken_or_the_encoder_alone(data):
    network = SMALLEST.replace(offsets=((0, 0, 0),))
    pretrained = build_network(network)
    save_checkpoint(data / "pre", pretrained, ModelCard(network=network))
    old = pretrained.state_dict()

    def kept(out: str, **settings: str) -> set[str]:
        chosen = config(data, model=str(data / "pre"), steps=1, learning_rate=1e-9, out=str(data / out), **settings)
        drive(finetune(chosen))
        new = load_checkpoint(find_model(data / out))[0].state_dict()
        same = [name for name in old if old[name].shape == new[name].shape]
        alike = {name for name in same if (old[name] - new[name]).abs().max() < 1e-6}
        return {name.split(".")[0].rstrip("12345") for name in alike if old[name].ndim > 1}

    assert kept("run") == {"vit", "encoder", "decoder"}
    assert kept("part", transfer="encoder") == {"vit", "encoder"}


def test_losses_and_scores_come_as_metrics(data):
    _, events, _ = drive(finetune(config(data)))
    names = {name for event in events if isinstance(event, Metric) for name in event.values}
    assert {"loss", "learning_rate", "seconds", "validation_loss", "affinity_f1", "boundary_f1"} <= names


def test_segments_of_what_is_held_out_are_scored_where_it_is_dense(data):
    seen = []

    def score(affinities, labels, offsets, voxel_size_nm):
        seen.append((affinities.shape[1:], labels.shape, voxel_size_nm))
        return {"voi": 0.5}

    _, _, result = drive(finetune(config(data, steps=1), score))
    assert result["voi"] == 0.5
    assert all(a == b for a, b, _ in seen)
    assert seen[0][2] == (10, 10, 10)


def test_too_few_annotations_to_hold_any_out_is_said_and_all_are_trained_on(data):
    labels = np.zeros(SHAPE, np.uint32)
    labels[3, 20:24, 28:36] = neurons()[1][3, 20:24, 28:36]
    np.save(data / "few.npy", labels)
    _, events, result = drive(finetune(config(data, annotations=str(data / "few.npy"), steps=1)))
    assert any("all of it is trained on" in text for text in texts(events))
    assert result["model"].endswith("last.safetensors")


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(SHAPE, np.uint32), "No voxel is labelled"),
        (np.full(SHAPE, 5, np.uint32), "paint a second neuron next to the first"),
        (np.ones((4, 8, 8), np.uint32), "give the labels that were made on this volume|shape"),
    ],
)
def test_annotations_that_teach_nothing_are_refused_in_one_sentence(data, labels, sentence):
    np.save(data / "bad.npy", labels)
    with pytest.raises((TrainError, AnnotationError), match=sentence):
        drive(finetune(config(data, annotations=str(data / "bad.npy"))))
    assert not (data / "run" / "state.safetensors").exists()


def test_a_volume_that_is_not_finite_is_refused_before_training(data):
    raw = neurons()[0].astype(np.float32)
    raw[3, 10:20] = np.nan
    np.save(data / "nan.npy", raw)
    with pytest.raises(VolumeError, match=r"finite|NaN"):
        drive(finetune(config(data, volume=str(data / "nan.npy"))))


def test_a_disk_without_room_is_said_before_training(data, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(TrainError, match="make room"):
        drive(finetune(config(data)))


def test_a_preview_outside_the_volume_is_refused(data):
    with pytest.raises(ConfigError, match="outside the volume"):
        drive(finetune(config(data, preview="90:99,0:8,0:8")))


def test_image_and_labels_are_resampled_to_the_voxel_size_that_the_model_knows(data):
    _, events, result = drive(
        finetune(config(data, voxel_size="10,5,5", preview="2:9,10:37,5:30", preview_seconds=1e-6))
    )
    assert any("so image and labels are resampled to that" in text for text in texts(events))
    _, card = load_checkpoint(result["model"])
    assert card.voxel_size_nm == (10, 10, 10)
    settings = json.loads((data / "run" / "training.json").read_text())
    assert settings["resampled_to_nm"] == [10, 10, 10]
    assert settings["data"][0]["voxel_size_nm"] == [10, 5, 5]
    shown = [event for event in events if isinstance(event, Preview)]
    assert np.load(shown[-1].path).shape == (3, 7, 27, 25)  # in voxels of the volume
    ends = np.array([Box.parse(box).stop for box in settings["held_out"]])
    assert len(ends)
    assert ends[:, 2].max() > SHAPE[2] // 2  # in voxels of the volume too: the membrane is in its middle


def test_a_preview_of_a_coarse_volume_shows_its_middle_so_that_it_costs_no_more(data):
    changes = {"preview": "0:16,0:64,0:64", "preview_seconds": 1e-6, "hold_out": 0.0}
    _, events, _ = drive(finetune(config(data, voxel_size="20,20,20", **changes)))
    shown = [event for event in events if isinstance(event, Preview)]
    assert shown[-1].box == "4:12,16:48,16:48"
    assert np.load(shown[-1].path).shape == (3, 8, 32, 32)


def test_labels_that_hold_no_border_at_the_models_voxel_size_are_refused(data):
    labels = np.zeros(SHAPE, np.uint32)
    labels[:, 10, 20], labels[:, 10, 21] = 1, 2  # both in one voxel of the model
    labels[:, 40:50, 40:50] = 1
    np.save(data / "few.npy", labels)
    with pytest.raises(TrainError, match="no border between two neurons is known"):
        drive(finetune(config(data, annotations=str(data / "few.npy"), voxel_size="10,5,5")))


def test_the_volumes_own_voxel_size_is_learnt_where_that_is_wanted(data):
    _, events, result = drive(finetune(config(data, voxel_size="10,5,5", resample=False)))
    assert any("it has to learn the difference" in text for text in texts(events))
    _, card = load_checkpoint(result["model"])
    assert card.voxel_size_nm == (10, 5, 5)
