"""Plan: what one training does in numbers, all choices made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.train.schedule import Budget


@dataclass(frozen=True)
class Plan:
    """What a training does in numbers.

    Attributes
    ----------
    budget : Budget
        When it ends.
    crop : tuple of int
        Voxels (z, y, x) of a training crop.
    batch : int
        Crops of a step, in each process.
    learning_rate : float
        Its highest value.
    warmup : int
        Steps until it is reached.
    weight_decay : float
        AdamW's; for matrices and convolutions alone.
    beta2 : float
        AdamW's memory of squared gradients.
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the moving average of the weights.
    precision : {"fp32", "bf16", "fp16"}
        In what the network computes.
    workers : int
        Threads (CPU) or processes (GPU) that make crops ahead.
    validate_seconds, checkpoint_seconds, preview_seconds, metric_seconds : float
        At least so long between two of them.
    patience : int
        Ends after so many validations without a better one; 0 never.
    """

    budget: Budget
    crop: Triple
    batch: int = 1
    learning_rate: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.01
    beta2: float = 0.999
    clip: float = 1.0
    average: float = 0.999
    precision: str = "fp32"
    workers: int = 1
    validate_seconds: float = 30.0
    checkpoint_seconds: float = 30.0
    preview_seconds: float = 20.0
    metric_seconds: float = 0.5
    patience: int = 0
