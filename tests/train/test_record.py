from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Metric, Progress, to_json
from napari_tokenunify.network import NETWORK_PRESETS, ModelCard
from napari_tokenunify.network.card import parse_card
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train import record
from napari_tokenunify.train.record import grown_card, recorded


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    found = RunPaths(tmp_path)
    found.settings.write_text("{}")
    return found


@pytest.fixture
def summaries(monkeypatch: pytest.MonkeyPatch) -> list:
    """The metrics and the ending that each summary was written of."""
    written = []
    monkeypatch.setattr(
        record,
        "write_summary",
        lambda paths, settings, events, ending: written.append(([e.step for e in events], ending)),
    )
    return written


def training(*steps: int, error: str = ""):
    yield Progress(0, 1, "looking at the data")
    for step in steps:
        yield Progress(step, 9, f"training, step {step}")
        yield Metric(step, {"loss": 1 / (1 + step)})
    if error:
        raise TrainError(error)
    return {"steps": len(steps)}


def test_what_no_job_keeps_is_kept_so_that_a_run_that_goes_on_has_all_its_curves(paths: RunPaths, summaries: list):
    list(recorded(training(1, 2), paths))
    with paths.said.open("a") as file:
        file.write('{"kind": "met')  # a kill
    list(recorded(training(), paths))  # it is done already
    assert summaries == [([1, 2], "The training is done.")] * 2


def test_what_a_job_keeps_is_not_kept_twice(paths: RunPaths, summaries: list):
    paths.events.write_text(json.dumps(to_json(Metric(1, {"loss": 1.0}))) + "\n")
    list(recorded(training(2), paths))
    assert summaries == [([1, 2], "The training is done.")]
    assert not paths.said.exists()


def test_a_training_that_is_refused_leaves_the_summary_of_the_run_before(paths: RunPaths, summaries: list):
    with pytest.raises(TrainError):
        list(recorded(training(error="other settings"), paths))
    assert not summaries
    assert not paths.tensorboard.exists()
    with pytest.raises(TrainError):
        list(recorded(training(1, error="lost"), paths))
    assert summaries == [([1], "The training has failed: lost")]


def test_a_score_that_is_no_number_is_left_out_of_the_card():
    scores = {"validation_loss": math.nan, "voi": math.inf, "affinity_f1": 0.5}
    settings = {
        "stage": "finetune",
        "started": "2026-01-01T00:00:00Z",
        "config": {},
        "plan": {"crop": [8, 32, 32]},
        "parts": "all",
        "data": [],
        "name": "mine",
        "model": {"trained": False},
        "intensity": {"low": 0.0, "high": 255.0, "mean": 120.0, "deviation": 40.0},
    }
    standing = SimpleNamespace(step=3, seconds=1.0, metrics=scores)
    card = grown_card(ModelCard(network=NETWORK_PRESETS["tiny"]), NETWORK_PRESETS["tiny"], settings, standing)
    assert parse_card(card.model_dump_json(), Path("x")).metrics == {"affinity_f1": 0.5}
