"""Which small network learns most per second on a CPU: trains variants of `tiny` and `small` for equal CPU time.

Trains on z < 120 of FIB-25 `training_sample2` (dense labels), picks the agglomeration threshold on part of that, and
scores z >= 130: VOI split, merge, sum (bits) and adapted Rand error. Ground truth 0 and ids below 100 voxels are
ignored, borders are not widened. Segments are waterz's mean affinity on its own watershed. `loss` is the binary
cross-entropy of the affinities there, in which linked and cut pairs weigh the same: it varies less from run to run than
VOI does after a few minutes of training. A variant is a process with one thread, so that several can run beside each
other under equal conditions.

    python benchmarks/network_variants.py --data ../shared/data --minutes 6 --variants tiny tiny-deep
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_tokenunify.network import NetworkConfig, TokenUnify

CROP = (32, 96, 96)
TRAIN_END, TEST_START = 120, 130
SMALLEST = 100
LEARNING_RATE = 3e-3
THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]

Z1 = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
ISO = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny, z kept at first": ("tiny", {}),
    "tiny, z halved": ("tiny", {"strides": ISO}),
    "tiny, z halved, no residual": ("tiny", {"strides": ISO, "residual": False}),
    "tiny, z halved, slices 5": ("tiny", {"strides": ISO, "slices": 5}),
    "tiny, z halved, kernel 1,5,5": ("tiny", {"strides": ISO, "kernel": (1, 5, 5)}),
    "tiny, z halved, wide start": ("tiny", {"strides": ISO, "widths": (16, 24, 32, 40), "hidden": 48}),
    "tiny, 3 stages": ("tiny", {"widths": (12, 24, 56), "hidden": 96, "depth": (1, 1, 1), "strides": ISO[:3]}),
    "small, z kept at first": ("small", {"strides": Z1}),
    "small, z halved": ("small", {}),
    "small, 3 stages": ("small", {"widths": (24, 48, 112), "hidden": 192, "depth": (1, 1, 1), "strides": ISO[:3]}),
    "small, z halved, kernel 1,5,5": ("small", {"kernel": (1, 5, 5)}),
}


def variant_config(name: str) -> NetworkConfig:
    from napari_tokenunify.network import NETWORK_PRESETS

    preset, changes = VARIANTS[name]
    return NETWORK_PRESETS[preset].replace(**changes)


def train(network: TokenUnify, data: Path, minutes: float, seed: int) -> int:
    """Train for so many minutes of CPU time, with balanced binary cross-entropy; return the number of steps."""
    import torch

    from napari_tokenunify.affinities import known_affinities
    from napari_tokenunify.data import Annotations, CropSampler, IntensityRange, Volume, open_volume
    from napari_tokenunify.data.augment import AugmentConfig, augment
    from napari_tokenunify.geometry import Box

    raw, labels = (open_volume(f"{data / 'fib25_train_test.npz'}::{name}") for name in ("raw", "labels"))
    box = Box((0, 0, 0), (TRAIN_END, *raw.shape[1:]))
    volume = Volume.from_array(raw.read(box), raw.voxel_size_nm)
    known = Annotations.from_array(without_specks(labels.read(box)), raw.voxel_size_nm)
    sampler = CropSampler(volume, known, CROP, IntensityRange(0, 255), seed=seed)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    started, step = time.process_time(), 0  # of this process alone, whatever else the machine does
    network.train()
    while (progress := (time.process_time() - started) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * progress))
        crop = sampler[step]
        rng = np.random.default_rng((seed, step))
        image, ids = augment(crop.image, crop.labels, rng, AugmentConfig(), raw.voxel_size_nm)
        target, mask = (torch.from_numpy(part)[None] for part in known_affinities(ids))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(torch.from_numpy(image)[None, None]).float()
        share = (target & mask).sum() / mask.sum().clamp(min=1)
        weight = torch.where(target, 0.5 / share.clamp(0.05), 0.5 / (1 - share).clamp(0.05)) * mask
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.float(), weight, reduction="sum")
        optimiser.zero_grad()
        (loss / mask.sum().clamp(min=1)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
    return step


def without_specks(labels: np.ndarray) -> np.ndarray:
    """Set ids of fewer than 100 voxels to 0: unlabelled."""
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] >= SMALLEST, labels, 0).astype(np.uint32)


def predict(network: TokenUnify, image: np.ndarray) -> np.ndarray:
    """Predict affinities tile by tile with half overlap, weighted towards the middle of a tile."""
    import torch

    weight = np.ones(CROP, np.float32)
    for axis, size in enumerate(CROP):
        ramp = 1 - np.abs(np.linspace(-1, 1, size + 2)[1:-1])
        weight *= ramp.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
    total, weights = np.zeros((3, *image.shape), np.float32), np.zeros(image.shape, np.float32)
    starts = [[*range(0, n - size, size // 2), n - size] for n, size in zip(image.shape, CROP, strict=True)]
    network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for z in starts[0]:
            for y in starts[1]:
                for x in starts[2]:
                    part = np.s_[z : z + CROP[0], y : y + CROP[1], x : x + CROP[2]]
                    affinities = network.affinities(torch.from_numpy(image[part])[None, None])[0].numpy()
                    total[:, *part] += affinities * weight
                    weights[part] += weight
    return total / weights


def balanced_loss(affinities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of two means of cross-entropy: over the linked pairs and over the cut ones."""
    from napari_tokenunify.affinities import known_affinities

    target, mask = known_affinities(labels)
    sure = np.clip(affinities, 1e-4, 1 - 1e-4)
    return float(-(np.log(sure[target & mask]).mean() + np.log(1 - sure[~target & mask]).mean()) / 2)


