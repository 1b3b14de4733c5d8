from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.cli import main
from napari_tokenunify.config import EvaluateConfig, ExportConfig
from napari_tokenunify.data import open_volume
from napari_tokenunify.export import export
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.proofread import Proofreading
from napari_tokenunify.segment import Segmentation
from tests.proofread.conftest import SHAPE, at


def text(fragment: int) -> str:
    return ",".join(map(str, at(fragment)))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def verb(*words: object, code: int = 0) -> dict:
        assert main(["proofread", *map(str, words), "--json"]) == code
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else {"said": captured.err}

    return verb


@pytest.fixture
def pair(folder: Path) -> tuple[int, int]:
    """Fragments of the two segments with most fragments."""
    ids, counts = np.unique(Segmentation.open(folder).table[1:], return_counts=True)
    a, b = ids[np.argsort(-counts, kind="stable")[:2]]
    return int(a), int(b)


def test_edits_are_made_taken_back_and_listed(run, folder: Path, pair):
    a, b = pair
    made = run("merge", folder, "--at", f"{text(a)} {text(b)}", "--author", "Ada")
    assert (made["kind"], made["in_force"], len(made["segments"])) == ("merge", 1, 1)
    assert run("split", folder, "--at", f"{a} / {b}")["in_force"] == 2
    assert run("undo", folder, "--steps", "2")["steps"] == 2
    assert run("redo", folder)["head"] == made["edit"]
    run("comment", folder, "--text", "glia?", "--at", str(a))
    assert run("go", folder, "--to", made["edit"][:8])["in_force"] == 1
    log = run("log", folder)
    assert [edit["author"] for edit in log["edits"]] == ["Ada"]
    assert [branch["edits"] for branch in log["branches"]] == [2, 2]
    assert run("go", folder, "--to", "start")["head"] is None


@pytest.mark.parametrize("verb", ["detach", "delete", "lock"])
def test_an_edit_of_one_place(run, folder: Path, pair, verb: str):
    assert run(verb, folder, "--at", text(pair[0]), "--threshold", "0.6")["kind"] == verb


def test_a_locked_segment_is_unlocked(run, folder: Path, pair):
    run("lock", folder, "--at", pair[0])
    assert "is marked correct, and locked" in run("merge", folder, "--at", f"{pair[0]} {pair[1]}", code=1)["said"]
    assert run("unlock", folder, "--at", pair[0])["kind"] == "unlock"


def test_failures_are_sentences(run, folder: Path, pair, tmp_path: Path):
    assert "nothing to undo" in run("undo", folder, code=1)["said"]
    assert "no edit has a name that starts with zz" in run("go", folder, "--to", "zz", code=1)["said"]
    assert "a place is a voxel z,y,x" in run("merge", folder, "--at", "1,2", code=2)["said"]
    (tmp_path / "log.json").write_text("{}")
    assert "is no log of edits" in run("replay", folder, "--log", tmp_path / "log.json", code=1)["said"]


def test_a_log_is_replayed_on_a_copy_and_joined_a_second_time(run, folder: Path, master: Path, pair, tmp_path: Path):
    a, b = pair
    run("merge", folder, "--at", f"{a} {b}")
    run("log", folder, "--out", tmp_path / "log.json")
    copy = shutil.copytree(master, tmp_path / "copy")
    assert run("replay", copy, "--log", tmp_path / "log.json")["taken"] == 1
    again = run("replay", copy, "--log", tmp_path / "log.json")
    assert (again["taken"], again["conflicts"], again["in_force"]) == (0, [], 1)
    with Proofreading.open(folder) as here, Proofreading.open(copy) as there:
        assert (here.table() == there.table()).all()
        assert here.in_force == there.in_force


def drive(stage) -> dict:
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value


