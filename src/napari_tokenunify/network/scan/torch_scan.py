"""The selective scan in plain PyTorch: for every device, and the reference of the other backends.

The sequence is cut into chunks that only the state h (batch, channels, states) joins; in the backward pass a
chunk's intermediates are computed again. Inside a chunk the recurrence is solved by levels: short runs side by
side, then the same over the ends of the runs. Decays are multiplied and never divided, so nothing under- or
overflows that would not do so in a plain loop.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from napari_tokenunify.network.scan.arguments import ScanArguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CHUNK = 256
RUN = 16


def scan(arguments: ScanArguments) -> Tensor:
    """Compute a selective scan; all gradients come from autograd.

    Parameters
    ----------
    arguments : ScanArguments
        Checked arguments, on any device.

    Returns
    -------
    torch.Tensor
        (batch, channels, length), of u's type.
    """
    h = arguments.u.new_zeros((*arguments.u.shape[:2], arguments.A.shape[1]), dtype=arguments.compute_dtype)
    rows = []
    for chunk in arguments.split(CHUNK):
        if arguments.needs_grad:
            row, h = _RecomputedChunk.apply(chunk.delta_softplus, h, *chunk.tensors)  # type: ignore[no-untyped-call]
        else:
            row, h = _scan_chunk(chunk, h)
        rows.append(row)
    return torch.cat(rows).permute(1, 2, 0).contiguous()


def _scan_chunk(chunk: ScanArguments, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output (length, batch, channels) of one chunk and the state h after it, given the one before it."""
    dtype, chunk = chunk.u.dtype, chunk.map(lambda x: x.to(h.dtype))
    u, delta, B, C = (x.permute(2, 0, 1) for x in (chunk.u, chunk.delta, chunk.B, chunk.C))
    if chunk.delta_bias is not None:
        delta = delta + chunk.delta_bias
    if chunk.delta_softplus:
        delta = functional.softplus(delta)
    # Time leads, so that one step is one piece of memory: (length, batch, channels, states).
    decay = torch.exp(delta[..., None] * chunk.A)
    gain = (delta * u)[..., None] * B[:, :, None]
    states = recurrence(decay, torch.cat([torch.addcmul(gain[:1], decay[:1], h), gain[1:]]))
    y = (states * C[:, :, None]).sum(dim=-1)
    if chunk.D is not None:
        y = y + chunk.D * u
    if chunk.z is not None:
        y = y * functional.silu(chunk.z.permute(2, 0, 1))
    return y.to(dtype), states[-1].clone()  # a view would keep all states


class _RecomputedChunk(torch.autograd.Function):
    """A chunk that keeps only what it was given; `torch.utils.checkpoint` would do, but takes seconds to import."""

    @staticmethod
    def forward(ctx: Any, delta_softplus: bool, h: Tensor, *tensors: Any) -> tuple[Tensor, Tensor]:
        ctx.delta_softplus = delta_softplus
        ctx.save_for_backward(h, *tensors)
        return _scan_chunk(ScanArguments(*tensors, delta_softplus=delta_softplus), h)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *from_later: Tensor) -> tuple[Tensor | None, ...]:
        saved = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        again: list[Any] = [None if x is None else x.detach().requires_grad_(needed) for x, needed in saved]
        with torch.enable_grad():
            results = _scan_chunk(ScanArguments(*again[1:], delta_softplus=ctx.delta_softplus), again[0])
        pairs = [(x, dx) for x, dx in zip(results, from_later, strict=True) if x.requires_grad]
        leaves = [x for x in again if x is not None and x.requires_grad]
        found = iter(torch.autograd.grad([x for x, _ in pairs], leaves, [dx for _, dx in pairs]))
        return (None, *(next(found) if needed else None for needed in ctx.needs_input_grad[1:]))


def recurrence(decay: Tensor, gain: Tensor) -> Tensor:
    """Return h with h[t] = decay[t] * h[t - 1] + gain[t] along the first axis, and 0 before it."""
    length = len(decay)
    if length <= RUN:
        return torch.stack(_follow(decay.unbind(), gain.unbind()))
    # Cut into runs, filled up at the end; solve all from 0 at once; then add what enters each, times its decay so far.
    filling = decay.new_zeros((-length % RUN, *decay.shape[1:]))
    decays, gains = (torch.cat([x, filling]).reshape(-1, RUN, *x.shape[1:]).unbind(1) for x in (decay, gain))
    inside = _follow(decays, gains)
    so_far = list(itertools.accumulate(decays, torch.mul))
    ends = recurrence(so_far[-1], inside[-1])
    entering = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
    h = [torch.addcmul(x, y, entering) for x, y in zip(inside, so_far, strict=True)]
    return torch.stack(h, dim=1).flatten(0, 1)[:length]


def _follow(decays: Sequence[Tensor], gains: Sequence[Tensor]) -> list[Tensor]:
    """Return the states after each step, one step after the other, from 0."""
    h = [gains[0]]
    for decay, gain in zip(decays[1:], gains[1:], strict=True):
        h.append(torch.addcmul(gain, decay, h[-1]))
    return h


def gradients(arguments: ScanArguments, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of `arguments.tensors` for a gradient of the output, without anything kept from before."""
    leaves = arguments.map(lambda x: x.detach().requires_grad_())
    with torch.enable_grad():
        y = scan(leaves)
    found = iter(torch.autograd.grad(y, [x for _, x in leaves.named()], dy))
    return tuple(None if x is None else next(found) for x in leaves.tensors)