def score(affinities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, float]]:
    """Return (VOI split, VOI merge, adapted Rand error) for each threshold."""
    import waterz
    from skimage.metrics import adapted_rand_error, variation_of_information

    scores = []
    ready = np.ascontiguousarray(affinities, np.float32)
    mean = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    segmentations = waterz.agglomerate(ready, THRESHOLDS, scoring_function=mean)
    for segmentation in segmentations:
        split, merge = variation_of_information(labels, segmentation, ignore_labels=[0])
        error = adapted_rand_error(labels, segmentation, ignore_labels=[0])[0]
        scores.append((float(split), float(merge), float(error)))
    return scores


def run_variant(name: str, data: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Train, predict and score one variant in this process."""
    import torch

    from napari_tokenunify.data import open_volume
    from napari_tokenunify.network import build_network

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = build_network(variant_config(name))
    steps = train(network, data, minutes, seed)
    raw, labels = (
        np.asarray(open_volume(f"{data / 'fib25_train_test.npz'}::{part}").dask()) for part in ("raw", "labels")
    )
    image, truth = raw.astype(np.float32) / 255, without_specks(labels)
    tuned = score(predict(network, image[TRAIN_END - 48 : TRAIN_END]), truth[TRAIN_END - 48 : TRAIN_END])
    best = min(range(len(tuned)), key=lambda at: tuned[at][0] + tuned[at][1])
    started = time.process_time()
    affinities = predict(network, image[TEST_START:])
    seconds = time.process_time() - started
    split, merge, error = score(affinities, truth[TEST_START:])[best]
    return {
        "variant": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "kvox_per_s": affinities[0].size / seconds / 1e3,
        "threshold": THRESHOLDS[best],
        "loss": balanced_loss(affinities, truth[TEST_START:]),
        "voi_split": split,
        "voi_merge": merge,
        "voi": split + merge,
        "arand": error,
    }


def main() -> None:
    """Run the variants, `--at-once` beside each other, and print one Markdown row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_variant(arguments.one, arguments.data, arguments.minutes, arguments.seed)))
        return
    print("| variant | parameters | steps | kvox/s | loss | VOI split | VOI merge | VOI | ARAND |\n|---|" + "---:|" * 8)
    waiting, running = list(arguments.variants), []
    while waiting or running:
        while waiting and len(running) < arguments.at_once:
            words = [sys.executable, __file__, "--one", waiting.pop(0), "--data", str(arguments.data)]
            words += ["--minutes", str(arguments.minutes), "--seed", str(arguments.seed)]
            running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        out, _ = running.pop(0).communicate()
        row = json.loads(out.splitlines()[-1])
        numbers = [f"{row[key]:.3f}" for key in ("loss", "voi_split", "voi_merge", "voi", "arand")]
        head = [row["variant"], f"{row['parameters']:,}", str(row["steps"]), f"{row['kvox_per_s']:.0f}"]
        print("| " + " | ".join(head + numbers) + " |", flush=True)


if __name__ == "__main__":
    main()
