from __future__ import annotations

import json
from pathlib import Path

from napari_tokenunify.config import DemoConfig
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.project import Project


def _run(config: DemoConfig) -> dict:
    stage = STAGES["demo"].run(config)
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def test_the_demo_does_the_main_job_and_leaves_a_project_and_pictures(volume_file: Path, tmp_path: Path):
    out = tmp_path / "out.tokenunify"
    raw, labels = f"{volume_file}::raw", f"{volume_file}::labels"
    result = _run(DemoConfig(volume=raw, annotations=labels, out=str(out), headless=True, minutes=0.02))
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    names = [f"{plane}{over}.png" for plane in ("xy", "xz") for over in ("", "_labels", "_segments")]
    assert [Path(path).name for path in result["pictures"]] == names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in result["pictures"])
    assert result["intensity"][0] < result["intensity"][1]
    assert "2 neurons" in result["annotated"]
    assert result["finetune"]["steps"] >= 1
    assert result["evaluate"]["voi"] >= 0
    assert Path(result["export"]["out"]).exists()
    assert Project(out).state.trained == result["finetune"]["out"]


def test_without_labels_the_demo_looks_at_the_volume(volume_file: Path, tmp_path: Path):
    result = _run(DemoConfig(volume=f"{volume_file}::raw", out=str(tmp_path / "out"), headless=True))
    assert result["annotated"] is None
    assert len(result["pictures"]) == 2
    assert "finetune" not in result
