"""The tri-directional Mamba block: tokens in, tokens out, mixed over the whole crop in linear time.

Three selective scans walk the same tokens: forwards, backwards, and in an order that jumps between slices. They share
the projections into and out of the block and are added. Tokens are (B, L, C) outside, (B, C, L) around the scans.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_tokenunify.network.blocks import add, full_precision
from napari_tokenunify.network.scan import selective_scan, try_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)
STATES: Final = 16
TAPS: Final = 4
EXPAND: Final = 2
_BRANCHES: Final = ("", "_b", "_s")  # forwards, backwards, by slices: endings of the official parameter names


def interleave(x: Tensor, runs: int) -> Tensor:
    """Cut the last axis into `runs` runs of neighbours and take one from each in turn.

    Where its length is no multiple of `runs`, the first runs are one longer, so that no padding is needed; where it
    is, this is the official order: 10 tokens in 5 runs come as 0 2 4 6 8 1 3 5 7 9.

    Parameters
    ----------
    x : Tensor
        (..., L).
    runs : int
        How many runs; at least 1, and L or more leaves the order as it is.

    Returns
    -------
    Tensor
        (..., L), a copy.
    """
    length = x.shape[-1]
    if length % runs == 0:
        return x.reshape(*x.shape[:-1], runs, length // runs).transpose(-1, -2).flatten(-2)
    return x.index_select(-1, _order(length, runs, x.device))


def deinterleave(x: Tensor, runs: int) -> Tensor:
    """Undo `interleave`."""
    length = x.shape[-1]
    if length % runs == 0:
        return interleave(x, length // runs)
    return x.index_select(-1, _order(length, runs, x.device).argsort())


def _order(length: int, runs: int, device: torch.device) -> Tensor:
    """Return which old position each new one takes: run `i` starts after `i` runs, the first of them one longer."""
    step, longer = divmod(length, runs)
    new = torch.arange(length, device=device)
    run = new % runs
    return run * step + run.clamp(max=longer) + new // runs


class TriMamba(nn.Module):
    """The tri-directional Mamba ("bimamba v3") of SegMamba and TokenUnify.

    Parameters
    ----------
    width : int
        Channels of a token.
    backend : str
        What computes the scans, as `selective_scan` has it.

    References
    ----------
    .. [1] Gu and Dao (2023), Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752.
    .. [2] Xing et al. (2024), SegMamba, arXiv 2401.13560: the three directions.
    .. [3] Chen et al. (2024), TokenUnify, arXiv 2405.16847.
    """

    def __init__(self, width: int, backend: str = "auto") -> None:
        super().__init__()
        inner, self.rank = EXPAND * width, math.ceil(width / 16)
        self.backend = backend
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        for name in _BRANCHES:
            self.add_module(f"conv1d{name}", nn.Conv1d(inner, inner, TAPS, groups=inner, padding=TAPS - 1))
            self.add_module(f"x_proj{name}", nn.Linear(inner, self.rank + 2 * STATES, bias=False))
            self.add_module(f"dt_proj{name}", nn.Linear(self.rank, inner))
            # A = -exp(A_log) starts as -1 ... -16: time constants from long to short
            rates = torch.arange(1, STATES + 1, dtype=torch.float32).log().repeat(inner, 1)
            self.register_parameter(f"A{name}_log", nn.Parameter(rates))
            self.register_parameter(f"D{name}", nn.Parameter(torch.ones(inner)))
        self.out_proj = nn.Linear(inner, width, bias=False)
        _spread_time_steps(self.get_submodule("dt_proj"))

    def forward(self, tokens: Tensor, runs: int) -> Tensor:
        """Mix the tokens.

        Parameters
        ----------
        tokens : Tensor
            (B, L, width).
        runs : int
            Runs of the third scan, see `interleave`.

        Returns
        -------
        Tensor
            (B, L, width).
        """
        result = try_tokens(
            self.backend, tokens, self.out_proj.in_features, lambda kernels: self._in_rows(tokens, runs, kernels)
        )
        if result is not None:
            return result
        projected = self.in_proj.weight @ tokens.flatten(0, 1).T  # (2 inner, B L): the scans want L innermost
        x, gate = projected.view(-1, *tokens.shape[:2]).transpose(0, 1).chunk(2, dim=1)  # each (B, inner, L)
        y = self._scan(x, "")
        y = add(y, self._scan(x.flip(-1), "_b").flip(-1))
        y = add(y, deinterleave(self._scan(interleave(x, runs), "_s"), runs))
        y = y * functional.silu(gate)  # the same gate for all three, so it is applied once, in the plain order
        return functional.linear(y.transpose(1, 2), self.out_proj.weight)

    def _in_rows(self, tokens: Tensor, runs: int, kernels: Any) -> Tensor:
        """Do the same without gradients and several times as fast: tokens are rows, and each branch finds its own."""
        xz = self.in_proj(tokens).contiguous()
        plain = torch.arange(tokens.shape[1])
        y = xz.new_empty((*tokens.shape[:2], self.out_proj.in_features))
        for name, order in zip(_BRANCHES, (plain, plain.flip(0), interleave(plain, runs)), strict=True):
            conv, x_proj, dt_proj, A, D = self._branch(name)
            x = kernels.convolve(xz, conv.weight[:, 0], conv.bias, order)
            weights = (A, D, dt_proj.bias, dt_proj.weight)
            first, last = name == _BRANCHES[0], name == _BRANCHES[-1]
            kernels.scan((x, x_proj(x), xz), weights, order, y, added=not first, gated=last)
        result: Tensor = self.out_proj(y)
        return result

    def _branch(self, name: str) -> tuple[Any, ...]:
        """Return a branch's convolution, its projection to steps, B and C, the one to the steps, A, and D."""
        conv, x_proj, dt_proj, A_log, D = (
            getattr(self, part)
            for part in (f"conv1d{name}", f"x_proj{name}", f"dt_proj{name}", f"A{name}_log", f"D{name}")
        )
        exact = torch.promote_types(A_log.dtype, torch.float32)  # rates keep fp32 in a half-precision network
        return conv, x_proj, dt_proj, -torch.exp(A_log.to(exact)), D

    def _scan(self, x: Tensor, name: str) -> Tensor:
        """Run one branch over `x` (B, inner, L)."""
        conv, x_proj, dt_proj, A, D = self._branch(name)
        x = causal_conv(x, conv.weight[:, 0], conv.bias)
        steps, b, c = torch.split(_project(x_proj.weight, x), [self.rank, STATES, STATES], dim=1)
        return selective_scan(
            x,
            _project(dt_proj.weight, steps),
            A,
            b,
            c,
            D,
            delta_bias=dt_proj.bias,
            delta_softplus=True,
            backend=self.backend,
        )


