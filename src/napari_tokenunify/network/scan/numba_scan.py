"""The selective scan on the CPU, compiled by Numba: what PyTorch's tensors have to do with the kernels."""

# mypy: disable-error-code="no-untyped-call"
# (Numba's constructors of types have no types.)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numba import types

from napari_tokenunify.network.compiled import compiled
from napari_tokenunify.network.scan import numba_kernels as kernels
from napari_tokenunify.network.scan.numba_functions import OPTIONS
from napari_tokenunify.network.scan.numba_lanes import LANES

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_tokenunify.network.scan.arguments import ScanArguments

SMALL = 1 << 20  # states of all channels and tokens; below, starting threads takes longer than the work


def forward(arguments: ScanArguments, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Compute a selective scan.

    Parameters
    ----------
    arguments : ScanArguments
        Checked arguments on the CPU, of any strides.
    keep : bool
        Whether `backward` will be called.

    Returns
    -------
    torch.Tensor
        (batch, channels, length), of u's type.
    torch.Tensor
        What `backward` needs: the states in front of each tile, (blocks of channels, tiles, states, lanes).
    """
    given = arguments.map(lambda x: x.to(arguments.compute_dtype))
    batch, channels, length = given.u.shape
    y = given.u.new_empty((batch, channels, length))
    blocks, tiles = batch * -(-channels // LANES), -(-length // kernels.TILE) if keep else 0
    states = y.new_empty((blocks, tiles, given.A.shape[1], LANES))
    sequences, weights, kernel = _sequences(given), _weights(given), _compiled("forward", y.dtype)

    def run(_: int, span: tuple[int, int]) -> None:
        kernel(sequences, weights, given.delta_softplus, span, y.numpy(), states.numpy())

    in_threads(run, spans(batch, channels, given.A.numel() * batch * length))
    return y.to(arguments.u.dtype), states


def backward(arguments: ScanArguments, states: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradients of a selective scan.

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
        The gradients of `arguments.tensors`, in the data type of the computation; None for what was left out.
    """
    given = arguments.map(lambda x: x.to(arguments.compute_dtype))
    batch, channels, length = given.u.shape
    shares = spans(batch, channels, given.A.numel() * batch * length)
    kernel = _compiled("backward", given.u.dtype)
    sequences, weights = (*_sequences(given), _array(dy.to(given.u.dtype))), _weights(given)
    u, delta, B, C, z, _ = sequences
    du, ddelta, dz = (np.empty(x.shape, x.dtype) for x in (u, delta, z))
    # All channels share B and C: every thread adds up a gradient of its own.
    dB, dC = (np.zeros((len(shares), *x.shape), x.dtype) for x in (B, C))
    dA, dD, dbias = (np.empty((u.shape[0], *x.shape), x.dtype) for x in weights)

    def run(thread: int, span: tuple[int, int]) -> None:
        gradients = (du, ddelta, dB[thread], dC[thread], dz, dA, dD, dbias)
        kernel(sequences, weights, given.delta_softplus, span, states.numpy(), gradients)

    in_threads(run, shares)
    sums = (du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dD.sum(0)[:, 0], dz, dbias.sum(0)[:, 0])
    return tuple(None if x is None else torch.from_numpy(s) for x, s in zip(given.tensors, sums, strict=True))


def _sequences(given: ScanArguments) -> tuple[np.ndarray[Any, Any], ...]:
    """Return u, delta, B, C and z as arrays; z is empty where there is none."""
    z = given.u[:0] if given.z is None else given.z
    return tuple(_array(x) for x in (given.u, given.delta, given.B, given.C, z))


def _weights(given: ScanArguments) -> tuple[np.ndarray[Any, Any], ...]:
    """Return A, D and the bias as arrays (channels, states or 1); D and the bias are 0 where there is none."""
    missing = given.A.new_zeros(len(given.A))
    D, bias = (missing if x is None else x for x in (given.D, given.delta_bias))
    return _array(given.A), _array(D[:, None]), _array(bias[:, None])


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Look at a tensor as an array."""
    return tensor.detach().numpy()


def spans(batch: int, channels: int, work: int) -> list[tuple[int, int]]:
    """Share the blocks of channels out to as many threads as PyTorch would use: first and last + 1 of each."""
    blocks = batch * -(-channels // LANES)
    threads = 1 if work < SMALL else min(torch.get_num_threads(), blocks)
    borders = [blocks * i // threads for i in range(threads + 1)]
    return list(pairwise(borders))


def in_threads(run: Callable[[int, tuple[int, int]], None], shares: list[tuple[int, int]]) -> None:
    """Run every span in a thread of its own; the kernels hold no interpreter lock.

    Threads of Python, not of OpenMP: not every system has that, and two scans may run at once.
    """
    if len(shares) == 1:
        run(0, shares[0])
        return
    with ThreadPoolExecutor(len(shares) - 1) as pool:
        others = pool.map(run, range(1, len(shares)), shares[1:])
        run(0, shares[0])
        list(others)  # raises what they raised


@cache
def _compiled(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """Compile a kernel once for arrays of any strides, and keep it on disk where a folder for it can be written."""
    real = numba.float64 if dtype == torch.float64 else numba.float32
    rows, weights = real[:, :, :], types.UniTuple(real[:, :], 3)
    span, states = types.UniTuple(numba.int64, 2), real[:, :, :, :]
    if name == "forward":
        signature = types.void(types.UniTuple(rows, 5), weights, types.boolean, span, rows, states)
    else:
        signature = types.void(types.UniTuple(rows, 6), weights, types.boolean, span, states, types.UniTuple(rows, 8))
    kernel: Callable[..., None] = compiled(getattr(kernels, name), signature, **OPTIONS)
    return kernel
