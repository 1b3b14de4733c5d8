"""Prediction end to end: its speed against the bare network and against MONAI's sliding window, and its memory.

Speed: the network `tiny` with random weights on real EM, the same tiles, overlap and precision for all, in turns; a
ratio is the median over the rounds. Voxels of tiles are counted, so the overlap counts for everybody. `predict` reads,
computes, blends and writes; MONAI only computes and blends, in memory. Where other programs compete for the cores, the
ratio by processor time is the steadier one. Memory: the peak of a volume and of one 64 times as large, both made up
while they are read, through a network that does next to nothing; beside it that of MONAI, which grows with the volume
and needs some 6 GB for the larger one. Each measurement is a fresh process.

    python benchmarks/predict.py --data ../shared/data      # 10 minutes
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rows import Row, Rows, add_json_option

from napari_tokenunify.data import Volume, intensity_range, open_volume
from napari_tokenunify.data.intensity import IntensityRange
from napari_tokenunify.geometry import Box
from napari_tokenunify.network import NETWORK_PRESETS, TokenUnify, build_network
from napari_tokenunify.network.device import DTYPES
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.segment import Prediction, predict_volume
from napari_tokenunify.segment.prediction.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Generator

TILE = (32, 128, 128)
OVERLAP = 0.25
SMALL = (64, 256, 256)
GROWTH = 4  # along each axis
SPEEDS = {"bare": "the bare network", "monai": "MONAI's sliding window"}


class Clock:
    """Times what follows, by the clock and in time of all processor cores."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def speed(self, voxels: int) -> tuple[float, float]:
        """Return voxels a second, and a second of a core."""
        return voxels / (time.perf_counter() - self.start[0]), voxels / (time.process_time() - self.start[1])


class Noise:
    """An array that is made up where it is read."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape, self.dtype = shape, np.dtype(np.uint8)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return noise."""
        block = tuple(len(range(n)[part]) for n, part in zip(self.shape, index, strict=True))
        return np.random.default_rng(index[0].start).integers(0, 256, block, np.uint8)


def tiny() -> TokenUnify:
    torch.manual_seed(0)
    return build_network(NETWORK_PRESETS["tiny"]).eval()


def image(options: argparse.Namespace) -> tuple[Volume, Box, IntensityRange]:
    volume = open_volume(options.data / "fib25_raw.npz")
    return volume, Box((0, 0, 0), tuple(options.shape)), intensity_range(volume)


def end(stage: Generator[Any, None, dict[str, Any]]) -> dict[str, Any]:
    while True:
        try:
            next(stage)
        except StopIteration as done:
            return done.value


def measure_bare(options: argparse.Namespace) -> tuple[float, float]:
    """Return the speed of the network alone."""
    volume, box, intensity = image(options)
    network, grid = tiny(), TileGrid.cover(box.shape, TILE, OVERLAP, TILE)
    tiles = [
        torch.from_numpy(intensity.normalise(volume.read(grid.tile_box(number))))[None, None]
        for number in grid.missing_tiles(set(), {})
    ]
    dtype = DTYPES[options.precision]
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        network(tiles[0])
        clock = Clock()
        for tile in tiles:
            network(tile)
    return clock.speed(len(tiles) * math.prod(TILE))


def measure_predict(options: argparse.Namespace) -> tuple[float, float]:
    """Return the speed from the file to the store."""
    volume, box, intensity = image(options)
    network = tiny()
    how = Prediction(network.config.offsets, intensity, TILE, OVERLAP, box, precision=options.precision)
    with tempfile.TemporaryDirectory() as folder:
        _warm(network, options)
        clock = Clock()
        result = end(predict_volume(volume, network, Path(folder) / "a.zarr", how))
        return clock.speed(result["tiles"] * math.prod(TILE))


