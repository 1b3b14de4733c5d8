"""The selective scan as its equations have it: a loop over the tokens in float64; and random cases for it."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch.nn import functional

from napari_tokenunify.network.scan import available_backends
from napari_tokenunify.network.scan.arguments import ScanArguments

NAMES = tuple(field.name for field in fields(ScanArguments))[:-1]
SEQUENCES = ("u", "delta", "B", "C", "z")
NEEDS_NUMBA = pytest.mark.skipif(bool(available_backends()["numba"]), reason="Numba does not work here")
ON_CPU = ["torch", pytest.param("numba", marks=NEEDS_NUMBA)]


def loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = functional.softplus(delta)
    h = torch.zeros_like(A).expand(len(u), -1, -1)
    ys = []
    for u_t, delta_t, B_t, C_t in zip(*(x.unbind(2) for x in (u, delta, B, C)), strict=True):
        h = torch.exp(delta_t[:, :, None] * A) * h + (delta_t * u_t)[:, :, None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(2))
    y = torch.stack(ys, dim=2)
    if D is not None:
        y = y + D[:, None] * u
    return y if z is None else y * functional.silu(z)


def random_case(shape=(2, 11, 64), states=16, dtype=torch.float32, seed=0):
    """Return all eight tensors by name: sequences of the type asked for, weights of float32 or better."""
    batch, channels, length = shape
    rows, mixing = (batch, channels, length), (batch, states, length)
    shapes = [rows, rows, (channels, states), mixing, mixing, (channels,), rows, (channels,)]
    generator = torch.Generator().manual_seed(seed)
    case = {
        name: torch.randn(s, generator=generator, dtype=torch.float64) for name, s in zip(NAMES, shapes, strict=True)
    }
    case["A"] = -torch.exp(case["A"])
    case["delta"] -= 1
    weights = torch.promote_types(dtype, torch.float32)
    return {name: x.to(dtype if name in SEQUENCES else weights) for name, x in case.items()}


def with_gradients(function, case, dy, **options):
    """Return the output and the gradients by name."""
    leaves = {name: x.detach().requires_grad_() for name, x in case.items()}
    y = function(**leaves, **options)
    gradients = torch.autograd.grad(y, list(leaves.values()), dy.to(y.dtype), allow_unused=True)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def truth(case, dy, **options):
    return with_gradients(loop, {name: x.double() for name, x in case.items()}, dy.double(), **options)


def errors(found, wanted):
    """Return the largest error of each result relative to its largest value, and to what its type can hold."""
    relative = {}
    for name, x in found.items():
        scale = wanted[name].abs().max().clamp(min=1e-30)
        relative[name] = float((x.double().cpu() - wanted[name]).abs().max() / scale)
    return relative


def limits(found, forward=1e-5, backward=1e-4):
    """Return how large each error may be: a result in half precision is rounded to that."""
    allowed = {name: forward if name == "y" else backward for name in found}
    return {name: max(limit, float(torch.finfo(found[name].dtype).eps)) for name, limit in allowed.items()}


def assert_close(found, wanted, **kwargs):
    allowed, seen = limits(found, **kwargs), errors(found, wanted)
    assert all(seen[name] <= allowed[name] for name in seen), seen
