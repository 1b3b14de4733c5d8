"""What the user left open: crop, batch, learning rate and so on, chosen for the time there is on this machine."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from napari_tokenunify.network.device import DTYPES, is_out_of_memory
from napari_tokenunify.train.plan import Plan
from napari_tokenunify.train.samples import Sample
from napari_tokenunify.train.schedule import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from napari_tokenunify.config import FinetuneConfig
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.train.affinity_task import AffinityTask
    from napari_tokenunify.train.parts import Parts

_THICK: Final = 2.5  # sections that much coarser than pixels call for flat crops
_FLAT: Final[tuple[Triple, ...]] = ((16, 160, 160), (16, 128, 128), (16, 96, 96), (16, 64, 64))
_DEEP: Final[tuple[Triple, ...]] = ((32, 160, 160), (32, 128, 128), (32, 96, 96), (32, 64, 64))
_FLATTEST: Final = 8
_WORTH: Final = 1.5  # times as many labels a voxel
_STEPS_WANTED: Final = 3000  # many small steps teach far more than a few large ones: docs/performance.md
GENTLE: Final = 0.1  # of the usual learning rate, for weights that know labels; see docs/performance.md
_OVERHEAD: Final = 0.9  # of the time goes into steps
_LARGEST_BATCH: Final = 8
_FEW_PAIRS: Final = 100_000
_BYTES_A_VOXEL: Final = (2500, 100)  # in training on a CPU: 2300 for tiny, 2900 for small, 5000 for base, measured


def choose_parts_for(config: FinetuneConfig, *, labelled: bool, known_pairs: int) -> tuple[Parts, str]:
    """Return which parts learn, and why.

    Parameters
    ----------
    config : FinetuneConfig
        What the user chose, if not "auto".
    labelled : bool
        Whether the weights have learnt from labels before; after pre-training alone all has to learn.
    known_pairs : int
        How much is annotated.
    """
    if config.parts != "auto":
        return config.parts, "as you chose"
    if not labelled:
        return "all", "as the network has never seen labels"
    if known_pairs < _FEW_PAIRS:
        return "decoder", f"as only {known_pairs:,} pairs of voxels are known, too few to change all of it safely"
    return "all", f"as {known_pairs:,} pairs of voxels are known"


def candidate_crops(voxel_size_nm: VoxelSize | None, extent: Triple, labelled: Sequence[int] = ()) -> list[Triple]:
    """Return crops (z, y, x) that suit a voxel size and labels, large to small, none much larger than the volume.

    Parameters
    ----------
    voxel_size_nm : tuple of float, or None
        Of what the crops are cut from.
    extent : tuple of int
        Its voxels (z, y, x).
    labelled : sequence of int
        Sections that hold labels, ascending. Where few lie beside each other, crops are flat and wide: the rest of a
        deep one would cost time and teach nothing.
    """
    thick = voxel_size_nm is not None and voxel_size_nm[0] >= _THICK * max(voxel_size_nm[1:])
    crops = []
    for size in _FLAT if thick else _DEEP:
        most = [math.ceil(n / 8) * 8 for n in extent]
        flat = _flattened((min(size[0], most[0]), size[1], size[2]), labelled)
        z, y, x = (min(pair) for pair in zip(flat, most, strict=True))
        if (z, y, x) not in crops:
            crops.append((z, y, x))
    return crops


def _flattened(crop: Triple, labelled: Sequence[int]) -> Triple:
    """Halve the depth as long as that shows far more labels a voxel, and widen the rest to about as many voxels."""
    depth, height, width = crop
    if labelled:
        while depth // 2 >= _FLATTEST and _share(labelled, depth // 2) >= _WORTH * _share(labelled, depth):
            depth //= 2
    wider = math.sqrt(crop[0] / depth)
    return depth, round(height * wider / 32) * 32, round(width * wider / 32) * 32


def _share(labelled: Sequence[int], depth: int) -> float:
    """Return how many of `depth` sections around a labelled one hold labels, as a share."""
    sections = np.asarray(labelled)
    first = sections - depth // 2
    inside = np.searchsorted(sections, first + depth) - np.searchsorted(sections, first)
    return float(inside.mean()) / depth


def fits_in_memory(crop: Triple, first_width: int, device: torch.device) -> bool:
    """Tell whether a training step on a CPU fits into half of what is free; a GPU says so itself."""
    if device.type != "cpu":
        return True
    base, each = _BYTES_A_VOXEL
    return math.prod(crop) * (base + each * first_width) < int(psutil.virtual_memory().available) // 2


def step_seconds(network: nn.Module, task: AffinityTask, crop: Triple, precision: str, batch: int = 1) -> float | None:
    """Return how long a step on crops of a size takes, without changing the network; None if memory runs out."""
    device = next(network.parameters()).device
    mask = np.ones((len(task.offsets), *crop), bool)
    samples = [Sample(np.random.default_rng(0).random(crop, np.float32), mask, mask)] * batch
    network.train()
    seconds = math.inf
    try:
        for _ in range(3):  # the first compiles and allocates
            started = time.monotonic()
            with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
                loss = task.loss(network, samples, device)
            loss.backward()  # type: ignore[no-untyped-call]
            network.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = min(seconds, time.monotonic() - started)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return seconds


def choose_plan(
    config: FinetuneConfig,
    network: nn.Module,
    task: AffinityTask,
    crops: list[Triple],
    precision: str,
    *,
    labelled: bool,
) -> tuple[Plan, str]:
    """Measure this machine and choose what the user left open.

    Parameters
    ----------
    config : FinetuneConfig
        The user's choices.
    network : nn.Module
        On its device, with what learns already chosen.
    task : AffinityTask
        What it will learn.
    crops : list of tuple of int
        Sizes (z, y, x) that come into question, large to small.
    precision : str
        In what it computes.
    labelled : bool
        Whether its weights have learnt from labels before.

    Returns
    -------
    Plan
    str
        What was chosen, in a sentence.
    """
    device = next(network.parameters()).device
    seconds = None if config.steps is not None else 60 * config.minutes
    crop, each = _choose_crop(config, network, task, crops, precision)
    batch = config.batch or 1
    if config.batch is None and device.type == "cuda" and seconds is not None:
        while batch < _LARGEST_BATCH:
            longer = step_seconds(network, task, crop, precision, 2 * batch)
            if longer is None or seconds / longer < 2 * _STEPS_WANTED:
                break
            batch, each = 2 * batch, longer
    steps = config.steps or max(1, int(_OVERHEAD * 60 * config.minutes / max(each or 1.0, 1e-3)))
    plan = Plan(
        budget=Budget(config.steps, seconds),
        crop=crop,
        batch=batch,
        learning_rate=config.learning_rate or usual_learning_rate(network) * (GENTLE if labelled else 1),
        warmup=max(1, min(20, steps // 10)),
        average=min(0.999, max(0.9, 1 - 10 / steps)),
        precision=precision,
        workers=usual_workers(device) if config.workers is None else config.workers,
        validate_seconds=max(10.0, (seconds or 600.0) / 20),
        checkpoint_seconds=20.0,
        preview_seconds=config.preview_seconds,
        patience=config.patience,
    )
    size = "x".join(map(str, crop))
    length = f"{steps:,} steps" if seconds is None else f"about {steps:,} steps in {config.minutes:g} minutes"
    return plan, (
        f"{length}, each of {batch} crop{'s' * (batch > 1)} of {size} voxels, in {precision} on {device.type}, "
        f"learning rate {plan.learning_rate:g}."
    )


def usual_learning_rate(network: nn.Module) -> float:
    """Return the highest learning rate of a network that knows nothing yet: smaller for larger ones."""
    size = sum(parameter.numel() for parameter in network.parameters())
    return 3e-3 if size < 10e6 else 1e-3 if size < 60e6 else 3e-4


def _choose_crop(
    config: FinetuneConfig, network: nn.Module, task: AffinityTask, crops: list[Triple], precision: str
) -> tuple[Triple, float | None]:
    """Return the largest crop that fits and leaves time for enough steps, and the seconds of a step."""
    device = next(network.parameters()).device
    width, batch = next(network.parameters()).shape[0], config.batch or 1
    if config.crop is not None:
        seconds = None if config.steps is not None else step_seconds(network, task, config.crop, precision)
        return config.crop, None if seconds is None else seconds * batch
    fitting = [crop for crop in crops if fits_in_memory(crop, width, device)] or crops[-1:]
    if config.steps is not None:
        return fitting[len(fitting) // 2], None  # nothing is said of time: a middling one
    smallest = fitting[-1]
    each = step_seconds(network, task, smallest, precision)
    voxel = (each or 1.0) / math.prod(smallest)  # time grows with the voxels, a little less than in proportion
    for crop in fitting:
        expected = voxel * math.prod(crop) * batch
        if _OVERHEAD * 60 * config.minutes / expected >= _STEPS_WANTED:
            return crop, expected
    return smallest, None if each is None else each * batch


def usual_workers(device: torch.device) -> int:
    """Return how many make crops ahead: one thread beside a CPU that computes, as many processes as cores for a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if device.type != "cuda" else max(1, min(8, cores - 1))
