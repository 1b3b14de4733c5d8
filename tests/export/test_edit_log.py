from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from napari_tokenunify.config import ExportConfig
from napari_tokenunify.errors import ExportError
from napari_tokenunify.export import export
from napari_tokenunify.proofread import Proofreading, read_log, write_log


@pytest.fixture
def edited(folder: Path, tmp_path: Path) -> Path:
    """A copy that was edited: a merge, one that was undone, and a remark."""
    copy = shutil.copytree(folder, tmp_path / "segmentation")
    with Proofreading.open(copy, "Ada") as proofreading:
        segments = [int(segment) for segment in set(proofreading.table()[1:].tolist())]
        proofreading.merge(*segments[:2])
        proofreading.merge(*segments[1:3])
        proofreading.undo()
        proofreading.comment("glia?")
    return copy


def run(folder: Path, out: Path, **settings) -> dict:
    stage = export(ExportConfig(segmentation=str(folder), out=str(out), format="edits", **settings))
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("settings", [{}, {"ignore_edits": True}, {"threshold": 0.3}])
def test_the_log_is_the_one_that_proofreading_writes(edited: Path, tmp_path: Path, settings: dict):
    run(edited, tmp_path / "edits.json", **settings)
    with Proofreading.open(edited, read_only=True) as proofreading:
        write_log(proofreading.history, tmp_path / "wanted.json")
    assert (tmp_path / "edits.json").read_bytes() == (tmp_path / "wanted.json").read_bytes()
    assert [edit.kind for edit in read_log(tmp_path / "edits.json").edits] == ["merge", "merge", "comment"]
    assert {path.name for path in tmp_path.iterdir()} == {"edits.json", "wanted.json", "segmentation"}


def test_an_earlier_log_is_replaced_if_that_is_wanted_and_nothing_else(edited: Path, tmp_path: Path):
    out = tmp_path / "edits.json"
    run(edited, out)
    with pytest.raises(ExportError, match="is there already"):
        run(edited, out)
    run(edited, out, overwrite=True)
    out.write_text("{}")
    with pytest.raises(ExportError, match="is no such export"):
        run(edited, out, overwrite=True)
    assert out.read_text() == "{}"


def test_what_is_no_log_of_the_whole_is_said(folder: Path, edited: Path, tmp_path: Path):
    looked_at = shutil.copytree(folder, tmp_path / "looked_at")
    Proofreading.open(looked_at).close()
    for never in (folder, looked_at):
        with pytest.raises(ExportError, match="was never edited"):
            run(never, tmp_path / "x.json")
    segment = int(Proofreading.open(edited, read_only=True).table()[-1])
    for settings in ({"box": "0:2,0:9,0:9"}, {"segments": (segment,)}):
        with pytest.raises(ExportError, match="leave out --box and --segments"):
            run(edited, tmp_path / "x.json", **settings)
    assert not (tmp_path / "x.json").exists()
