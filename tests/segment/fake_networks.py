"""Networks that need no weights: affinities from labels that hide in the image, and one that answers by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.data.intensity import IntensityRange
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.segment import affinity_writer
from napari_tokenunify.segment.prediction.tile_run import Prediction

LABELS_AS_GREY = IntensityRange(0, 255)
SMALL_CELL = (4, 8, 8)


def label_image(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return blocks of labels 1 to 9 as uint8, an image for LabelNetwork."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 10, [n // 3 + 1 for n in shape], np.uint8)
    for axis in range(3):
        coarse = np.repeat(coarse, 3, axis)
    return np.ascontiguousarray(coarse[: shape[0], : shape[1], : shape[2]])


class LabelNetwork:
    """Gives the affinities of the labels that are the image's grey values; 0 for pairs that leave the tile."""

    def __init__(self, offsets=DEFAULT_OFFSETS) -> None:
        self.offsets = offsets
        self.calls = 0

    def __call__(self, tiles: Tensor) -> Tensor:
        self.calls += 1
        labels = np.rint(tiles.numpy()[:, 0] * 255).astype(np.uint8)
        return torch.from_numpy(np.stack([known_affinities(one, self.offsets)[0] for one in labels])).float()


class PositionNetwork:
    """Gives affinities that depend on where in the tile a voxel lies, so that it matters how tiles are blended."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tiles: Tensor) -> Tensor:
        self.calls += 1
        ramps = torch.meshgrid(*(torch.linspace(0, 1, n) for n in tiles.shape[2:]), indexing="ij")
        return torch.stack([ramp * tiles[:, 0] for ramp in ramps], 1)


def settings(tile=(4, 10, 10), **changes) -> Prediction:
    """Return settings for the fakes."""
    return Prediction(**{
        "offsets": DEFAULT_OFFSETS, "intensity": LABELS_AS_GREY, "tile": tile, "logits": False, **changes
    })  # fmt: skip


def small_cells(monkeypatch) -> None:
    """Make the cells of new stores small, so that tiny arrays have several."""
    monkeypatch.setattr(affinity_writer, "CELL", SMALL_CELL)


def noise_volume(shape=(6, 20, 24), name="noise", size=(40, 4, 4)) -> Volume:
    """Return grey values with no structure."""
    return Volume.from_array(np.random.default_rng(1).integers(0, 256, shape, np.uint8), size, name)


def drive(stage):
    """Run a stage to its end; return its events and its result."""
    events = []
    while True:
        try:
            events.append(next(stage))
        except StopIteration as end:
            return events, end.value


def bytes_of(store: Path) -> dict[str, bytes]:
    """Return all files of a store by their names."""
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*")) if file.is_file()}
