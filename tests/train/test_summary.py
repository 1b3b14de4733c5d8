"""The summary of a run says what was done, and is there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Message, Metric, Preview, Progress
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train.summary import write_summary

SETTINGS = {
    "name": "my run",
    "stage": "finetune",
    "config": {"model": "tiny", "volume": "/data/my stack.zarr::0", "loss": "bce", "seed": 3},
    "plan": {"crop": [16, 64, 64], "batch": 2, "learning_rate": 1e-3, "precision": "fp32"},
    "parts": "decoder",
    "device": "cpu",
    "model": {"weights_sha256": "0123456789abcdef" * 4},
    "held_out": ["0:16,0:64,0:64"],
    "data": [
        {
            "role": "volume",
            "uri": "/data/a|b.zarr",
            "shape": [9, 8, 7],
            "dtype": "uint8",
            "voxel_size_nm": (40.0, 4.0, 4.0),
            "hash": "fedcba",
        }
    ],
    "versions": {"torch": "2.9"},
}


def events():
    yield Message("The decoder learns.")
    yield Message("The decoder learns.")
    yield Message("Memory is full.", "warning")
    for step in range(10, 110, 10):
        yield Progress(step, 100, "training")
        yield Metric(step, {"loss": 3.0 / step, "learning_rate": 1e-3, "seconds": 6.0 * step})
        yield Metric(step, {"validation_loss": abs(step - 70) / 100 + 0.25, "affinity_f1": step / 200})
    yield Preview(100, "previews/1.npy", "0:1,0:1,0:1")


def test_everything_that_matters_is_said(tmp_path: Path):
    text = write_summary(RunPaths(tmp_path), SETTINGS, events()).read_text()
    for part in (
        "# my run",
        "Best after step 70, on the annotations held out: loss 0.25, affinity F1 0.35.",
        "| model | tiny |",
        "| what learns | decoder |",
        "| crop (z, y, x) | 16 x 64 x 64 |",
        "| minutes | 10.0 |",
        "| steps | 100 |",
        "| seed | 3 |",
        "| volume | `/data/a\\|b.zarr` | 9 x 8 x 7 | uint8 | 40 x 4 x 4 | `fedcba` |",
        "**Warning:** Memory is full.",
        f"predict --volume '/data/my stack.zarr::0' --model {tmp_path} --out",
    ):
        assert part in text
    assert text.count("The decoder learns.") == 1
    assert not list(tmp_path.rglob("*.part"))


def test_every_curve_that_is_shown_is_there(tmp_path: Path):
    text = write_summary(RunPaths(tmp_path), SETTINGS, events()).read_text()
    shown = {line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")}
    assert shown == {f"curves/{name}.svg" for name in ("loss", "validation_loss", "scores", "learning_rate")}
    for name in shown:
        ElementTree.parse(tmp_path / name)


def test_of_a_step_that_was_done_twice_the_later_counts(tmp_path: Path):
    again = [*events(), Metric(70, {"validation_loss": 9.0}), Metric(60, {"validation_loss": 0.1})]
    assert "Best after step 60" in write_summary(RunPaths(tmp_path), SETTINGS, again).read_text()


def test_a_run_that_measured_nothing_has_a_summary_too(tmp_path: Path):
    text = write_summary(RunPaths(tmp_path / "run"), {}, [], "The run failed: the disk was full.").read_text()
    assert text.startswith("# run\n\nThe run failed: the disk was full.\n\nNothing was held out")
    assert "![" not in text
    assert "predict --volume VOLUME" in text


def test_a_summary_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path):
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(TrainError, match="cannot be written"):
        write_summary(RunPaths(tmp_path / "run"), SETTINGS, events())