class MambaLayer(nn.Module):
    """Layer norm and TriMamba over the positions of a feature volume, in raster order.

    Parameters
    ----------
    width : int
        Channels.
    residual : bool
        Whether the input is added to the output; the official network does not.
    slices : int or "z"
        Runs of the third scan; "z": as many as there are sections.
    backend : str
        What computes the scans.
    """

    def __init__(self, width: int, *, residual: bool, slices: int | Literal["z"], backend: str = "auto") -> None:
        super().__init__()
        self.residual, self.slices = residual, slices
        self.norm = nn.LayerNorm(width)
        self.mamba = TriMamba(width, backend)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, D, H, W) to the same shape."""
        runs = x.shape[2] if self.slices == "z" else self.slices
        with full_precision(x, wanted=True):  # on a CPU half precision would only be converted to and fro here
            x = x.to(self.norm.weight.dtype) if x.device.type == "cpu" else x
            tokens = x.flatten(2).transpose(1, 2)  # (B, L, width), a view where x is channels-last
            y: Tensor = self.mamba(self.norm(tokens), runs).transpose(1, 2).reshape(x.shape)
        return x + y if self.residual else y


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel with its own taps over this token and those before it, then SiLU.

    Parameters
    ----------
    x : Tensor
        (B, C, L).
    weight, bias : Tensor
        (C, taps), the last tap for the token itself; (C,).

    Returns
    -------
    Tensor
        (B, C, L).
    """
    if x.device.type != "cpu":
        if x.is_cuda and x.dtype != torch.float64 and (fused := _fused_conv(x.device)):
            return fused(x, weight, bias, activation="silu")
        padded = functional.pad(x, (weight.shape[1] - 1, 0))
        return functional.silu(functional.conv1d(padded, weight[:, None], bias, groups=len(weight)))
    # on a CPU a few shifted sums are ten times as fast as a depthwise convolution
    y = torch.addcmul(bias[:, None], x, weight[:, -1:])
    for shift in range(1, min(weight.shape[1], x.shape[2])):
        y[..., shift:].addcmul_(x[..., :-shift], weight[:, -1 - shift, None])
    return functional.silu(y, inplace=not y.requires_grad)


@cache
def _fused_conv(device: torch.device) -> Callable[..., Tensor] | None:
    """Return causal-conv1d's kernel if it is installed and a first call on the device works."""
    try:
        conv: Callable[..., Tensor] = import_module("causal_conv1d").causal_conv1d_fn
        conv(torch.zeros(1, 8, 8, device=device), torch.zeros(8, TAPS, device=device), None, activation="silu")
    except Exception as error:  # noqa: BLE001 - compiled packages fail in many ways, and torch can do without
        if not isinstance(error, ModuleNotFoundError):
            _LOG.warning("causal-conv1d does not work on %s and is not used: %s", device, error)
        return None
    return conv


def _project(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply (O, I) with (B, I, L) to (B, O, L), without a transposed copy of the larger."""
    return weight.expand(x.shape[0], -1, -1).bmm(x)


def _spread_time_steps(projection: nn.Module) -> None:
    """Start the time steps of a branch spread over 0.001 to 0.1, as Mamba's authors do."""
    weight, bias = projection.get_parameter("weight"), projection.get_parameter("bias")
    nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)
    with torch.no_grad():
        step = torch.empty_like(bias).uniform_(math.log(1e-3), math.log(1e-1)).exp_().clamp_(min=1e-4)
        bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
