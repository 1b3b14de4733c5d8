"""What a selective scan is given, checked once, before any backend sees it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor


@dataclass(frozen=True)
class ScanArguments:
    """The arguments of one selective scan; all tensors are floating point and on one device.

    Attributes
    ----------
    u, delta : torch.Tensor
        What is scanned and its step sizes, (batch, channels, length).
    A : torch.Tensor
        Decay rates, (channels, states), real.
    B, C : torch.Tensor
        Input and output weights of the states, (batch, states, length).
    D : torch.Tensor or None
        Weight of u itself in the output, (channels,).
    z : torch.Tensor or None
        The output is multiplied by SiLU(z), (batch, channels, length).
    delta_bias : torch.Tensor or None
        Added to delta, (channels,).
    delta_softplus : bool
        Whether the step size is softplus(delta + delta_bias).
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool = field(kw_only=True)

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The eight tensors in the order of the fields; None where one is left out."""
        return (self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.delta_bias)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the scan is computed in: float64 if u is float64, else float32."""
        return torch.float64 if self.u.dtype == torch.float64 else torch.float32

    @property
    def needs_grad(self) -> bool:
        """Whether a gradient may be asked for later."""
        return torch.is_grad_enabled() and any(tensor.requires_grad for _, tensor in self.named())

    def map(self, change: Callable[[Tensor], Tensor]) -> ScanArguments:
        """Return the arguments with every tensor changed."""
        changed: list[Any] = [None if x is None else change(x) for x in self.tensors]
        return ScanArguments(*changed, delta_softplus=self.delta_softplus)

    def split(self, length: int) -> list[ScanArguments]:
        """Cut the sequences into pieces of at most `length` tokens; all are views."""
        u, delta, B, C = (torch.split(x, length, dim=2) for x in (self.u, self.delta, self.B, self.C))
        z = [None] * len(u) if self.z is None else torch.split(self.z, length, dim=2)
        return [
            replace(self, u=piece[0], delta=piece[1], B=piece[2], C=piece[3], z=piece[4])
            for piece in zip(u, delta, B, C, z, strict=True)
        ]

    def checked(self) -> ScanArguments:
        """Return the arguments with a group axis of size 1 taken out of B and C.

        Raises
        ------
        ConfigError
            If a shape, a data type or a device does not fit.
        """
        for name, tensor in self.named():
            if not tensor.is_floating_point():
                raise ConfigError(f"selective_scan: {name} is {tensor.dtype}, but real floating point is wanted.")
            if tensor.device != self.u.device:
                raise ConfigError(f"selective_scan: {name} is on {tensor.device}, but u is on {self.u.device}.")
        arguments = replace(self, B=_without_group(self.B), C=_without_group(self.C))
        _check_shapes(arguments)
        return arguments

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of every tensor that is given, and the tensor."""
        for each, tensor in zip(fields(self), self.tensors, strict=False):
            if tensor is not None:
                yield each.name, tensor


def _check_shapes(arguments: ScanArguments) -> None:
    """Raise ConfigError if a shape does not fit those of u and A."""
    if arguments.u.ndim != 3 or arguments.A.ndim != 2 or 0 in {*arguments.u.shape, *arguments.A.shape}:
        raise ConfigError(
            "selective_scan: u must be (batch, channels, length) and A (channels, states), none of them empty, "
            f"but they are {tuple(arguments.u.shape)} and {tuple(arguments.A.shape)}."
        )
    batch, channels, length = arguments.u.shape
    states = arguments.A.shape[1]
    row, mixing = (batch, channels, length), (batch, states, length)
    wanted = {"u": row, "delta": row, "A": (channels, states), "B": mixing, "C": mixing}
    wanted |= {"D": (channels,), "z": row, "delta_bias": (channels,)}
    for name, tensor in arguments.named():
        if tuple(tensor.shape) != wanted[name]:
            raise ConfigError(
                f"selective_scan: {name} has the shape {tuple(tensor.shape)}, but {wanted[name]} is wanted "
                f"for u of {row} and A of {tuple(arguments.A.shape)}."
            )


def _without_group(tensor: Tensor) -> Tensor:
    """Turn mamba_ssm's (batch, 1, states, length) into (batch, states, length)."""
    return tensor.squeeze(1) if tensor.ndim == 4 and tensor.shape[1] == 1 else tensor
