"""Speed and memory of the selective scan: our kernels against what they have to beat, in one run.

On the CPU Numba is held against the loop over tokens that the equations are (eager PyTorch, float32), and against the
parallel scan of mambapy, if that is installed. On a GPU, with `--gpu`, Triton is held against `mamba_ssm`. The rivals
take turns, and a ratio is the median over the rounds, so that other work on the machine disturbs all of them alike.
Memory is what a pass adds to a fresh process (on a GPU: to what is allocated), relative to the inputs.

    python benchmarks/scan.py                # a few minutes: the loop is slow
    python benchmarks/scan.py --gpu
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rows import Row, Rows, add_json_option
from torch.nn import functional

from napari_tokenunify.network.scan import available_backends, selective_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Scan = Callable[..., Tensor]

STATES = 16
PASSES = ("forward", "forward + backward")


def make_case(channels: int, length: int, device: str) -> list[Tensor]:
    """Return u, delta, A, B, C with steps as a trained network has them."""
    generator = torch.Generator().manual_seed(0)
    u, delta = (torch.randn(1, channels, length, generator=generator) for _ in range(2))
    B, C = (torch.randn(1, STATES, length, generator=generator) for _ in range(2))
    A = -torch.arange(1.0, STATES + 1).repeat(channels, 1)
    return [x.to(device).requires_grad_() for x in (u, delta - 3, A, B, C)]


def loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan one token after the other; taken apart beforehand, as indexing would cost the backward pass far more."""
    delta = functional.softplus(delta)
    h = torch.zeros_like(A)
    ys = []
    for u_t, delta_t, B_t, C_t in zip(*(x.unbind(2) for x in (u, delta, B, C)), strict=True):
        h = torch.exp(delta_t[:, :, None] * A) * h + (delta_t * u_t)[:, :, None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(2))
    return torch.stack(ys, dim=2)


def mambapy_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan as mambapy's MambaBlock does, whose sequences are (batch, length, channels)."""
    from mambapy.pscan import pscan

    delta = functional.softplus(delta).mT[..., None]
    states = pscan(torch.exp(delta * A), delta * B.mT[:, :, None] * u.mT[..., None])
    return (states @ C.mT[..., None]).squeeze(3).mT


def ours(backend: str) -> Scan:
    """Return our scan with one backend."""
    return lambda *case: selective_scan(*case, delta_softplus=True, backend=backend)


def seconds(scan: Scan, case: list[Tensor], which: str) -> float:
    """Time one pass."""
    gpu = case[0].is_cuda
    if gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.set_grad_enabled(which != "forward"):
        y = scan(*case)
        if which != "forward":
            torch.autograd.grad(y, case, torch.ones_like(y))
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratios(rivals: dict[str, Scan], case: list[Tensor], which: str, rounds: int, target: float) -> Iterator[Row]:
    """Let all take turns, the first of them ours, and say how many times longer each of the others takes."""
    seconds(next(iter(rivals.values())), case, which)  # compile
    times = [{name: seconds(scan, case, which) for name, scan in rivals.items()} for _ in range(rounds)]
    first, *others = rivals
    for other in others:
        ratio = statistics.median(turn[other] / turn[first] for turn in times)
        middle = {name: 1e3 * statistics.median(turn[name] for turn in times) for name in (first, other)}
        note = f"{first} {middle[first]:.3g} ms, {other} {middle[other]:.3g} ms"
        yield Row(f"{first} against {other}, {which}", ratio, target, at_least=True, is_ratio=True, note=note)


def probe_memory(which: str) -> None:
    """Print what one pass adds to this process, relative to its inputs; runs in a process of its own (Linux)."""
    for small in (make_case(16, 200, "cpu"), make_case(96, 2000, "cpu")):
        seconds(ours("numba"), small, "forward + backward")  # compile, and let allocators settle
    case = make_case(96, 16_384, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew

    def resident(key: str) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))

    before = resident("VmRSS")
    seconds(ours("numba"), case, which)
    print(json.dumps((resident("VmHWM") - before) / sum(x.nbytes for x in case)))


def on_cpu(rounds: int, length: int) -> Iterator[Row]:
    """Measure on the CPU."""
    case = make_case(96, length, "cpu")
    for which in PASSES:
        rivals = {"numba": ours("numba"), "loop": loop}
        yield from ratios(rivals, case, which, rounds, 15)
        if find_spec("mambapy"):
            yield from ratios({"numba": ours("numba"), "mambapy": mambapy_scan}, case, which, 2 * rounds + 1, 3)
    for which in PASSES:
        words = [sys.executable, __file__, "--memory", which]
        found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        yield Row(f"extra memory of numba against inputs, {which}", found, 3, is_ratio=True)


def on_gpu(rounds: int) -> Iterator[Row]:
    """Measure on the GPU."""
    if available_backends()["mamba_ssm"]:
        sys.exit(f"mamba_ssm: {available_backends()['mamba_ssm']}")
    for channels in (64, 512):
        for dtype in (torch.float32, torch.bfloat16):
            case = [
                x.detach().to(dtype if x.ndim == 3 else x.dtype).requires_grad_()
                for x in make_case(channels, 51_200, "cuda")
            ]
            for which in PASSES:
                how = f"{which}, {channels} channels, {dtype}"
                rivals = {name: ours(name) for name in ("triton", "mamba_ssm")}
                for row in ratios(rivals, case, which, max(rounds, 20), 1):
                    yield replace(row, what=f"{row.what}, {channels} channels, {dtype}")
                peaks = {}
                for name, scan in rivals.items():
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                    seconds(scan, case, which)
                    peaks[name] = torch.cuda.max_memory_allocated() - before
                note = ", ".join(f"{name} {peak / 1e6:.0f} MB" for name, peak in peaks.items())
                ratio = peaks["triton"] / peaks["mamba_ssm"]
                yield Row(f"peak memory of triton against mamba_ssm, {how}", ratio, 1, is_ratio=True, note=note)


def main() -> None:
    """Print a Markdown table; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of the slow loop; the others get more")
    parser.add_argument("--gpu", action="store_true", help="Triton against mamba_ssm")
    parser.add_argument("--memory", choices=PASSES, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=16_384, help="tokens, on the CPU")
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.memory:
        probe_memory(arguments.memory)
        return
    print(f"{torch.get_num_threads()} threads" if not arguments.gpu else torch.cuda.get_device_name(), end="\n\n")
    rows = Rows()
    for row in on_gpu(arguments.rounds) if arguments.gpu else on_cpu(arguments.rounds, arguments.length):
        rows.add(row)
    rows.end(arguments.json)


if __name__ == "__main__":
    main()
