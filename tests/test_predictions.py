from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.config import PredictConfig
from napari_tokenunify.data import Volume, open_volume
from napari_tokenunify.errors import VolumeError
from napari_tokenunify.geometry import Box
from napari_tokenunify.predictions import larger_box, would_replace
from napari_tokenunify.segment import predict
from tests.train.test_finetuning import data  # noqa: F401 - a fixture


@pytest.fixture
def volume(data: Path) -> Volume:  # noqa: F811
    return open_volume(str(data / "raw.npy"), (10.0, 10.0, 10.0))


@pytest.fixture
def config(data: Path) -> PredictConfig:  # noqa: F811
    return PredictConfig(
        volume=str(data / "raw.npy"),
        voxel_size="10,10,10",
        model=str(data / "seed"),
        out=str(data / "affinities.zarr"),
        box="0:8,0:32,0:32",
        device="cpu",
    )


@pytest.fixture
def made(config: PredictConfig) -> PredictConfig:
    """What affinities were made with."""
    for _ in predict(config):
        pass
    return config


def test_nothing_is_replaced_where_nothing_is(config: PredictConfig, volume: Volume):
    assert not would_replace(config, lambda: volume)
    assert larger_box(config.replace(overwrite=True), volume) is None


def test_the_same_prediction_goes_on_and_another_box_or_volume_replaces_it(made: PredictConfig, volume: Volume):
    assert not would_replace(made, lambda: volume)
    assert would_replace(made.replace(box="0:8,0:16,0:32"), lambda: volume)
    assert would_replace(made.replace(box=None), lambda: volume)
    np.save(Path(made.out).parent / "other.npy", np.zeros(volume.shape, np.uint8))
    other = open_volume(str(Path(made.out).parent / "other.npy"), (10.0, 10.0, 10.0))
    assert would_replace(made, lambda: other)


def test_where_the_network_or_the_volume_is_gone_it_would_be_replaced(made: PredictConfig):
    def gone() -> Volume:
        raise VolumeError("raw.npy", "is not there")

    assert would_replace(made, gone)
    assert would_replace(made.replace(model="/nowhere"), gone)


@pytest.mark.parametrize(("box", "larger"), [("0:8,0:16,0:32", True), ("0:8,0:32,0:32", False), (None, False)])
def test_affinities_of_more_voxels_are_told(made: PredictConfig, volume: Volume, box: str | None, larger: bool):
    wanted = made.replace(box=box, overwrite=True)
    assert larger_box(wanted, volume) == (Box.parse("0:8,0:32,0:32") if larger else None)
    assert larger_box(wanted.replace(overwrite=False), volume) is None
