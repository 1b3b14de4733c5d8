from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import zarr

from napari_tokenunify.config import FinetuneConfig, ModelsImportConfig, PretrainConfig
from napari_tokenunify.errors import ConfigError, TrainError, VolumeError
from napari_tokenunify.events import Message, Metric, Preview
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard, build_network, load_checkpoint, save_checkpoint
from napari_tokenunify.network.card import head_file
from napari_tokenunify.network.checkpoint import read_tensors
from napari_tokenunify.network.installed import find_model
from napari_tokenunify.network.models import import_model
from napari_tokenunify.train import loop
from napari_tokenunify.train.finetuning import finetune
from napari_tokenunify.train.pretraining import pretraining_task
from napari_tokenunify.train.pretraining.heads import OfficialHead
from napari_tokenunify.train.pretraining.pretraining import pretrain
from napari_tokenunify.train.pretraining.reconstructions import read_reconstructions
from tests.train.toy import drive

SHAPE = (40, 64, 64)
SMALLEST = NETWORK_PRESETS["tiny"].replace(widths=(4, 4), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)))


def tissue(seed=0, shape=SHAPE):
    """Return smooth grey stripes that noise and blanks do not have."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    waves = sum(np.sin((a * z + b * y + c * x) / 6 + d) for a, b, c, d in rng.uniform(-1, 1, (6, 4)))
    return (128 + 30 * waves).clip(0, 255).astype(np.uint8)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_task, "HELD_OUT_CROPS", 2)
    for number in (0, 1):
        np.save(tmp_path / f"raw{number}.npy", tissue(number))
    shape = SMALLEST.replace(voxel_size_nm=(10, 10, 10), offsets=((0, 0, 0),))
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "seed", build_network(shape), ModelCard(network=shape, name="seed", step=7))
    return tmp_path


def config(folder, **changes):
    values = {
        "volumes": (str(folder / "raw0.npy"), str(folder / "raw1.npy")),
        "out": str(folder / "run"),
        "model": str(folder / "seed"),
        "voxel_size": "10,10,10",
        "steps": 3,
        "crop": (4, 32, 32),
        "token": (2, 8, 8),
        "device": "cpu",
        "precision": "fp32",
        "workers": 0,
    }
    return PretrainConfig(**{**values, **changes})


def texts(events):
    return [event.text for event in events if isinstance(event, Message)]


def metrics(events):
    return {name for event in events if isinstance(event, Metric) for name in event.values}


def test_a_run_leaves_a_model_that_says_what_it_was_trained_on(data):
    _, events, result = drive(pretrain(config(data, licences=("CC-BY-4.0", "CC0-1.0"))))
    assert (result["steps"], result["recipe"], result["crop"]) == (3, "paper", [4, 32, 32])
    network, card = load_checkpoint(find_model(data / "run"))
    assert network.config.offsets == ((0, 0, 0),)
    assert [(used.name[-8:], used.licence) for used in card.data] == [
        ("raw0.npy", "CC-BY-4.0"),
        ("raw1.npy", "CC0-1.0"),
    ]
    assert (card.step, card.history[0].stage, card.lineage[0].name) == (7 + card.history[0].steps, "pretrain", "seed")
    assert "fine-tune it before use" in card.description
    assert card.voxel_size_nm == (10, 10, 10)
    assert read_tensors(head_file(find_model(data / "run")))["lack.weight"].shape[0] == 2 * 8 * 8
    settings = json.loads((data / "run" / "training.json").read_text())
    assert [each["voxels"] for each in settings["data"]] == [np.prod(SHAPE)] * 2
    assert all(each["hash"] and each["licence"] for each in settings["data"])
    assert settings["recipe"]["phases"][0]["until"] == 0.3
    assert "Kept to measure on: the last 8 sections" in " ".join(texts(events))
    summary = (data / "run" / "summary.md").read_text()
    assert "finetune" in summary
    assert "objective" in summary


def test_every_objective_has_its_curve_its_weight_and_its_trivial_rivals(data):
    _, events, result = drive(pretrain(config(data, recipe="paper", steps=8, batch=3)))
    names = ("random", "next", "next_all")
    assert {f"{what}_{name}" for name in names for what in ("loss", "weight", "validation")} <= metrics(events)
    rivals = {f"{name}_against_{who}" for name in names for who in ("mean", "nearest", "inpainting")}
    assert rivals <= metrics(events)
    assert rivals <= result.keys()
    assert result["validation_loss"] == pytest.approx(
        np.mean([result[f"validation_{name}"] for name in names]), abs=1e-4
    )


@pytest.mark.parametrize("recipe", ["mae", "autoregressive", "random+next", "random+next-all"])
def test_every_recipe_runs(data, recipe):
    _, _, result = drive(pretrain(config(data, recipe=recipe, steps=2)))
    assert result["steps"] == 2
    assert np.isfinite(result["validation_loss"])


@pytest.mark.parametrize(("unit", "order"), [("cell", "hilbert"), ("spread", "near-to-far"), ("scale", "raster")])
def test_every_unit_and_order_can_be_chosen_over_the_recipe(data, unit, order):
    _, _, result = drive(pretrain(config(data, recipe="autoregressive", unit=unit, order=order, steps=2)))
    assert np.isfinite(result["validation_next"])


def test_the_official_code_goes_from_its_first_stage_to_its_second(data):
    _, events, result = drive(
        pretrain(config(data, recipe="official-code", crop=None, token=None, steps=2, hold_out=0))
    )
    assert result["crop"] == [16, 160, 160]
    weights = [event.values for event in events if isinstance(event, Metric) and "weight_random" in event.values]
    assert weights[-1]["weight_next"] > 0
    assert set(read_tensors(head_file(find_model(data / "run")))) >= {"conv1.weight", "mlp.weight"}


def test_what_is_learnt_beats_what_was_there_before(data):
    _, events, result = drive(pretrain(config(data, recipe="mae", steps=40, learning_rate=0.01)))
    measured = [e.values["validation_loss"] for e in events if isinstance(e, Metric) and "validation_loss" in e.values]
    losses = [event.values["loss"] for event in events if isinstance(event, Metric) and "loss" in event.values]
    assert losses[-1] < 0.8 * losses[0]
    assert measured[-1] == pytest.approx(result["validation_loss"], abs=1e-5)
    assert result["random_against_mean"] < 1


def test_a_run_that_is_stopped_and_resumed_follows_the_losses_of_one_that_never_was(data, monkeypatch):
    monkeypatch.setattr(loop._Due, "now", lambda *_, **__: True)
    whole, all_events, _ = drive(pretrain(config(data, steps=4, batch=2, out=str(data / "whole"))))
    drive(pretrain(config(data, steps=4, batch=2)), stop_after=1)
    later, events, _ = drive(pretrain(config(data, steps=4, batch=2)))
    assert "Going on after step 1." in texts(events)
    assert list(later) == [2, 3, 4]
    assert later == pytest.approx({step: whole[step] for step in later}, rel=1e-6)
    told = [e.values for e in all_events if isinstance(e, Metric) and e.step == 3 and "loss" in e.values]
    again = [e.values for e in events if isinstance(e, Metric) and e.step == 3 and "loss" in e.values]
    for values in (*told, *again):
        values.pop("seconds")
    assert again[0] == pytest.approx(told[0], rel=1e-6)


def test_other_settings_in_the_same_folder_are_refused_but_a_longer_budget_is_not(data):
    drive(pretrain(config(data, steps=1)))
    with pytest.raises(TrainError, match="choose another --out"):
        drive(pretrain(config(data, steps=1, order="hilbert")))
    _, _, result = drive(pretrain(config(data, steps=2)))
    assert result["steps"] == 2


def test_finetuning_goes_on_from_a_pretrained_run(data):
    drive(pretrain(config(data)))
    labels = np.ones(SHAPE, np.uint32)
    labels[:, :, 32:] = 2
    np.save(data / "labels.npy", labels)
    tuned = FinetuneConfig(
        volume=str(data / "raw0.npy"), annotations=str(data / "labels.npy"), model=str(data / "run"), steps=1,
        out=str(data / "tuned"), voxel_size="10,10,10", crop=(8, 32, 32), device="cpu", precision="fp32", workers=0,
    )  # fmt: skip
    _, events, _ = drive(finetune(tuned))
    assert any("it gets a new last layer for affinities" in text for text in texts(events))
    network, card = load_checkpoint(find_model(data / "tuned"))
    assert network.config.outputs == 3
    assert [run.stage for run in card.history] == ["pretrain", "finetune"]


def test_pretraining_goes_on_from_a_run_with_its_head_and_from_a_network_for_affinities(data):
    drive(pretrain(config(data, recipe="autoregressive")))
    _, events, _ = drive(pretrain(config(data, model=str(data / "run"), out=str(data / "second"))))
    assert not any("head for next tokens" in text for text in texts(events))
    _, events, _ = drive(pretrain(config(data, model=str(data / "run"), out=str(data / "larger"), token=(2, 8, 16))))
    assert any("head for next tokens beside these weights does not fit" in text for text in texts(events))
    save_checkpoint(data / "tuned", build_network(SMALLEST), ModelCard(network=SMALLEST))
    _, events, _ = drive(pretrain(config(data, model=str(data / "tuned"), out=str(data / "third"), steps=1)))
    assert any("new last layer for grey values" in text for text in texts(events))
    assert any("head for next tokens beside these weights is missing" in text for text in texts(events))


def test_the_official_recipe_goes_on_from_an_official_file_with_its_head(data, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(data / "models"))
    shape = SMALLEST.replace(kernel=(1, 5, 5), residual=False, slices=5, strides=(2, 2, 2), offsets=((0, 0, 0),))
    network, head = build_network(shape), OfficialHead()
    head_names = {f"preciever.{name}": tensor for name, tensor in head.state_dict().items()}
    torch.save({"model": network.state_dict() | head_names, "epoch": 400}, data / "checkpoint-400.pth")
    imported = ModelsImportConfig(path=str(data / "checkpoint-400.pth"), name="official", voxel_size="10,10,10")
    _, events, result = drive(import_model(imported))
    assert result["head"] == "kept, to go on with pre-training"
    assert not any(result[kind] for kind in ("missing", "mismatched", "skipped"))
    changes = {"recipe": "official-code", "crop": None, "token": None, "steps": 1, "hold_out": 0}
    _, events, _ = drive(pretrain(config(data, model="official", learning_rate=1e-9, **changes)))
    assert not any("head for next tokens" in text or "last layer" in text for text in texts(events))
    again = read_tensors(head_file(find_model(data / "run")))
    torch.testing.assert_close(again["mlp.weight"], head.mlp.weight.detach(), atol=1e-6, rtol=0)
    assert load_checkpoint(find_model(data / "run"))[1].lineage[0].name == "official"


def test_a_size_starts_from_scratch(data):
    drive(pretrain(config(data, model="tiny", recipe="mae", steps=1)))
    assert load_checkpoint(find_model(data / "run"))[1].lineage == ()


def test_reconstructions_show_what_was_hidden_predicted_and_missed(data):
    _, events, _ = drive(pretrain(config(data)))
    preview = [event for event in events if isinstance(event, Preview)][-1]
    found, about = read_reconstructions(preview.path)
    assert set(found) == {"random", "next", "next_all"}
    assert (about["box"], about["volume"]) == (preview.box, str(data / "raw0.npy"))
    assert int(preview.box.split(":")[0]) >= SHAPE[0] - 4
    shown = found["random"]
    assert shown.input.shape == (4, 32, 32)
    assert shown.hidden.any()
    assert not shown.error[shown.hidden == 0].any()
    assert np.array_equal(shown.prediction[shown.hidden == 0], shown.input[shown.hidden == 0])


def test_volumes_of_another_voxel_size_are_resampled_or_that_is_said(data, tmp_path):
    for seed, (name, size) in enumerate((("a", 10.0), ("b", 5.0))):
        group = zarr.create_array(store=str(tmp_path / f"{name}.zarr"), data=tissue(seed), chunks=(8, 32, 32))
        group.attrs["resolution"] = [size] * 3
        group.attrs["units"] = ["nm"] * 3
    volumes = tuple(str(tmp_path / f"{name}.zarr") for name in "ab")
    _, events, _ = drive(pretrain(config(data, volumes=volumes, voxel_size=None, steps=1)))
    assert any("its crops are resampled" in text for text in texts(events))
    settings = json.loads((data / "run" / "training.json").read_text())
    assert [each["resampled_to_nm"] for each in settings["data"]] == [None, [10.0, 10.0, 10.0]]
    other = config(data, volumes=volumes, voxel_size=None, steps=1, resample=False, out=str(data / "as-is"))
    _, events, _ = drive(pretrain(other))
    assert any("has to learn both" in text for text in texts(events))


def test_a_thin_volume_is_all_learnt_from(data):
    np.save(data / "thin.npy", tissue(shape=(6, 64, 64)))
    _, events, result = drive(pretrain(config(data, volumes=(str(data / "thin.npy"),), steps=1)))
    assert any("No sections are kept" in text for text in texts(events))
    assert "validation_loss" not in result


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"recipe": "papre"}, ConfigError, "is no recipe and no file"),
        ({"weights": (1.0,)}, ConfigError, "1 entries for 2 volumes"),
        ({"weights": (0.0, 0.0)}, ConfigError, "are all 0"),
        ({"voxel_size": "10,10,10 8,8,8 file"}, ConfigError, "3 entries for 2 volumes: give one for all or one for"),
        ({"volumes": ("nothing.npy",)}, VolumeError, "nothing.npy"),
        ({"token": (4, 32, 32)}, TrainError, "larger --crop or a smaller --token"),
        ({"recipe": "official-code", "token": None}, ConfigError, "leave out --crop"),
        ({"recipe": "official-code", "crop": None}, ConfigError, "official head predicts single tokens"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(data, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        drive(pretrain(config(data, **changes)))
    assert not (data / "run" / "state.safetensors").exists()
