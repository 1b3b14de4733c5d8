"""What a Mamba block does between its projections, on the CPU and without gradients: the kernels.

Here tokens are rows, (batch, length, channels), as the projections leave them: sixteen channels are one piece of
memory, so that a branch can walk through the tokens in any order, and nothing is turned or copied for it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# (Numba compiles these; it finds the types out by itself. What it keeps on disk goes by the date of this file alone:
# after a change in those imported here, touch it.)

from __future__ import annotations

import numpy as np
from numba import njit

from napari_tokenunify.network.scan import numba_kernels as kernels
from napari_tokenunify.network.scan.numba_functions import OPTIONS
from napari_tokenunify.network.scan.numba_lanes import LANES, load, power_of_two, spread, store

TILE = kernels.TILE
U, STEP, Y = kernels.U, kernels.STEP, kernels.Y
MINUS_LOG2_E = np.float32(-kernels.LOG2_E)
TAPS = 4


def convolve(x, taps, bias, order, span, y):
    """Convolve blocks `span[0]` to `span[1] - 1` causally in a branch's order, then SiLU.

    Parameters
    ----------
    x : ndarray
        (batch, length, channels or more), float32, C-contiguous; the first channels are taken.
    taps, bias : ndarray
        (4, channels), the last tap for the token itself; (channels,).
    order : ndarray
        Position of the first token of the branch, of the second, ...: (length,), int64.
    span : tuple of int
        First block of sixteen channels of a sample, and the one after the last.
    y : ndarray
        Receives the result at the tokens' own positions, (batch, length, channels).
    """
    length, groups, pitch = y.shape[1], y.shape[2] // LANES, x.shape[2] // LANES
    for block in range(span[0], span[1]):
        sample, group = block // groups, block % groups
        shift = load(bias, group)
        farthest, far, near, own = (
            load(taps, group),
            load(taps, groups + group),
            load(taps, 2 * groups + group),
            load(taps, 3 * groups + group),
        )
        third = second = first = spread(np.float32(0))
        for t in range(length):
            place = sample * length + order[t]
            now = load(x, place * pitch + group)
            mixed = farthest * third + far * second + near * first + own * now + shift
            store(y, place * groups + group, _silu(mixed))
            third, second, first = second, first, now


def scan(sequences, weights, order, how, span, y):
    """Scan the blocks `span[0]` to `span[1] - 1` in a branch's order.

    Parameters
    ----------
    sequences : tuple of ndarray
        u (batch, length, channels); what the step sizes are made of, B and C (batch, length, rank + 2 states); the
        gate, in the second half of (batch, length, 2 channels).
    weights : tuple of ndarray
        A, D, delta_bias: (channels, states or 1), and the step sizes' (rank, channels).
    order, span
        As for `convolve`.
    how : tuple of bool
        Whether the output is added to what `y` has, and whether the sum is then multiplied by SiLU of the gate.
    y : ndarray
        Receives the output at the tokens' own positions, (batch, length, channels).
    """
    A, D, bias, _ = weights
    length, channels, states = y.shape[1], y.shape[2], A.shape[1]
    flat, mixing = np.zeros(kernels.QUANTITIES * kernels.SIZE, y.dtype), np.zeros((TILE, 2, states), y.dtype)
    rows, h = flat.reshape((kernels.QUANTITIES, TILE, LANES)), np.zeros((1, states, LANES), y.dtype)
    for block in range(span[0], span[1]):
        sample, first = kernels.place(block, channels)
        rates = kernels.load_weights((A, D, bias), first, rows)
        h[:] = 0
        for start in range(0, length, TILE):
            places = order[start : start + TILE]
            _load_tile(sequences, weights[3], (sample, first // LANES), places, flat, mixing)
            kernels.prepare(flat, True)
            kernels.advance(len(places), h, None, rates, flat, mixing)
            _store_tile(flat, sequences[2], (sample, first // LANES), places, how, y)


@njit(**OPTIONS)
def _load_tile(sequences, to_steps, corner, places, flat, mixing):
    """Copy u, B and C of the tokens at `places`, and compute their step sizes."""
    (u, mixed, _), (sample, group) = sequences, corner
    length, groups, rank = u.shape[1], u.shape[2] // LANES, to_steps.shape[0]
    for t in range(len(places)):
        store(flat, U * TILE + t, load(u, (sample * length + places[t]) * groups + group))
        token = mixed[sample, places[t]]
        step = spread(np.float32(0))
        for r in range(rank):
            step = step + load(to_steps, r * groups + group) * spread(token[r])
        store(flat, STEP * TILE + t, step)
        for n in range(mixing.shape[2]):
            mixing[t, 0, n] = token[rank + n]
            mixing[t, 1, n] = token[rank + mixing.shape[2] + n]


@njit(**OPTIONS)
def _store_tile(flat, gate, corner, places, how, y):
    """Put the outputs where their tokens are."""
    (sample, group), (added, gated) = corner, how
    length, groups = y.shape[1], y.shape[2] // LANES
    for t in range(len(places)):
        place = sample * length + places[t]
        result = load(flat, Y * TILE + t)
        if added:
            result = result + load(y, place * groups + group)
        if gated:
            result = result * _silu(load(gate, (2 * place + 1) * groups + group))
        store(y, place * groups + group, result)


@njit(**OPTIONS)
def _silu(x):
    one = spread(np.float32(1))
    return x / (one + power_of_two(x * spread(MINUS_LOG2_E)))
