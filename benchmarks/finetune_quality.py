"""How good a network gets from few labels in little time: ours and MONAI's BasicUNet, all else equal.

Both go through the same training loop with the same crops (same seed), augmentation, loss, minutes, average of weights,
tiles, fragments and agglomeration (waterz's 50 % quantile); the threshold is tuned on the training labels alone. Each
network has the learning rate that suited it better, see `ARMS`. Scored on labels that no training saw: VOI split, merge
and sum (bits) and adapted Rand error; ids of fewer than 100 voxels and 0 do not count, borders are not widened.

- dense       FIB-25 `training_sample2` z < 120, all labels -> z >= 130
- sections-N  N = 3, 10, 30 labelled sections of another FIB-25 volume -> the same z >= 130
- scribbles   strokes over 1 % of the voxels of z < 120 (drawn by a seeded script) -> the same z >= 130
- isbi        ISBI 2012 z < 20 -> z >= 20 (anisotropic, 50x4x4 nm; 0 is read as boundary)

A result is a line of JSON in `--results`; what is there already is not run again, so that a long comparison can be
stopped and goes on with the same command. One run at a time, on all cores.

    python benchmarks/finetune_quality.py --experiments dense --seeds 0 --results quality.jsonl
    python benchmarks/finetune_quality.py --table --results quality.jsonl
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from napari_tokenunify.data import Annotations, Volume
    from napari_tokenunify.geometry import Triple

DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[1] / "../shared/data"))
SECTIONS = (17, 18, 19, 77, 78, 79, 2, 3, 184, 185, 8, 24, 31, 42, 52, 62, 69, 89, 94, 103)  # the first 3, 10, ... of
SECTIONS += (117, 127, 142, 161, 173, 190, 202, 206, 222, 238)  # them; neighbours first, so that z is known somewhere
SMALLEST = 100
TRAIN_END, TEST_START = 120, 130
TUNED = 48  # sections of the training part that are predicted to tune the threshold
EXPERIMENTS = {"dense": 15.0, "sections-3": 5.0, "sections-10": 5.0, "sections-30": 5.0, "scribbles": 5.0, "isbi": 5.0}


@dataclass(frozen=True)
class Arm:
    """A network in the comparison."""

    preset: str | None
    learning_rate: float


ARMS = {"small": Arm("small", 3e-3), "tiny": Arm("tiny", 3e-3), "base": Arm("base", 1e-3), "unet": Arm(None, 3e-3)}


@dataclass(frozen=True, eq=False)
class Split:
    """What is trained, tuned and tested on."""

    volume: Volume
    annotations: Annotations
    tuning: tuple[int, int]  # sections of the training volume
    test: Volume
    truth: NDArray[np.uint64]
    crop: Triple


def without_specks(labels: NDArray[Any]) -> NDArray[np.uint64]:
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] >= SMALLEST, labels, 0).astype(np.uint64)


def scribbles(labels: NDArray[np.uint64], share: float, seed: int) -> NDArray[np.uint64]:
    """Keep the labels under random strokes of 5 voxels' width in single sections, until a share is painted."""
    rng = np.random.default_rng(seed)
    painted = np.zeros(labels.shape, bool)
    depth, height, width = labels.shape
    while painted.mean() < share:
        z, angle, length = rng.integers(depth), rng.uniform(0, np.pi), rng.uniform(20, 60)
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        for step in np.arange(0, length, 0.5):
            cy, cx = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            painted[z, max(0, cy - 2) : max(0, cy + 3), max(0, cx - 2) : max(0, cx + 3)] = True
    return np.where(painted, labels, 0)