def measure_monai(options: argparse.Namespace) -> tuple[float, float]:
    """Return the speed of MONAI's sliding window, from the file to affinities in memory."""
    from monai.inferers import sliding_window_inference

    volume, box, intensity = image(options)
    network, dtype = tiny(), DTYPES[options.precision]

    def affinities(tiles: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return torch.sigmoid(network(tiles).float())

    _warm(network, options)
    clock = Clock()
    whole = torch.from_numpy(intensity.normalise(volume.read(box)))[None, None]
    with torch.inference_mode():
        sliding_window_inference(whole, TILE, 1, affinities, overlap=OVERLAP, mode="gaussian")
    tiles = TileGrid.cover(box.shape, TILE, OVERLAP, TILE).count  # MONAI has the same
    return clock.speed(tiles * math.prod(TILE))


def next_to_nothing(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.expand(-1, 3, -1, -1, -1) - 0.5


def measure_memory(options: argparse.Namespace) -> float:
    """Return the peak of the process in MB."""
    how = Prediction(
        NETWORK_PRESETS["tiny"].offsets, IntensityRange(0, 255), TILE, OVERLAP, save_after=options.save_after
    )
    with tempfile.TemporaryDirectory() as folder:
        volume = Volume.from_array(Noise(tuple(options.shape)))
        end(predict_volume(volume, next_to_nothing, Path(folder) / "a.zarr", how))
    return peak_memory_mb()


def measure_monai_memory(options: argparse.Namespace) -> float:
    """Return the same of MONAI's sliding window, which holds the volume, the sums and the weights in memory."""
    from monai.inferers import sliding_window_inference

    shape = tuple(options.shape)
    grey = Noise(shape)[tuple(slice(0, n) for n in shape)]
    whole = torch.from_numpy(IntensityRange(0, 255).normalise(grey))[None, None]
    del grey
    with torch.inference_mode():
        sliding_window_inference(whole, TILE, 1, next_to_nothing, overlap=OVERLAP, mode="gaussian")
    return peak_memory_mb()


def _warm(network: TokenUnify, options: argparse.Namespace) -> None:
    dtype = DTYPES[options.precision]
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        network(torch.zeros(1, 1, *TILE))


MEASURES = {
    "bare": measure_bare,
    "predict": measure_predict,
    "monai": measure_monai,
    "memory": measure_memory,
    "monai_memory": measure_monai_memory,
}


def fresh(what: str, options: argparse.Namespace, shape: tuple[int, ...]) -> Any:
    """Measure in a new process."""
    words = [sys.executable, __file__, "--measure", what, "--data", str(options.data), "--precision", options.precision]
    words += ["--shape", *map(str, shape), "--save-after", str(options.save_after)]
    # On a shared machine OpenMP's threads that spin while they wait slow each other down, at random and many times.
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_WAIT_POLICY": "passive"}
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def compare_speed(options: argparse.Namespace, rows: Rows) -> None:
    names = ["bare", "predict"] + (["monai"] if find_spec("monai") else [])
    if len(names) == 2:
        print("MONAI is not installed: pip install monai, to compare with its sliding window.")
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: fresh(name, options, options.shape) for name in names})
        text = ", ".join(f"{name} {one[0] / 1e6:.3f} ({one[1] / 1e6:.3f} a core)" for name, one in rounds[-1].items())
        print(f"round {number + 1}, million tile voxels a second: {text}", flush=True)
    for name, target in (("bare", 0.85), ("monai", 1.0)):
        if name in names:
            clock, core = (statistics.median(one["predict"][i] / one[name][i] for one in rounds) for i in (0, 1))
            what = f"predict against {SPEEDS[name]}, speed"
            rows.add(Row(what, clock, target, at_least=True))
            rows.add(Row(f"{what} by processor time", core, at_least=True, is_ratio=True))


def compare_memory(options: argparse.Namespace, rows: Rows) -> None:
    large = tuple(n * GROWTH for n in SMALL)
    names = {"memory": ("predict", 1.2)}
    if find_spec("monai"):
        names["monai_memory"] = ("MONAI's sliding window", None)
    for name, (who, target) in names.items():
        small_mb, large_mb = (fresh(name, options, shape) for shape in (SMALL, large))
        note = f"{small_mb:.0f} MB for {'x'.join(map(str, SMALL))}, {large_mb:.0f} MB for the larger one"
        what = f"peak memory of {who}, volume 64 times as large against small"
        rows.add(Row(what, large_mb / small_mb, target, is_ratio=target is not None, note=note))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 256, 256), help="part of fib25_raw (z y x)")
    parser.add_argument("--precision", choices=list(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save-after", type=float, default=60.0)
    parser.add_argument("--only", choices=["speed", "memory"])
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options)))
        return
    rows = Rows()
    if options.only != "memory":
        compare_speed(options, rows)
    if options.only != "speed":
        compare_memory(options, rows)
    rows.end(options.json)


if __name__ == "__main__":
    main()
