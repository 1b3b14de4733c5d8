"""What a selective scan is given, checked once, before any backend sees it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    delta_softplus: bool

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
        given = (tensor for tensor in self.tensors if tensor is not None)
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)

    def to(self, dtype: torch.dtype) -> ScanArguments:
        """Return the same arguments in one data type; what has it already is not copied."""
        return ScanArguments(*(None if x is None else x.to(dtype) for x in self.tensors), self.delta_softplus)

    def contiguous(self) -> ScanArguments:
        """Return the same arguments without gaps in memory; what has none is not copied."""
        return ScanArguments(*(None if x is None else x.contiguous() for x in self.tensors), self.delta_softplus)

    def split(self, length: int) -> list[ScanArguments]:
        """Cut the sequences into pieces of at most `length` tokens; all are views."""
        u, delta, B, C = (x.split(length, dim=2) for x in (self.u, self.delta, self.B, self.C))
        z = [None] * len(u) if self.z is None else self.z.split(length, dim=2)
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
        for name, tensor in self._named():
            if not tensor.is_floating_point():
                raise ConfigError(f"selective_scan: {name} is {tensor.dtype}, but real floating point is wanted.")
            if tensor.device != self.u.device:
                raise ConfigError(f"selective_scan: {name} is on {tensor.device}, but u is on {self.u.device}.")
        arguments = replace(self, B=_without_group(self.B), C=_without_group(self.C))
        arguments._check_shapes()
        return arguments

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for field, tensor in zip(fields(self), self.tensors, strict=False):
            if tensor is not None:
                yield field.name, tensor

    def _check_shapes(self) -> None:
        if self.u.ndim != 3 or self.A.ndim != 2 or 0 in {*self.u.shape, *self.A.shape}:
            raise ConfigError(
                "selective_scan: u must be (batch, channels, length) and A (channels, states), none of them empty, "
                f"but they are {tuple(self.u.shape)} and {tuple(self.A.shape)}."
            )
        batch, channels, length = self.u.shape
        states = self.A.shape[1]
        row, mixing = (batch, channels, length), (batch, states, length)
        wanted = {"u": row, "delta": row, "A": (channels, states), "B": mixing, "C": mixing}
        wanted |= {"D": (channels,), "z": row, "delta_bias": (channels,)}
        for name, tensor in self._named():
            if tuple(tensor.shape) != wanted[name]:
                raise ConfigError(
                    f"selective_scan: {name} has the shape {tuple(tensor.shape)}, but {wanted[name]} is wanted "
                    f"for u of {row} and A of {tuple(self.A.shape)}."
                )


def _without_group(tensor: Tensor) -> Tensor:
    """Turn mamba_ssm's (batch, 1, states, length) into (batch, states, length)."""
    return tensor.squeeze(1) if tensor.ndim == 4 and tensor.shape[1] == 1 else tensor
