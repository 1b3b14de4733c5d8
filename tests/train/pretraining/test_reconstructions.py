from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_tokenunify.errors import TrainError
from napari_tokenunify.geometry import Box
from napari_tokenunify.train.pretraining.objectives import Asked, Question
from napari_tokenunify.train.pretraining.reconstructions import (
    Reconstruction,
    read_reconstructions,
    write_reconstructions,
)


def test_what_is_written_comes_back(tmp_path):
    image = torch.tensor([[[0.5, 2.0, -1.0, 0.25]]])
    visible = torch.tensor([[[True, False, False, True]]])
    asked = Asked(torch.tensor([[[False, True, False, False]]]), torch.full_like(image, 0.4))
    found = Reconstruction.of(Question(image, visible, (1, 1, 1), {"next": asked}), asked, torch.full_like(image, 0.6))
    assert found.input.ravel().tolist() == [128, 255, 0, 64]
    assert found.hidden.ravel().tolist() == [0, 255, 255, 0]
    assert found.prediction.ravel().tolist() == [128, 153, 0, 64]
    assert found.error.ravel().tolist() == [0, 51, 0, 0]
    preview = write_reconstructions(tmp_path / "7.npz", {"next": found}, 7, Box((0, 0, 0), (1, 1, 4)), "a.zarr")
    again, about = read_reconstructions(preview.path)
    assert about == {"step": 7, "box": "0:1,0:1,0:4", "volume": "a.zarr"}
    assert np.array_equal(again["next"].prediction, found.prediction)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04cut off"])
def test_another_file_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "7.npz").write_bytes(content)
    with pytest.raises(TrainError, match="holds no reconstructions"):
        read_reconstructions(tmp_path / "7.npz")


def test_reading_loads_no_torch():
    code = "import sys, napari_tokenunify.train.pretraining.reconstructions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