def split_of(experiment: str, data: Path, seed: int) -> Split:
    from napari_tokenunify.data import Annotations, Volume

    if experiment == "isbi":
        with np.load(data / "isbi2012.npz") as file:
            raw, labels = file["raw"], file["labels"].astype(np.uint64)
        size = (50.0, 4.0, 4.0)
        known = Annotations.from_array(labels[:20], size, zero_is_boundary=True)
        test = Volume.from_array(raw[20:], size, "isbi-test")
        crop = (16, 160, 160)
        return Split(Volume.from_array(raw[:20], size, "isbi"), known, (0, 20), test, without_specks(labels[20:]), crop)
    with np.load(data / "fib25_train_test.npz") as file:
        raw, labels = file["raw"], without_specks(file["labels"])
    size = (10.0, 10.0, 10.0)
    test, truth = Volume.from_array(raw[TEST_START:], size, "test"), labels[TEST_START:]
    raw, labels, tuning = raw[:TRAIN_END], labels[:TRAIN_END], (TRAIN_END - TUNED, TRAIN_END)
    if experiment == "scribbles":
        labels = scribbles(labels, 0.01, seed)
    elif experiment != "dense":
        with np.load(data / "fib25_sparse_sections.npz") as file:
            raw, every = file["raw"], file["labels"].astype(np.uint64)
        chosen = list(SECTIONS[: int(experiment.split("-")[1])])
        labels, tuning = np.zeros_like(every), (0, 100)
        labels[chosen] = every[chosen]
    known = Annotations.from_array(labels, size)
    return Split(Volume.from_array(raw, size, "train"), known, tuning, test, truth, (32, 96, 96))


def build(arm: str) -> nn.Module:
    if ARMS[arm].preset is None:
        from monai.networks.nets import BasicUNet
        from torch import nn

        from napari_tokenunify.network.blocks import Conv3d

        network = BasicUNet(3, 1, 3)  # 5.7 million parameters
        for module in network.modules():
            if type(module) is nn.Conv3d:  # oneDNN's bf16 gradients are wrong where a kernel is longer than its input
                module.__class__ = Conv3d
        return network
    from napari_tokenunify.network import NETWORK_PRESETS, build_network

    return build_network(NETWORK_PRESETS[ARMS[arm].preset])


def train(network: nn.Module, split: Split, arm: str, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    from napari_tokenunify.data import intensity_range
    from napari_tokenunify.network.device import choose_device, choose_precision
    from napari_tokenunify.project import RunPaths
    from napari_tokenunify.train.affinity_task import AffinityTask
    from napari_tokenunify.train.loop import Loop
    from napari_tokenunify.train.plan import Plan
    from napari_tokenunify.train.schedule import Budget

    device = choose_device("auto")
    intensity = intensity_range(split.volume)
    task = AffinityTask(
        split.volume, split.annotations, intensity, split.annotations, (), split.crop, lambda *_: None, seed=seed
    )
    plan = Plan(
        Budget(None, 60 * minutes),
        split.crop,
        batch=1 if device.type == "cpu" else 4,
        learning_rate=ARMS[arm].learning_rate,
        average=0.98,
        precision=choose_precision("auto", device),
        checkpoint_seconds=1e9,
        metric_seconds=10.0,
    )
    loop = Loop(network.to(device), task, plan, RunPaths(folder), "quality")
    last = {}
    for event in (events := loop.run()):
        last = getattr(event, "values", last)
    events.close()
    loop.average.copy_to(network)
    return {"steps": loop.standing.step, "loss": last.get("loss"), "precision": plan.precision, "device": device.type}


def segments(
    network: nn.Module, volume: Volume, crop: Triple, how: dict[str, Any], folder: Path
) -> tuple[Any, NDArray[np.uint64]]:
    """Predict a volume and cut it; return graph and fragments."""
    from napari_tokenunify.affinities import DEFAULT_OFFSETS
    from napari_tokenunify.config import FragmentsConfig
    from napari_tokenunify.data import intensity_range
    from napari_tokenunify.geometry import Box
    from napari_tokenunify.segment import Prediction, open_affinities, predict_volume
    from napari_tokenunify.segment.fragments import fragments
    from napari_tokenunify.segment.region_graph import region_graph

    settings = Prediction(DEFAULT_OFFSETS, intensity_range(volume), crop, 0.5, **how)
    for _ in predict_volume(volume, network.eval(), folder, settings, overwrite=True):
        pass
    affinities = open_affinities(folder).read(Box.whole(volume.shape))
    cut = fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig(), voxel_size_nm=volume.voxel_size_nm)
    return region_graph(cut, affinities, DEFAULT_OFFSETS), cut


