"""What a Mamba block does between its projections, on the CPU and without gradients: the kernels.

Here tokens are rows, (batch, length, channels), as the projections leave them: sixteen channels are one piece of
memory, so that a branch can walk through the tokens in any order, and nothing is turned or copied for it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# (Numba compiles these; it finds the types out by itself. What it keeps on disk goes by the date of this file alone:
# after a change in those imported here, touch it.)

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_tokenunify.network.scan.numba_functions import ARTANH, OPTIONS
from napari_tokenunify.network.scan.numba_lanes import LANES, larger, load, power_of_two, spread, store

TILE = 16  # tokens that are prepared at a time, as each by itself would wait for its step size
ROWS = 3
STEP, INPUT, Y = range(ROWS)
LOG2_E = np.float32(math.log2(math.e))


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
        A, (channels, states); D, delta_bias, (channels,); the step sizes' (rank, channels).
    order, span
        As for `convolve`.
    how : tuple of bool
        Whether the output is added to what `y` has, and whether the sum is then multiplied by SiLU of the gate.
    y : ndarray
        Receives the output at the tokens' own positions, (batch, length, channels).
    """
    A, to_steps = weights[0], weights[3]
    length, states, groups = y.shape[1], A.shape[1], y.shape[2] // LANES
    rates, h = np.zeros(states * LANES, y.dtype), np.zeros(states * LANES, y.dtype)
    tile = np.zeros(ROWS * TILE * LANES, y.dtype)
    for block in range(span[0], span[1]):
        sample, group = block // groups, block % groups
        for n in range(states):
            for lane in range(LANES):
                rates[n * LANES + lane] = A[group * LANES + lane, n] * LOG2_E
        h[:] = 0
        for start in range(0, length, TILE):
            places = order[start : start + TILE] + sample * length
            _prepare(sequences, weights, group, places, tile)
            _advance(sequences[1].reshape(-1), (states, to_steps.shape[0]), places, rates, h, tile)
            _finish(sequences[2], group, places, how, tile, y)


@njit(**OPTIONS)
def _prepare(sequences, weights, group, places, tile):
    """Compute step sizes, what enters the states, and D u, with which the output starts."""
    (u_, mixed, _), (_, D, bias, to_steps) = sequences, weights
    groups, rank, pitch = u_.shape[2] // LANES, to_steps.shape[0], mixed.shape[2]
    mixed, skip, shift = mixed.reshape(-1), load(D, group), load(bias, group)
    for t in range(len(places)):
        u, step = load(u_, places[t] * groups + group), shift
        for r in range(rank):
            step = step + load(to_steps, r * groups + group) * spread(mixed[places[t] * pitch + r])
        step = _softplus(step)
        store(tile, STEP * TILE + t, step)
        store(tile, INPUT * TILE + t, step * u)
        store(tile, Y * TILE + t, skip * u)


@njit(**OPTIONS)
def _advance(mixed, sizes, places, rates, h, tile):
    """Walk through a tile: h = exp(step A) h + input B and y = sum(h C) over the states; `rates` is A / ln 2."""
    states, rank = sizes
    for t in range(len(places)):
        step, entering, y = load(tile, STEP * TILE + t), load(tile, INPUT * TILE + t), load(tile, Y * TILE + t)
        first = places[t] * (rank + 2 * states) + rank
        for n in range(states):
            now = power_of_two(step * load(rates, n)) * load(h, n) + entering * spread(mixed[first + n])
            store(h, n, now)
            y = y + now * spread(mixed[first + states + n])
        store(tile, Y * TILE + t, y)


@njit(**OPTIONS)
def _finish(gate, group, places, how, tile, y):
    """Put the outputs where their tokens are."""
    added, gated = how
    groups = y.shape[2] // LANES
    for t in range(len(places)):
        result = load(tile, Y * TILE + t)
        if added:
            result = result + load(y, places[t] * groups + group)
        if gated:
            result = result * _silu(load(gate, (2 * places[t] + 1) * groups + group))
        store(y, places[t] * groups + group, result)


@njit(**OPTIONS)
def _softplus(x):
    """Return log(1 + exp(x)); see `softplus` of numba_functions."""
    zero, one, two, minus = spread(np.float32(0)), spread(np.float32(1)), spread(np.float32(2)), spread(np.float32(-1))
    exponent = x * spread(LOG2_E)
    small = power_of_two(minus * larger(exponent, minus * exponent))
    s = small / (two + small)
    square = s * s
    series = spread(ARTANH[3])
    for k in (2, 1, 0):
        series = series * square + spread(ARTANH[k])
    return larger(x, zero) + two * s * (series * square + one)


@njit(**OPTIONS)
def _silu(x):
    one = spread(np.float32(1))
    return x / (one + power_of_two(x * spread(-LOG2_E)))
