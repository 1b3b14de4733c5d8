from __future__ import annotations

import shlex
from importlib import import_module
from types import SimpleNamespace

import pytest

from napari_tokenunify.cli import _parse
from napari_tokenunify.config import (
    EvaluateConfig,
    FinetuneConfig,
    InfoConfig,
    PredictConfig,
    PretrainConfig,
    SegmentConfig,
)
from napari_tokenunify.pipeline import STAGES, command_line, python_code


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_resolves(name: str):
    module, _, function = STAGES[name].path.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.job])
def test_a_stage_that_runs_as_a_job_names_the_folder_of_its_run(name: str):
    assert "out" in STAGES[name].config.model_fields


CONFIGS = [
    ("info", InfoConfig(uri="a b.h5::raw", voxel_size="40,4,4")),
    (
        "finetune",
        FinetuneConfig(volume="v", annotations="a", out="o", crop=(8, 64, 64), zero_is_boundary=True),
    ),
    ("predict", PredictConfig(volume="v", model="m", out="o", start_at=(-1, 2, 3), box="0:8,0:64,0:64")),
    ("segment", SegmentConfig(affinities="a", out="o", offsets=((-1, 0, 0), (0, -1, 0)), threshold=0.25)),
    ("pretrain", PretrainConfig(volumes=("a b.h5::/raw", "c.zarr"), out="o", weights=(1, 2.5), resample=False)),
    ("pretrain", PretrainConfig(volumes=("a", "b"), out="o", voxel_size="40,4,4 file", sweep=("tiny", "small"))),
    ("pretrain", PretrainConfig(volumes=("a,b.tif", "c.tif"), out="o")),
    ("evaluate", EvaluateConfig(segmentation="s", labels="l", ignore=(0, 7))),
    ("evaluate", EvaluateConfig(segmentation="s", labels="l", ignore=())),
]


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_the_command_line_of_a_config_says_the_same(name, config):
    words = shlex.split(command_line(name, config))
    assert words[0] == "napari-tokenunify"
    command = _parse(words[1:])
    assert (command.verb, command.config) == (name, config)


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_the_code_of_a_config_makes_the_same(name, config):
    made = []
    code = python_code(name, config).replace("from napari_tokenunify.pipeline import STAGES", "")
    stage = SimpleNamespace(run=lambda given: made.append(given) or ())
    exec(code, {"STAGES": {name: stage}})
    assert made == [config]
