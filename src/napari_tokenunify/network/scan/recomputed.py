"""The bridge to autograd of the backends that bring their own backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from napari_tokenunify.network.scan.arguments import ScanArguments

if TYPE_CHECKING:
    from torch import Tensor


class Kernels(Protocol):
    """A backend with a forward and a backward pass of its own."""

    def forward(self, arguments: ScanArguments, *, keep: bool) -> tuple[Tensor, Tensor]:
        """Return the output, and what the backward pass needs of the states (nothing unless `keep`)."""

    def backward(self, arguments: ScanArguments, states: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `arguments.tensors`."""


def scan(kernels: Kernels, arguments: ScanArguments) -> Tensor:
    """Compute a selective scan that autograd can go back through once."""
    if not arguments.needs_grad:
        return kernels.forward(arguments, keep=False)[0]
    output: Tensor = _RecomputedScan.apply(kernels, arguments.delta_softplus, *arguments.tensors)  # type: ignore[no-untyped-call]
    return output


class _RecomputedScan(torch.autograd.Function):
    """Keeps the arguments and the few states the forward pass hands over."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, delta_softplus: bool, *tensors: Any) -> Tensor:
        y, states = kernels.forward(ScanArguments(*tensors, delta_softplus=delta_softplus), keep=True)
        ctx.kernels, ctx.delta_softplus = kernels, delta_softplus
        ctx.save_for_backward(states, *tensors)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        states, *tensors = ctx.saved_tensors
        gradients = ctx.kernels.backward(ScanArguments(*tensors, delta_softplus=ctx.delta_softplus), states, dy)
        cast = (None if x is None else gradient.to(x.dtype) for x, gradient in zip(tensors, gradients, strict=True))
        return (None, None, *cast)