def run(experiment: str, arm: str, minutes: float, seed: int, data: Path) -> dict[str, Any]:
    import torch

    from napari_tokenunify.config import AgglomerateConfig
    from napari_tokenunify.data import Volume
    from napari_tokenunify.metrics import adapted_rand_error, contingency, variation_of_information
    from napari_tokenunify.segment.agglomeration import agglomerate
    from napari_tokenunify.segment.tuning import tune

    split = split_of(experiment, data, seed)
    torch.manual_seed(seed)
    network = build(arm)
    with tempfile.TemporaryDirectory() as folder:
        facts = train(network, split, arm, minutes, seed, Path(folder))
        how = {"precision": facts["precision"], "device": facts["device"]}
        first, last = split.tuning
        part = Volume.from_array(split.volume.dask()[first:last].compute(), split.volume.voxel_size_nm, "tuning")
        graph, cut = segments(network, part, split.crop, how, Path(folder) / "tuning.zarr")
        known = split.annotations.labels.dask()[first:last].compute()
        tuning = tune(graph, cut, known, AgglomerateConfig())
        started = time.monotonic()
        graph, cut = segments(network, split.test, split.crop, how, Path(folder) / "test.zarr")
    settings = AgglomerateConfig(threshold=tuning.value)
    joined = agglomerate(graph, settings).table
    scored = contingency(split.truth, joined[cut]).without((0,), ())
    voi_split, voi_merge = variation_of_information(scored)
    best = min(tune(graph, cut, split.truth, AgglomerateConfig()).curve, key=lambda point: point[1] + point[2])
    return {
        "experiment": experiment,
        "arm": arm,
        "minutes": minutes,
        "seed": seed,
        "parameters": sum(p.numel() for p in network.parameters()),
        "learning_rate": ARMS[arm].learning_rate,
        **facts,
        "labelled": int(np.count_nonzero(split.annotations.labels.dask().compute())),
        "threshold": tuning.value,
        "voi_split": voi_split,
        "voi_merge": voi_merge,
        "voi": voi_split + voi_merge,
        "arand": adapted_rand_error(scored)[0],
        "best_voi": best[1] + best[2],
        "best_threshold": best[0],
        "test_seconds": time.monotonic() - started,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table: the mean over seeds, and the range where there are several."""
    head = ["experiment", "network", "parameters", "min", "seeds", "steps", "VOI split", "VOI merge", "VOI", "ARAND"]
    lines = ["| " + " | ".join([*head, "VOI, best threshold"]) + " |", "|---|---|" + "---:|" * 9]
    for experiment in EXPERIMENTS:
        for arm in ARMS:
            mine = [row for row in rows if (row["experiment"], row["arm"]) == (experiment, arm)]
            for minutes in sorted({row["minutes"] for row in mine}):
                same = [row for row in mine if row["minutes"] == minutes]
                words = [experiment, arm, f"{same[0]['parameters']:,}", f"{minutes:g}", str(len(same))]
                words.append(f"{statistics.mean(row['steps'] for row in same):.0f}")
                for name in ("voi_split", "voi_merge", "voi", "arand", "best_voi"):
                    values = [row[name] for row in same]
                    spread = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
                    words.append(f"{statistics.mean(values):.3f}{spread}")
                lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not in the results yet, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("finetune_quality.jsonl"))
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["small", "unet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="of training; by default 15 for dense, 5 for the others")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table of what is there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(*json.loads(arguments.one), data=arguments.data)))
        return
    arguments.results.touch()
    done = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    have = {(row["experiment"], row["arm"], row["minutes"], row["seed"]) for row in done}
    seeds = [] if arguments.table else arguments.seeds
    for seed, experiment, arm in itertools.product(seeds, arguments.experiments, arguments.arms):
        one = (experiment, arm, arguments.minutes or EXPERIMENTS[experiment], seed)
        if one in have:
            continue
        words = [sys.executable, __file__, "--one", json.dumps(one), "--data", str(arguments.data)]
        told = subprocess.run(
            words, stdout=subprocess.PIPE, text=True, check=True, env={"OMP_WAIT_POLICY": "passive", **os.environ}
        )
        done.append(json.loads(told.stdout.splitlines()[-1]))
        with arguments.results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{one}: VOI {done[-1]['voi']:.3f}, ARAND {done[-1]['arand']:.3f}", file=sys.stderr, flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
