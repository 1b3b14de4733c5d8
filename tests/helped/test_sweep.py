from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from napari_tokenunify.config import PretrainConfig
from napari_tokenunify.errors import ConfigError, ModelError, TokenUnifyError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.helped import comparison, sweep
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard, build_network, save_checkpoint
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train import finetuning
from napari_tokenunify.train.pretraining import pretraining, pretraining_task
from tests.train.pretraining.test_pretraining import SMALLEST
from tests.train.test_finetuning import neurons
from tests.train.toy import drive


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two neurons on both sides of a membrane, and two sizes that take no time."""
    sizes = {"least": SMALLEST, "wider": SMALLEST.replace(widths=(6, 8))}
    for module in (sweep, comparison, finetuning, pretraining):
        monkeypatch.setattr(module, "NETWORK_PRESETS", MappingProxyType({**NETWORK_PRESETS, **sizes}))
    monkeypatch.setattr(pretraining_task, "HELD_OUT_CROPS", 1)
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))
    raw, labels = neurons()
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "labels.npy", labels)
    return tmp_path


def config(folder, **changes):
    values = {
        "volumes": (str(folder / "raw.npy"),), "out": str(folder / "sweep"), "voxel_size": "10,10,10", "steps": 2,
        "sweep": ("wider", "least"), "recipe": "mae", "crop": (4, 32, 32), "token": (2, 8, 8), "batch": 3,
        "device": "cpu", "precision": "fp32", "workers": 0,
    }  # fmt: skip
    return PretrainConfig(**{**values, **changes})


def run(folder, **changes):
    return drive(STAGES["pretrain"].run(config(folder, **changes)))


@pytest.fixture
def pretrained(monkeypatch):
    """Pre-trainings that take no time; returns what was asked for."""
    asked = []

    def pretrain(one):
        asked.append(one)
        paths = RunPaths(Path(one.out))
        paths.folder.mkdir(parents=True, exist_ok=True)
        paths.settings.write_text(json.dumps({"plan": {"batch": 3, "learning_rate": 1e-3}}))
        yield Progress(1, 2, "training, step 1")
        about = {"out": one.out, "model": "", "recipe": one.recipe, "steps": 2, "seconds": 1.0}
        return {**about, "crop": list(one.crop), "validation_loss": 0.1, "peak_memory_mb": 1}

    monkeypatch.setattr(sweep, "pretrain", pretrain)
    return asked


def test_each_size_is_pre_trained_and_measured_and_a_table_and_plots_tell(data):
    _, events, result = run(data)
    assert [row["size"] for row in result["rows"]] == ["least", "wider"]
    for row in result["rows"]:
        assert (row["steps"], row["batch"], row["crop"]) == (2, 3, "4x32x32")
        assert row["validation_loss"] > 0
        assert row["flop"] == 6 * row["multiply_adds"] * 2 * 3
    assert result["rows"][0]["parameters"] < result["rows"][1]["parameters"]
    text = Path(result["table"]).read_text()
    assert "Each size had 2 steps" in text
    assert (data / "sweep" / "loss_by_compute.svg").exists()
    assert (data / "sweep" / "sizes" / "least" / "checkpoints" / "best.safetensors").exists()
    done = [event.done for event in events if isinstance(event, Progress) and event.total == 2000]
    assert done == sorted(done)
    assert done[-1] == 2000


def test_a_sweep_goes_on_where_it_was_and_more_sizes_add_to_it(data, pretrained):
    stage = sweep.sweep(config(data))
    for event in stage:
        if isinstance(event, Message) and event.text.startswith("wider"):
            break
    stage.close()
    assert "1 of 2 sizes are done" in (data / "sweep" / "table.md").read_text()
    run(data)
    assert [Path(one.out).name for one in pretrained] == ["wider", "least"]
    assert {(one.model, one.sweep, one.crop) for one in pretrained} == {
        ("wider", (), (4, 32, 32)), ("least", (), (4, 32, 32)),
    }  # fmt: skip
    _, _, result = run(data, sweep=("least", "wider", "tiny"))
    assert [Path(one.out).name for one in pretrained[2:]] == ["tiny"]
    assert len(result["rows"]) == 3


def test_all_sizes_learn_from_crops_that_suit_the_widest(data, pretrained, monkeypatch):
    asked = []
    monkeypatch.setattr(sweep, "usual_crop", lambda volume, width, device: asked.append(width) or (8, 48, 48))
    run(data, crop=None)
    run(data, crop=None, sweep=("wider", "least", "tiny"))
    assert asked == [6]  # the second time it is what it was
    assert [one.crop for one in pretrained] == [(8, 48, 48)] * 3


def test_with_annotations_each_size_is_trained_on_them_too(data, pretrained, monkeypatch):
    asked = []

    def compare(one):
        asked.append(one)
        assert (Path(one.out) / "places.npz").exists()
        yield Progress(1, 1, "training")
        return {"rows": [{"voi": 1.0, "voi_spread": 0.1, "steps": 3}, {"voi": 2.0}]}

    monkeypatch.setattr(sweep, "compare_pretraining", compare)
    run(data, sweep=("least",))
    _, _, result = run(data, annotations=str(data / "labels.npy"), finetune_minutes=0.5, seeds=2)
    assert len(pretrained) == 2  # annotations add to what is there
    first = asked[0]
    assert (first.volume, first.voxel_size, first.minutes, first.seeds) == (
        str(data / "raw.npy"), "10.0,10.0,10.0", 0.5, 2,
    )  # fmt: skip
    assert first.model == str(data / "sweep" / "sizes" / "wider")
    assert [(row["pretrained_voi"], row["scratch_voi"]) for row in result["rows"]] == [(1.0, 2.0)] * 2
    assert "| 1.000 ± 0.100 | 2.000 |" in Path(result["table"]).read_text()


def test_labels_that_cannot_be_used_are_said_before_anything_is_trained(data, pretrained):
    np.save(data / "few.npy", np.zeros((16, 64, 64), np.uint32))
    with pytest.raises(TokenUnifyError, match=r"few\.npy"):
        run(data, annotations=str(data / "few.npy"))
    assert not pretrained


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"sweep": ("least", "huge")}, ConfigError, "--sweep huge: is no size; the sizes are tiny, small"),
        ({"sweep": ("mine",)}, ConfigError, "is no size"),
        ({"sweep": ("tiny",)}, ModelError, "is the name of a model here"),
        ({"hold_out": 0}, ConfigError, "--hold-out more than 0"),
        ({"sweep": (), "annotations": "labels.npy"}, ConfigError, "leave out --annotations, or give --sweep"),
        ({"volumes": ("nothing.npy",)}, TokenUnifyError, r"nothing\.npy"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_trained(data, pretrained, changes, error, said):
    save_checkpoint(data / "models" / "tiny", build_network(SMALLEST), ModelCard(network=SMALLEST))
    with pytest.raises(error, match=said):
        run(data, **changes)
    assert not pretrained


def test_another_sweep_in_the_same_folder_and_several_gpus_are_refused(data, pretrained, monkeypatch):
    run(data, sweep=("least",))
    for changes in ({"steps": 3}, {"recipe": "paper"}, {"crop": (4, 32, 40)}):
        with pytest.raises(TrainError, match="choose another --out"):
            run(data, **changes)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainError, match=r"leave out --launch\.gpus"):
        run(data)
