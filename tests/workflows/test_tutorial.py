"""The commands of docs/start.md are run as they stand there, on a small sample; only the minutes are fewer."""

from __future__ import annotations

import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_tokenunify import cli
from napari_tokenunify.data import synthetic_em
from tests.workflows.test_docs import ROOT, commands

SHAPE, SIZE_NM = (16, 96, 96), (40.0, 8.0, 8.0)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of, and nothing else, in the current folder."""
    sample = synthetic_em(shape=SHAPE, voxel_size_nm=SIZE_NM)
    with h5py.File(tmp_path / "my_stack.h5", "w") as file:
        file["volumes/raw"] = sample.raw
        file["volumes/raw"].attrs["resolution"] = SIZE_NM
    array = zarr.create_array(tmp_path / "stack.zarr", data=sample.raw)
    array.attrs["resolution"] = SIZE_NM
    labels = np.zeros(SHAPE, np.uint16)
    labels[::5] = sample.labels[::5]
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_TOKENUNIFY_STATE", str(tmp_path / "state"))
    return tmp_path


def test_the_commands_of_the_first_page_lead_to_segments(stack: Path, capsys: pytest.CaptureFixture[str]):
    lines = commands(ROOT / "docs" / "start.md")
    assert [line.split()[1] for line in lines] == ["info", "check", "finetune", "predict", "segment"]
    for line in lines:
        words = shlex.split(line.replace("--minutes 20", "--minutes 0.1"), comments=True)[1:]
        assert cli.main(words) == 0, (line, capsys.readouterr().err)
    assert "segments" in capsys.readouterr().out
    assert (stack / "segmentation" / "spec.json").exists()
