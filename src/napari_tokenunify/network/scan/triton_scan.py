"""The selective scan on a CUDA GPU, compiled by Triton: what PyTorch's tensors have to do with the kernels.

With TRITON_INTERPRET=1 in the environment Triton runs the same kernels on the CPU, slowly, for tests.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
import triton

from napari_tokenunify.network.scan import triton_kernels as kernels

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_tokenunify.network.scan.arguments import ScanArguments

TILE = 128  # tokens: 4 float32, one load, for each thread of a warp
BLOCK = 4  # channels of a program: what the registers of one warp have room for
# One warp needs no barriers, and adds four numbers at once to the gradients of B and C.
OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}
TILES_AT_ONCE = 64


def forward(arguments: ScanArguments, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Compute a selective scan.

    Parameters
    ----------
    arguments : ScanArguments
        Checked arguments on a CUDA GPU, of any strides; float32 or half precision.
    keep : bool
        Whether `backward` will be called.

    Returns
    -------
    torch.Tensor
        (batch, channels, length), of u's type.
    torch.Tensor
        What `backward` needs: the states in front of each tile, (batch, channels, tiles, states).
    """
    given = arguments.map(torch.Tensor.contiguous)
    y, states = torch.empty_like(given.u), _tile_states(given)
    with _on(given.u.device):
        if states.shape[2] > 1:
            _fill(states, given, given.u, given.B, None)
        kernels.outputs[_grid(given)](
            *given.tensors, states, y, *y.shape[1:], *_constants(given), BLOCK=BLOCK, TILE=TILE, **OPTIONS
        )
    return y, states if keep else states[:0]


def backward(arguments: ScanArguments, states: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradients of a selective scan.

    Those of B and C are sums whose order, and so whose last bits, may differ from run to run.

    Parameters
    ----------
    arguments : ScanArguments
        What `forward` was given.
    states : torch.Tensor
        What `forward` kept.
    dy : torch.Tensor
        Gradient of its output, (batch, channels, length).

    Returns
    -------
    tuple of torch.Tensor or None
        The gradients of `arguments.tensors`; None for what was left out.
    """
    given, dy = arguments.map(torch.Tensor.contiguous), dy.contiguous()
    after = _tile_states(given)
    du, ddelta, dz = (None if x is None else torch.empty_like(x) for x in (given.u, given.delta, given.z))
    dB, dC = (torch.zeros_like(x, dtype=torch.float32) for x in (given.B, given.C))
    dD, dbias = (None if x is None else after.new_empty(after.shape[:3]) for x in (given.D, given.delta_bias))
    with _on(given.u.device):
        if after.shape[2] > 1:
            _fill(after, given, dy, given.C, given.z, backwards=True)
        kernels.gradients[_grid(given)](
            *given.tensors, dy, states, after, du, ddelta, dB, dC, dD, dz, dbias, *dy.shape[1:], *_constants(given),
            BLOCK=BLOCK, TILE=TILE, **OPTIONS,
        )  # fmt: skip
    dA = after.sum((0, 2))
    dD, dbias = (None if x is None else x.sum((0, 2)) for x in (dD, dbias))
    return du, ddelta, dA, dB, dC, dD, dz, dbias


def _fill(
    states: Tensor, given: ScanArguments, x: Tensor, mixing: Tensor, z: Tensor | None, *, backwards: bool = False
) -> None:
    """Write the states in front of the tiles, or backwards, what their gradients behind the tiles are."""
    ends, totals = torch.empty_like(states), states.new_empty(states.shape[:3])
    batch, channels, tiles, count = states.shape
    n, softplus = _constants(given)
    kernels.tile_ends[_grid(given)](
        x, given.delta, given.A, mixing, z, given.delta_bias, ends, totals, channels, x.shape[2],
        n, softplus, backwards, BLOCK=BLOCK, TILE=TILE, **OPTIONS,
    )  # fmt: skip
    kernels.join_tiles[(batch * channels,)](
        ends, totals, given.A, states, channels, tiles,
        count, triton.next_power_of_2(count), backwards, BLOCK=TILES_AT_ONCE, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip


def _tile_states(given: ScanArguments) -> Tensor:
    """Return zeros (batch, channels, tiles, states)."""
    batch, channels, length = given.u.shape
    size = (batch, channels, triton.cdiv(length, TILE), given.A.shape[1])
    return given.u.new_zeros(size, dtype=torch.float32)


def _constants(given: ScanArguments) -> tuple[int, bool]:
    """Return what STATES and SOFTPLUS are."""
    return given.A.shape[1], given.delta_softplus


def _grid(given: ScanArguments) -> tuple[int, int, int]:
    """Return how many programs there are: tiles, blocks of channels, samples."""
    batch, channels, length = given.u.shape
    return triton.cdiv(length, TILE), triton.cdiv(channels, BLOCK), batch


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Launch on the tensors' own GPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
