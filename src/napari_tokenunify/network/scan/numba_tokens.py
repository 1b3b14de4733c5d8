"""What a Mamba block does between its projections, on the CPU and without gradients: tensors for the kernels."""

# mypy: disable-error-code="no-untyped-call"
# (Numba's constructors of types have no types.)

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numba
import torch
from numba import types

from napari_tokenunify.network.compiled import compiled
from napari_tokenunify.network.scan import numba_token_kernels as kernels
from napari_tokenunify.network.scan.numba_functions import OPTIONS
from napari_tokenunify.network.scan.numba_lanes import LANES
from napari_tokenunify.network.scan.numba_scan import in_threads, spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def takes(x: Tensor, channels: int) -> bool:
    """Return whether `convolve` and `scan` are made for a tensor like `x` and this number of channels."""
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return on_cpu and channels % LANES == 0


def convolve(x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Tensor:
    """Convolve each channel causally with its own four taps, in a branch's order of the tokens, then SiLU.

    Parameters
    ----------
    x : Tensor
        (B, L, C or more), float32, contiguous; the first C channels are taken.
    weight, bias : Tensor
        (C, 4), the last tap for the token itself; (C,).
    order : Tensor
        Position of the first token of the branch, of the second, ...: (L,), int64.

    Returns
    -------
    Tensor
        (B, L, C), in the plain order.
    """
    y = x.new_empty((*x.shape[:2], len(bias)))
    x_, taps, bias_, order_, y_ = (a.detach().numpy() for a in (x, weight.T.contiguous(), bias, order, y))
    kernel = _compiled("convolve")
    in_threads(lambda _, span: kernel(x_, taps, bias_, order_, span, y_), spans(y.shape[0], y.shape[2], 4 * y.numel()))
    return y


def scan(
    sequences: tuple[Tensor, Tensor, Tensor],
    weights: tuple[Tensor, Tensor, Tensor, Tensor],
    order: Tensor,
    y: Tensor,
    *,
    added: bool,
    gated: bool,
) -> None:
    """Run a selective scan in a branch's order of the tokens.

    Parameters
    ----------
    sequences : tuple of Tensor
        u (B, L, C); delta before its projection, B and C (B, L, R + 2 N); the gate, in the second half of
        (B, L, 2 C). All float32 and contiguous.
    weights : tuple of Tensor
        A (C, N), D (C,), delta_bias (C,), and the projection to delta (C, R).
    order : Tensor
        As for `convolve`.
    y : Tensor
        Receives the output, (B, L, C), in the plain order.
    added, gated : bool
        Whether the output is added to what `y` has, and whether the sum is then multiplied by SiLU of the gate.
    """
    A, D, bias, to_steps = weights
    arrays = tuple(a.detach().numpy() for a in sequences)
    scales = tuple(a.detach().contiguous().numpy() for a in (A, D, bias, to_steps.T))
    order_, y_, kernel = order.numpy(), y.numpy(), _compiled("scan")
    in_threads(
        lambda _, span: kernel(arrays, scales, order_, (added, gated), span, y_),
        spans(y.shape[0], y.shape[2], y.numel() * A.shape[1]),
    )


@cache
def _compiled(name: str) -> Callable[..., None]:
    """Compile a kernel once, and keep it on disk where a folder for it can be written."""
    rows, table, row = numba.float32[:, :, ::1], numba.float32[:, ::1], numba.float32[::1]
    span, order = types.UniTuple(numba.int64, 2), numba.int64[::1]
    if name == "convolve":
        signature = types.void(rows, table, row, order, span, rows)
    else:
        weights = types.Tuple((table, row, row, table))
        how = types.UniTuple(types.boolean, 2)
        signature = types.void(types.UniTuple(rows, 3), weights, order, how, span, rows)
    kernel: Callable[..., None] = compiled(getattr(kernels, name), signature, **OPTIONS)
    return kernel
