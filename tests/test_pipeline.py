from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from napari_tokenunify.config import DemoConfig
from napari_tokenunify.pipeline import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_resolves(name: str):
    module, _, function = STAGES[name].path.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.job])
def test_a_stage_that_runs_as_a_job_names_the_folder_of_its_run(name: str):
    assert "out" in STAGES[name].config.model_fields


def _run(config: DemoConfig) -> dict:
    stage = STAGES["demo"].run(config)
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def test_the_demo_opens_a_volume_and_writes_results_and_pictures(volume_file: Path, tmp_path: Path):
    out = tmp_path / "out.tokenunify"
    config = DemoConfig(volume=f"{volume_file}::raw", annotations=f"{volume_file}::labels", out=str(out), headless=True)
    result = _run(config)
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert [Path(path).name for path in result["pictures"]] == ["xy.png", "xy_labels.png", "xz.png", "xz_labels.png"]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in result["pictures"])
    assert result["intensity"][0] < result["intensity"][1]
    assert "2 neurons" in result["annotated"]


def test_the_demo_works_without_annotations(volume_file: Path, tmp_path: Path):
    result = _run(DemoConfig(volume=f"{volume_file}::raw", out=str(tmp_path / "out"), headless=True))
    assert result["annotated"] is None
    assert len(result["pictures"]) == 2