def test_export_and_evaluate_see_the_edits(run, folder: Path, bars: np.ndarray, pair, tmp_path: Path):
    a, b = pair
    run("merge", folder, "--at", f"{a} {b}")
    with Proofreading.open(folder) as proofreading:
        edited, plain = proofreading.table()[bars], proofreading.base()[bars]
    for ignore, wanted in ((False, edited), (True, plain)):
        out = tmp_path / f"{ignore}.tif"
        drive(export(ExportConfig(segmentation=str(folder), out=str(out), format="tiff", ignore_edits=ignore)))
        assert (open_volume(out).levels[0][:, :, :] == wanted).all()
    np.savez(tmp_path / "labels.npz", labels=edited.astype(np.uint32))
    scores = {}
    for ignore in (False, True):
        config = EvaluateConfig(
            segmentation=str(folder), labels=str(tmp_path / "labels.npz::labels"), ignore_edits=ignore
        )
        scores[ignore] = drive(STAGES["evaluate"].run(config))["voi"]
    assert scores[False] == pytest.approx(0, abs=1e-9)
    assert scores[True] > 0.01


def test_labels_for_training_are_written(run, folder: Path, bars: np.ndarray, pair, tmp_path: Path):
    a, b = pair
    np.savez(tmp_path / "raw.npz", raw=np.zeros(SHAPE, np.uint8))
    run("merge", folder, "--at", f"{a} {b}")
    out = tmp_path / "edits.zarr"
    made = run("labels", folder, "--volume", tmp_path / "raw.npz::raw", "--out", out)
    labels = open_volume(out).levels[0][:, :, :]
    assert ((labels > 0) == np.isin(bars, [a, b])).all()
    assert len(np.unique(labels[labels > 0])) == 1
    assert made["voxels"] == (labels > 0).sum()


def test_edits_are_carried_to_other_fragments(run, folder: Path, master: Path, pair, tmp_path: Path):
    a, b = pair
    run("merge", folder, "--at", f"{text(a)} {b}")
    copy = shutil.copytree(master, tmp_path / "copy")
    spec = json.loads((copy / "spec.json").read_text())
    (copy / "spec.json").write_text(json.dumps(spec | {"fragments_hash": "others"}))
    made = run("carry", copy, "--source", folder)
    assert (made["made"], made["left"]) == (1, [])
    again = run("carry", copy, "--source", folder)
    assert "already: there is nothing to merge" in again["left"][0]["message"]


def test_a_fragment_is_cut_along_corners_or_a_mask(run, folder: Path, bars: np.ndarray, tmp_path: Path):
    made = run("cut", folder, "--along", "0,0,1 0,2,1")  # through the middle of fragment 1
    assert (made["kind"], made["fragments"][0], sum(made["voxels"])) == ("cut", 1, 18)
    with Proofreading.open(folder) as proofreading:
        assert set(np.unique(proofreading.fragments[:2, :3, :3]).tolist()) == set(made["fragments"])
        along = proofreading.fragments[:]
    run("undo", folder)
    mask = np.zeros((2, 3, 3), np.uint8)
    mask[0, :, 1] = 1
    np.save(tmp_path / "small.npy", mask)
    run("cut", folder, "--mask", tmp_path / "small.npy", "--box", "0:2,0:3,0:3", "--fragment", 1)
    with Proofreading.open(folder) as proofreading:
        parts = proofreading.fragments[:] != bars
        assert (parts == (along != bars)).all()
    run("undo", folder)
    whole = np.zeros(SHAPE, np.uint8)
    whole[:2, :3, 1] = 1
    np.save(tmp_path / "whole.npy", whole)
    assert run("cut", folder, "--mask", tmp_path / "whole.npy", "--through", "nothing")["in_force"] == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "--along or --mask, one of them"),
        (["--along", "0,0,1 0,2,1", "--mask", "x.npy"], 2, "--along or --mask, one of them"),
        (["--along", "1 2"], 2, "--along takes voxels z,y,x"),
        (["--along", "0,0,1 0,0,1"], 1, "does not divide fragment 1"),
        (["--mask", "no.npy"], 1, "no.npy"),
    ],
)
def test_a_line_that_cannot_be_cut_is_said(run, folder: Path, words: list[str], code: int, said: str):
    assert said in run("cut", folder, *words, code=code)["said"]
