"""A forward pass of `base` on a CPU: the share of its Mamba part, what bf16 gains and costs, our blocks and MONAI's.

All is measured in turns in one run, on a 16x160x160 crop of real EM, as medians over the rounds. Before bf16 is held
against fp32 the network is trained for a few steps: fresh weights give affinities near 0.5 and hide much. Freed memory
is kept and idle threads sleep, as in the stages that compute; `--system-memory` shows what the first gains. On a
processor without units for bf16, where the program does not use it either, that part is left out.

    python benchmarks/network_forward.py --data ../shared/data      # 4 minutes
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the stages that compute, and before torch is loaded

import torch
from rows import Row, Rows, add_json_option
from torch import Tensor, nn

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data import open_volume
from napari_tokenunify.geometry import Box
from napari_tokenunify.network import NETWORK_PRESETS, TokenUnify, build_network
from napari_tokenunify.network.device import choose_precision
from napari_tokenunify.network.heap import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

CROP = (16, 160, 160)


def real_crop(data: Path, start: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return grey values (1, 1, D, H, W) in 0..1 and known affinities (1, 3, D, H, W)."""
    box = Box(start, tuple(a + n for a, n in zip(start, CROP, strict=True)))
    raw, labels = (open_volume(f"{data / 'fib25_train_test.npz'}::{name}").read(box) for name in ("raw", "labels"))
    target, _ = known_affinities(labels)
    return torch.from_numpy(raw)[None, None].float() / 255, torch.from_numpy(target)[None].float()


def has_bf16() -> bool:
    """Tell whether the program would compute in bf16 here."""
    return choose_precision("auto", torch.device("cpu")) == "bf16"


def train(network: TokenUnify, data: Path, steps: int) -> None:
    """Give the affinities some contrast."""
    raw, target = real_crop(data, (0, 0, 0))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            logits = network(raw).float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


@torch.inference_mode()
def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def mamba_share(network: TokenUnify, raw: Tensor, rounds: int) -> list[float]:
    """Return the Mamba layers' share of each fp32 forward pass, by the clock inside one and the same pass."""
    spent, started = [0.0], [0.0]
    hooks = []
    for stage in network.vit.stages:
        hooks.append(stage.register_forward_pre_hook(lambda *_: started.__setitem__(0, time.perf_counter())))
        hooks.append(
            stage.register_forward_hook(lambda *_: spent.__setitem__(0, spent[0] + time.perf_counter() - started[0]))
        )
    shares = []
    for _ in range(rounds):
        spent[0] = 0.0
        total = seconds(lambda: network(raw))
        shares.append(spent[0] / total)
    for hook in hooks:
        hook.remove()
    return shares


def bf16(network: TokenUnify, raw: Tensor, rounds: int) -> tuple[float, float]:
    """Return how many times as long fp32 takes, and the largest difference of an affinity."""
    results: dict[bool, Tensor] = {}

    def run(enabled: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results[enabled] = network.affinities(raw)

    turns = [(seconds(lambda: run(False)), seconds(lambda: run(True))) for _ in range(rounds)]
    ratio = statistics.median(slow for slow, _ in turns) / statistics.median(fast for _, fast in turns)
    return ratio, float((results[True] - results[False]).abs().max())


def against_monai(raw: Tensor, rounds: int) -> dict[str, float]:
    """Return for each kind of block how many times as long MONAI's takes, in fp32 at the sizes of `base`."""
    from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock

    from napari_tokenunify.network.blocks import BasicBlock, UpBlock, channels_last

    kernel, norm = (1, 5, 5), "instance"
    skip, below = torch.randn(1, 32, *CROP), torch.randn(1, 64, *(n // 2 for n in CROP))
    pairs = {
        "encoder1": (BasicBlock(1, 32, kernel), UnetrBasicBlock(3, 1, 32, kernel, 1, norm, res_block=True), (raw,)),
        "decoder2": (
            UpBlock(64, 32, kernel, (2, 2, 2)),
            UnetrUpBlock(3, 64, 32, kernel, 2, norm, res_block=True),
            (below, skip),
        ),
    }
    found = {}
    for name, (ours, theirs, inputs) in pairs.items():
        theirs.load_state_dict(ours.state_dict())
        ready = [channels_last(x) for x in inputs]  # as in our network
        difference = (ours(*ready) - theirs(*inputs)).abs().max()
        if difference > 1e-3:
            raise SystemExit(f"{name} gives another result than MONAI's: {difference:.2g}")
        turns = (seconds(lambda: theirs(*inputs)) / seconds(lambda: ours(*ready)) for _ in range(rounds))  # noqa: B023
        found[name] = statistics.median(turns)
    return found


def with_monai(network: TokenUnify) -> nn.Module:
    """Return the network with MONAI's blocks in encoder and decoder, as the official one has it."""
    from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock

    theirs = copy.deepcopy(network)
    kernel, norm = network.config.kernel, "instance"
    widths = (*network.config.widths, network.config.hidden)
    for name, block in list(network.named_children()):
        level = int(name[-1]) if name[-1].isdigit() else 0
        if name.startswith("encoder"):
            before = 1 if level == 1 else widths[level - 2]
            other = UnetrBasicBlock(3, before, widths[level - 1], kernel, 1, norm, res_block=True)
        elif name == "decoder1":
            other = UnetrBasicBlock(3, widths[0], widths[0], kernel, 1, norm, res_block=True)
        elif name.startswith("decoder"):
            other = UnetrUpBlock(3, widths[level - 1], widths[level - 2], kernel, 2, norm, res_block=True)
        else:
            continue
        other.load_state_dict(block.state_dict())
        setattr(theirs, name, other)
    return theirs.eval()


def official_fp32(network: TokenUnify, raw: Tensor, rounds: int) -> float:
    """Return how many times as long the network takes in fp32 with MONAI's blocks as ours in bf16."""
    theirs = with_monai(network)

    def ours() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            network(raw)

    return statistics.median(seconds(lambda: theirs(raw)) / seconds(ours) for _ in range(rounds))


def main() -> None:
    """Print the rows; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--train-steps", type=int, default=20)
    parser.add_argument("--system-memory", action="store_true", help="give freed memory back to the system")
    add_json_option(parser)
    arguments = parser.parse_args()
    if not arguments.system_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    raw, _ = real_crop(arguments.data, (130, 40, 40))
    network = build_network(NETWORK_PRESETS["base"])
    train(network, arguments.data, arguments.train_steps)
    seconds(lambda: network(raw))  # compile
    shares = mamba_share(network, raw, arguments.rounds)
    if not has_bf16():
        print("This processor has no units for bf16: that part is left out.")
    rows = Rows()
    rows.add(Row("share of the Mamba part in fp32", statistics.median(shares), 0.25, is_ratio=True))
    if has_bf16():
        gain, difference = bf16(network, raw, arguments.rounds)
        rows.add(Row("fp32 against bf16, time", gain, 1.8, at_least=True, is_ratio=True))
        rows.add(Row("fp32 against bf16, largest difference of an affinity", difference, 0.02))
    if find_spec("monai") and has_bf16():
        official = official_fp32(network, raw, arguments.rounds)
        what = "fp32 with MONAI's blocks, as the official network, against bf16, time"
        rows.add(Row(what, official, at_least=True, is_ratio=True))
    if find_spec("monai"):
        for name, ratio in against_monai(raw, arguments.rounds).items():
            rows.add(Row(f"MONAI's block against ours, time, {name}", ratio, 1, at_least=True, is_ratio=True))
    rows.end(arguments.json)


if __name__ == "__main__":
    main()
