"""Fixtures for every test.

`raw` and `labels` are a tiny volume with a known answer: two slabs along x, ids 1 and 2, with a dark membrane
between them. `volume_file` is the same image in a file that knows its voxel size.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.network import installed

with suppress(ImportError):  # first of all, where it is: its LLVM crashes once another one has drawn OpenGL
    import triton  # noqa: F401

VOXEL_SIZE_NM = (40.0, 4.0, 4.0)


@pytest.fixture(autouse=True)
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without models: neither the user's own nor those in the package."""
    monkeypatch.setenv(installed.FOLDER_VARIABLE, str(tmp_path / "models"))
    monkeypatch.setattr(installed, "BUNDLED", tmp_path / "bundled")


@pytest.fixture
def raw() -> np.ndarray:
    image = np.full((6, 20, 24), 200, np.uint8)
    image[:, :, 11:13] = 40
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    return image


@pytest.fixture
def labels() -> np.ndarray:
    ids = np.ones((6, 20, 24), np.uint32)
    ids[:, :, 12:] = 2
    return ids


@pytest.fixture
def volume_file(tmp_path: Path, raw: np.ndarray, labels: np.ndarray) -> Path:
    path = tmp_path / "cube.npz"
    np.savez(path, raw=raw, labels=labels, meta=json.dumps({"voxel_size_nm": VOXEL_SIZE_NM}))
    return path
