from __future__ import annotations

import csv
import json
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from napari_tokenunify.config import ComparePretrainingConfig
from napari_tokenunify.data import open_annotations, open_volume
from napari_tokenunify.errors import ConfigError, ModelError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.helped import comparison
from napari_tokenunify.helped.comparison import compare_pretraining
from napari_tokenunify.helped.places import keep_apart
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard, build_network, save_checkpoint
from napari_tokenunify.network.card import TrainingRun
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train import finetuning
from tests.train.test_finetuning import SMALLEST, neurons
from tests.train.toy import drive


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two neurons on both sides of a membrane, and two pre-trained networks of a size that has a name."""
    presets = MappingProxyType({**NETWORK_PRESETS, "smallest": SMALLEST})
    for module in (comparison, finetuning):
        monkeypatch.setattr(module, "NETWORK_PRESETS", presets)
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))
    raw, labels = neurons()
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "labels.npy", labels)
    shape = SMALLEST.replace(voxel_size_nm=(10, 10, 10), offsets=((0, 0, 0),))
    for number, recipe in enumerate(("paper", "mae")):
        torch.manual_seed(number)
        run = TrainingRun(stage="pretrain", steps=5, started="", seconds=60, settings={"recipe": recipe})
        card = ModelCard(network=shape, name=recipe, step=5, history=(run.model_dump(),))
        save_checkpoint(tmp_path / f"pretrain-{number}", build_network(shape), card)
    return tmp_path


def config(folder, **changes):
    values = {
        "volume": str(folder / "raw.npy"),
        "annotations": str(folder / "labels.npy"),
        "model": str(folder / "pretrain-0"),
        "out": str(folder / "helped"),
        "voxel_size": "10,10,10",
        "steps": 2,
        "crop": (8, 32, 32),
        "seeds": 2,
        "device": "cpu",
        "precision": "fp32",
        "workers": 0,
    }
    return ComparePretrainingConfig(**{**values, **changes})


@pytest.fixture
def told(monkeypatch):
    """Trainings and scores that take no time; returns what trainings were asked for."""
    asked = []

    def finetune(one):
        asked.append(one)
        paths = RunPaths(Path(one.out))
        paths.folder.mkdir(parents=True, exist_ok=True)
        plan = {"crop": [8, 64, 64], "batch": 3, "learning_rate": 1e-3}
        paths.settings.write_text(json.dumps({"plan": plan}))
        yield Progress(1, 2, "training, step 1")
        return {"model": one.model, "parts": "all", "steps": 2, "seconds": 1.0}

    def scores_of(model, *_):
        yield Progress(1, 1, "predicting")
        return {"validation_loss": 0.1 if "pretrain" in model else 0.2, "affinity_f1": 0.5}

    monkeypatch.setattr(comparison, "finetune", finetune)
    monkeypatch.setattr(comparison, "scores_of", scores_of)
    return asked


def test_networks_are_trained_and_scored_where_no_training_looked(data):
    _, _, result = drive(compare_pretraining(config(data, seeds=1)))
    assert [row["start"] for row in result["rows"]] == ["pretrain-0 (paper)", "scratch"]
    for row in result["rows"]:
        assert 0 <= row["affinity_f1"] <= 1
        assert {"validation_loss", "voi", "voi_split", "voi_merge", "adapted_rand_error"} <= set(row)
        assert (row["seeds"], row["steps"]) == (1, 2)
    assert "with 1 seed; that may be chance" in result["verdict"]
    assert not list((data / "helped").rglob("place-*.zarr"))  # what was predicted to be scored takes no room

    volume = open_volume(str(data / "raw.npy"), (10, 10, 10))
    learnt = open_annotations(str(data / "helped" / "annotations.zarr"), volume)
    for box in result["places"]:
        assert not learnt.read(Box.parse(box)).any()
    ids, whole = learnt.read(Box.whole(volume.shape)), np.load(data / "labels.npy")
    np.testing.assert_array_equal(ids[ids > 0], whole[ids > 0])
    assert np.count_nonzero(ids) > 0.5 * ids.size


def test_every_start_gets_every_seed_and_a_table_says_who_won(data, told):
    _, events, result = drive(compare_pretraining(config(data, others=(str(data / "pretrain-1"),))))
    names = ["pretrain-0 (paper)", "scratch", "pretrain-1 (mae)"]
    assert [row["start"] for row in result["rows"]] == names
    assert result["verdict"].startswith("Loss is 50% lower than from scratch, with 2 seeds")
    text = (data / "helped" / "table.md").read_text()
    assert result["verdict"] in text
    assert "| scratch | 0.200 ± 0.000 |" in text
    with (data / "helped" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["start"], row["seed"]) for row in rows[:6]] == [(name, seed) for seed in "01" for name in names]
    done = [event.done for event in events if isinstance(event, Progress)][1:]
    assert done == sorted(done)
    assert done[-1] == 6000


def test_more_starts_add_to_a_comparison_and_none_may_be_left_out(data, told):
    drive(compare_pretraining(config(data)))
    first = len(told)
    _, _, result = drive(compare_pretraining(config(data, others=(str(data / "pretrain-1"),))))
    assert [row["start"] for row in result["rows"]] == ["pretrain-0 (paper)", "scratch", "pretrain-1 (mae)"]
    assert {one.model for one in told[first:]} == {str(data / "pretrain-1")}
    with pytest.raises(TrainError, match="other settings, data or starts"):
        drive(compare_pretraining(config(data)))


def test_all_trainings_have_the_crop_and_batch_that_the_first_one_chose(data, told):
    drive(compare_pretraining(config(data, crop=None)))
    assert [(one.crop, one.batch) for one in told] == [(None, None), *[((8, 64, 64), 3)] * 3]
    assert [one.model for one in told] == [str(data / "pretrain-0"), "smallest"] * 2
    assert [one.seed for one in told] == [0, 0, 1, 1]
    assert {one.patience for one in told} == {0}
    assert {one.annotations for one in told} == {str(data / "helped" / "annotations.zarr")}


def test_a_comparison_goes_on_where_it_was_and_more_seeds_add_to_it(data, told):
    stage = compare_pretraining(config(data))
    for event in stage:
        if isinstance(event, Message) and "seed 0: loss" in event.text:
            break
    stage.close()
    assert "1 of 4 trainings are done" in (data / "helped" / "table.md").read_text()
    np.save(data / "labels.npy", np.zeros((16, 64, 64), np.uint32))  # painting on does not change what is compared
    drive(compare_pretraining(config(data)))
    assert [(one.model, one.seed) for one in told[1:]] == [
        ("smallest", 0), (str(data / "pretrain-0"), 1), ("smallest", 1),
    ]  # fmt: skip
    _, _, result = drive(compare_pretraining(config(data, seeds=3)))
    assert len(told) == 6
    assert result["rows"][0]["seeds"] == 3


def test_a_training_that_is_stopped_gets_to_write_its_checkpoint(data, monkeypatch):
    stopped = []

    def finetune(one):
        try:
            while True:
                yield Progress(1, 2, "training, step 1")
        finally:
            stopped.append(one.out)

    monkeypatch.setattr(comparison, "finetune", finetune)
    stage = compare_pretraining(config(data))
    for event in stage:
        if isinstance(event, Progress) and event.total > 1:
            break
    stage.close()
    assert stopped == [str(data / "helped" / "trainings" / "0-seed-0")]


def test_a_box_of_ones_own_may_be_judged_by_other_labels(data, told):
    labels = np.load(data / "labels.npy")
    np.save(data / "dense.npy", labels)
    labels[8:] = 0
    np.save(data / "labels.npy", labels)
    found = config(data, box="8:16,16:48,16:48", truth=str(data / "dense.npy"))
    kept = keep_apart(found, open_volume(found.volume, (10, 10, 10)), data / "helped")
    (place,) = kept.places
    assert str(place.box) == found.box
    np.testing.assert_array_equal(place.ids, np.load(data / "dense.npy")[place.box.slices])
    assert place.is_dense


def test_where_0_is_background_it_stays_so_and_what_is_kept_back_is_unlabelled(data):
    labels = np.load(data / "labels.npy")
    labels[:, :, 31:33] = 0
    np.save(data / "labels.npy", labels)
    volume = open_volume(str(data / "raw.npy"), (10, 10, 10))
    found = config(data, box="4:12,16:48,16:48", zero_is_boundary=True)
    kept = keep_apart(found, volume, data / "helped")
    learnt = open_annotations(kept.annotations, volume, kept.boundary_id)
    ids = learnt.read(Box.whole(volume.shape))
    assert (ids[0, 0, 31], ids[8, 20, 20]) == (kept.boundary_id, 0)
    assert kept.places[0].ids[0, 0, 15] == kept.boundary_id


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model": "nothing-there"}, ModelError, "nothing-there"),
        ({"truth": "labels.npy"}, ConfigError, "give --box, too"),
        ({"box": "0:8,0:500,0:32"}, ConfigError, "reaches outside"),
        ({"annotations": "few.npy"}, TrainError, "places that no training sees"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(data, changes, error, said):
    few = np.zeros((16, 64, 64), np.uint32)
    few[0, 0, :4] = 1, 1, 2, 2
    np.save(data / "few.npy", few)
    changes = {name: str(data / value) if value.endswith(".npy") else value for name, value in changes.items()}
    with pytest.raises(error, match=said):
        drive(compare_pretraining(config(data, **changes)))
    assert not (data / "helped" / "trainings").exists()


def test_a_network_of_no_named_size_cannot_be_held_beside_scratch(data):
    shape = SMALLEST.replace(hidden=6, offsets=((0, 0, 0),))
    save_checkpoint(data / "odd", build_network(shape), ModelCard(network=shape))
    with pytest.raises(ConfigError, match="none of the named sizes"):
        drive(compare_pretraining(config(data, model=str(data / "odd"))))


def test_another_comparison_in_the_same_folder_is_refused(data):
    stage = compare_pretraining(config(data))
    while not (data / "helped" / "comparison.json").exists():
        next(stage)
    stage.close()
    with pytest.raises(TrainError, match="choose another --out"):
        drive(compare_pretraining(config(data, steps=3)))
