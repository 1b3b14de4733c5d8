"""How much of the bare network's speed is left in pre-training: hidden voxels a second, in turns in one run.

The bare network: forward and backward on a batch that lies ready. Pre-training: the whole loop, with reading,
perturbing, hiding, heads, optimiser and averages of the weights. Both hide the same share of the voxels, so that the
ratio of hidden voxels a second is that of the times of a step; the median over the steps is taken.

    python benchmarks/pretraining.py --data ../shared/data      # 3 minutes on two cores
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rows import Row, Rows, add_json_option

from napari_tokenunify.data import choose_intensity, open_volume
from napari_tokenunify.events import Metric
from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.network.device import DTYPES, choose_device, choose_precision
from napari_tokenunify.network.heap import keep_freed_memory
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train.choices import usual_workers
from napari_tokenunify.train.loop import Loop
from napari_tokenunify.train.plan import Plan
from napari_tokenunify.train.pretraining.heads import PretrainingNetwork, build_head
from napari_tokenunify.train.pretraining.pretraining_task import Part, PretrainingTask
from napari_tokenunify.train.pretraining.recipes import load_recipe, recipe_names
from napari_tokenunify.train.schedule import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = 0.85
NEVER = 1e9


def bare_step(network: torch.nn.Module, images: torch.Tensor, precision: str) -> float:
    """Return the seconds of a forward and a backward pass."""
    started = time.perf_counter()
    with torch.autocast(images.device.type, DTYPES[precision], enabled=precision != "fp32"):
        loss = torch.sigmoid(network(images).float()).square().mean()
    loss.backward()
    network.zero_grad(set_to_none=True)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def steps_of(loop: Loop) -> Iterator[float]:
    """Yield the seconds of each step of a training."""
    started = time.perf_counter()
    for event in loop.run():
        if isinstance(event, Metric) and "loss" in event.values:
            if loop.device.type == "cuda":
                torch.cuda.synchronize()
            yield time.perf_counter() - started
            started = time.perf_counter()  # what was done in between does not count


def compare(arguments: argparse.Namespace, name: str, folder: Path) -> tuple[float, float]:
    """Return the hidden voxels a second of a recipe, and its share of the bare network's."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    recipe = load_recipe(name)
    crop = recipe.crop or tuple(arguments.crop)
    torch.manual_seed(0)
    plain = build_network(NETWORK_PRESETS[arguments.model].replace(offsets=((0, 0, 0),))).to(device)
    network = PretrainingNetwork(plain, build_head(recipe, plain)).to(device)
    volume = open_volume(f"{arguments.data / 'fib25_raw.npz'}::raw")
    part = Part(volume, choose_intensity(volume, None)[0])
    task = PretrainingTask(recipe, [part], [], crop, store=lambda *_: None)
    plan = Plan(
        Budget(arguments.steps + 2, None), crop, batch=arguments.batch, precision=precision,
        workers=usual_workers(device), metric_seconds=0.0, validate_seconds=NEVER, checkpoint_seconds=NEVER,
    )  # fmt: skip
    images = torch.rand(arguments.batch, 1, *crop, device=device)
    bare, full = [], []
    for number, seconds in enumerate(steps_of(Loop(network, task, plan, RunPaths(folder), name))):
        between = bare_step(plain, images, precision)
        if number >= 2:  # the first compile and allocate
            full.append(seconds)
            bare.append(between)
    voxels = 0.5 * images.numel()  # hidden on average, by a mask of 0.2 to 0.8 and by a prefix of random length
    return voxels / statistics.median(full), statistics.median(b / f for b, f in zip(bare, full, strict=True))


def main() -> None:
    """Print a row a recipe; exit code 1 if one misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default="tiny", choices=list(NETWORK_PRESETS))
    parser.add_argument("--recipes", nargs="+", default=["paper", "mae", "autoregressive"], choices=recipe_names())
    parser.add_argument("--crop", nargs=3, type=int, default=[16, 96, 96])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    add_json_option(parser)
    arguments = parser.parse_args()
    keep_freed_memory()
    rows = Rows()
    for name in arguments.recipes:
        with tempfile.TemporaryDirectory() as folder:
            speed, share = compare(arguments, name, Path(folder))
        what, note = f"pre-training of the bare network's speed, {name}", f"{speed:,.0f} hidden voxels a second"
        rows.add(Row(what, share, TARGET, at_least=True, is_ratio=True, note=note))
    rows.end(arguments.json)


if __name__ == "__main__":
    main()
