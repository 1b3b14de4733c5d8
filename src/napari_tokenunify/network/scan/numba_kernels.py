"""The selective scan on the CPU, compiled by Numba: the kernels.

Sixteen channels lie side by side in vector registers ("lanes") and walk through the sequence together, in tiles
of 64 tokens that stay in the nearest cache; nothing of the size (length, channels, states) ever exists. The
forward pass keeps the states in front of each tile, from which the backward pass computes the tile's states again.

A block is sixteen channels of one sample. `rows` holds a tile of each quantity, (quantity, token, lane), and `flat`
is the same memory seen as one row; `mixing` is a tile of B and C, (token, 2, state); `rates` is a block's A and `h`
its states, (state, lane).

What goes from token to token is written with `numba_lanes`. Of the other loops the compiler makes vector instructions
where it sees that what is written is not read again through another name: hence `flat` with constant distances.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# (Numba compiles these; it finds the types out by itself.)

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_tokenunify.network.scan.numba_functions import OPTIONS, sigmoid, softplus
from napari_tokenunify.network.scan.numba_lanes import LANES, load, power_of_two, spread, store, total

TILE = 64
SIZE = TILE * LANES
LOG2_E = math.log2(math.e)
QUANTITIES = 13
U, STEP, SLOPE, INPUT, Y, GATE, BIAS, SKIP, DY, DINPUT, DSTEP, DBIAS, DSKIP = range(QUANTITIES)


def forward(sequences, weights, delta_softplus, span, y, kept):
    """Scan the blocks `span[0]` to `span[1] - 1`.

    Parameters
    ----------
    sequences : tuple of ndarray
        u, delta, B, C, z: (batch, channels or states, length); z may be empty.
    weights : tuple of ndarray
        A, D, delta_bias: (channels, states or 1).
    delta_softplus : bool
        Whether the step size is softplus(delta + delta_bias).
    span : tuple of int
        First block, and the one after the last.
    y : ndarray
        Receives the output, (batch, channels, length).
    kept : ndarray
        Receives the states in front of each tile, (blocks, tiles, states, LANES), unless it has no tiles.
    """
    z = sequences[4]
    channels, length, states = y.shape[1], y.shape[2], weights[0].shape[1]
    flat, mixing = np.zeros(QUANTITIES * SIZE, y.dtype), np.zeros((TILE, 2, states), y.dtype)
    rows = flat.reshape((QUANTITIES, TILE, LANES))
    h = np.zeros((1, states, LANES), y.dtype)
    for block in range(span[0], span[1]):
        sample, first = place(block, channels)
        rates = load_weights(weights, first, rows)
        h[:] = 0
        for start in range(0, length, TILE):
            if kept.shape[1] > 0:
                _copy(h[0], kept[block, start // TILE])
            _load_tile(sequences, (sample, first, start), rows, mixing)
            prepare(flat, delta_softplus)
            advance(min(TILE, length - start), h, None, rates, flat, mixing)
            if z.shape[0] > 0:
                _load(z[sample], first, start, rows[GATE])
                _gate(flat)
            _store(rows[Y], first, start, y[sample])


def backward(sequences, weights, delta_softplus, span, kept, gradients):
    """Compute the gradients of the blocks `span[0]` to `span[1] - 1`.

    Parameters
    ----------
    sequences : tuple of ndarray
        u, delta, B, C, z and the gradient of the output.
    weights, delta_softplus, span
        As for `forward`.
    kept : ndarray
        What `forward` kept.
    gradients : tuple of ndarray
        Receives those of u, delta, B, C, z, as `sequences`, and those of A, D, delta_bias, (batch, channels, states
        or 1), still to be added up over the batch. To B's and C's it is added.
    """
    _, _, B, _, z, dy = sequences
    du, ddelta, dB, dC, dz, dA, dD, dbias = gradients
    channels, length, states = dy.shape[1], dy.shape[2], B.shape[1]
    flat, mixing = np.zeros(QUANTITIES * SIZE, dy.dtype), np.zeros((TILE, 2, states), dy.dtype)
    rows = flat.reshape((QUANTITIES, TILE, LANES))
    h, decay = np.zeros((TILE + 1, states, LANES), dy.dtype), np.zeros((TILE, states, LANES), dy.dtype)
    carried, drates = np.zeros((states, LANES), dy.dtype), np.zeros((states, LANES), dy.dtype)
    for block in range(span[0], span[1]):
        sample, first = place(block, channels)
        rates = load_weights(weights, first, rows)
        carried[:] = 0
        drates[:] = 0
        rows[DBIAS:] = 0
        for start in range((length - 1) // TILE * TILE, -1, -TILE):
            _load_tile(sequences, (sample, first, start), rows, mixing)
            _load(dy[sample], first, start, rows[DY])
            _prepare_backward(flat, delta_softplus)
            prepare(flat, delta_softplus)
            steps = min(TILE, length - start)
            _copy(kept[block, start // TILE], h[0])
            advance(steps, h, decay, rates, flat, mixing)
            if z.shape[0] > 0:
                _load(z[sample], first, start, rows[GATE])
                _gate_backward(flat)
                _store(rows[GATE], first, start, dz[sample])
            _retreat(steps, (h, decay), (rates, drates, carried), flat, mixing)
            _finish_backward(flat)
            _store(rows[DINPUT], first, start, du[sample])
            _store(rows[DSTEP], first, start, ddelta[sample])
            _add_mixing(mixing, start, dB[sample], dC[sample])
        _store_weights(rows, drates, first, (dA[sample], dD[sample], dbias[sample]))


@njit(**OPTIONS)
def advance(steps, h, decay, rates, flat, mixing):
    """Walk through a tile: h = exp(step A) h + input B and y = sum(h C) over the states.

    h is (1, state, lane); or, where the decays are wanted for the way back, all of them, (token + 1, state, lane).
    """
    count = rates.shape[0]
    log2_e = spread(h.dtype.type(LOG2_E))
    for t in range(steps):
        step, entering, y = load(flat, STEP * TILE + t), load(flat, INPUT * TILE + t), load(flat, Y * TILE + t)
        step = step * log2_e
        before = after = 0
        if decay is not None:
            before, after = t * count, (t + 1) * count
        for n in range(count):
            a = power_of_two(step * load(rates, n))
            now = a * load(h, before + n) + entering * spread(mixing[t, 0, n])
            store(h, after + n, now)
            if decay is not None:
                store(decay, before + n, a)
            y = y + now * spread(mixing[t, 1, n])
        store(flat, Y * TILE + t, y)


@njit(**OPTIONS)
def _retreat(steps, history, weights, flat, mixing):
    """Walk back through a tile: gradients of steps and inputs, of A, and, in their places, of B and C.

    `weights` is A, its gradient, and the gradient that reaches h from later tokens, (state, lane) each.
    """
    (h, decay), (rates, drates, carried) = history, weights
    count = rates.shape[0]
    for t in range(steps - 1, -1, -1):
        step, entering, dy = load(flat, STEP * TILE + t), load(flat, INPUT * TILE + t), load(flat, DY * TILE + t)
        dstep = dentering = spread(h.dtype.type(0))
        for n in range(count):
            dh = load(carried, n) + dy * spread(mixing[t, 1, n])
            dbefore = dh * load(decay, t * count + n)
            dexponent = dbefore * load(h, t * count + n)
            dstep = dstep + dexponent * load(rates, n)
            dentering = dentering + dh * spread(mixing[t, 0, n])
            store(carried, n, dbefore)
            store(drates, n, load(drates, n) + dexponent * step)
            mixing[t, 0, n] = total(dh * entering)
            mixing[t, 1, n] = total(load(h, (t + 1) * count + n) * dy)
        store(flat, DSTEP * TILE + t, dstep)
        store(flat, DINPUT * TILE + t, dentering)


@njit(**OPTIONS)
def prepare(flat, delta_softplus):
    """Make step sizes and inputs of delta and u; start the output with D u."""
    for i in range(SIZE):
        step = flat[STEP * SIZE + i] + flat[BIAS * SIZE + i]
        if delta_softplus:
            step = softplus(step)
        flat[STEP * SIZE + i] = step
        flat[INPUT * SIZE + i] = step * flat[U * SIZE + i]
        flat[Y * SIZE + i] = flat[SKIP * SIZE + i] * flat[U * SIZE + i]


@njit(**OPTIONS)
def _prepare_backward(flat, delta_softplus):
    """Take the slope of the step size, while delta is still there; empty what is not written in each row."""
    for i in range(SIZE):
        flat[DINPUT * SIZE + i] = 0
        flat[DSTEP * SIZE + i] = 0
        flat[SLOPE * SIZE + i] = 1
    if delta_softplus:
        for i in range(SIZE):
            flat[SLOPE * SIZE + i] = sigmoid(flat[STEP * SIZE + i] + flat[BIAS * SIZE + i])


@njit(**OPTIONS)
def _finish_backward(flat):
    """Turn the gradients of inputs and step sizes into those of u and delta; add up those of D and the bias."""
    for i in range(SIZE):
        u, dinput, dy = flat[U * SIZE + i], flat[DINPUT * SIZE + i], flat[DY * SIZE + i]
        ddelta = (flat[DSTEP * SIZE + i] + dinput * u) * flat[SLOPE * SIZE + i]
        flat[DINPUT * SIZE + i] = dinput * flat[STEP * SIZE + i] + dy * flat[SKIP * SIZE + i]
        flat[DSTEP * SIZE + i] = ddelta
        flat[DSKIP * SIZE + i] += dy * u
        flat[DBIAS * SIZE + i] += ddelta


@njit(**OPTIONS)
def _gate(flat):
    """Multiply y by SiLU(z)."""
    for i in range(SIZE):
        z = flat[GATE * SIZE + i]
        flat[Y * SIZE + i] *= z * sigmoid(z)


@njit(**OPTIONS)
def _gate_backward(flat):
    """Replace z by its gradient, and the gradient of the gated output by that of y."""
    for i in range(SIZE):
        z, dy = flat[GATE * SIZE + i], flat[DY * SIZE + i]
        s = sigmoid(z)
        flat[GATE * SIZE + i] = dy * flat[Y * SIZE + i] * (s + z * (s - s * s))
        flat[DY * SIZE + i] = dy * z * s


@njit(**OPTIONS)
def place(block, channels):
    """Return the sample and the first channel of a block."""
    blocks = (channels + LANES - 1) // LANES
    return block // blocks, block % blocks * LANES


@njit(**OPTIONS)
def load_weights(weights, first, rows):
    """Return A (states, lanes) of a block, and spread D and the bias; lanes without a channel are 0."""
    A, D, bias = weights
    rates = np.zeros((A.shape[1], LANES), A.dtype)
    rows[BIAS] = 0
    rows[SKIP] = 0
    for lane in range(min(LANES, A.shape[0] - first)):
        for n in range(A.shape[1]):
            rates[n, lane] = A[first + lane, n]
        for t in range(TILE):
            rows[BIAS, t, lane] = bias[first + lane, 0]
            rows[SKIP, t, lane] = D[first + lane, 0]
    return rates


@njit(**OPTIONS)
def _store_weights(rows, drates, first, gradients):
    """Hand out the gradients of A, D and the bias."""
    dA, dD, dbias = gradients
    for lane in range(min(LANES, dA.shape[0] - first)):
        for n in range(dA.shape[1]):
            dA[first + lane, n] = drates[n, lane]
        dD[first + lane, 0] = rows[DSKIP, :, lane].sum()
        dbias[first + lane, 0] = rows[DBIAS, :, lane].sum()


@njit(**OPTIONS)
def _add_mixing(mixing, start, dB, dC):
    """Add a tile of the gradients of B and C."""
    for n in range(mixing.shape[2]):
        for t in range(min(TILE, dB.shape[1] - start)):
            dB[n, start + t] += mixing[t, 0, n]
            dC[n, start + t] += mixing[t, 1, n]


@njit(**OPTIONS)
def _load_tile(sequences, corner, rows, mixing):
    """Copy what every tile needs: u, delta, B and C."""
    sample, first, start = corner
    _load(sequences[0][sample], first, start, rows[U])
    _load(sequences[1][sample], first, start, rows[STEP])
    for n in range(mixing.shape[2]):
        for t in range(min(TILE, sequences[0].shape[2] - start)):
            mixing[t, 0, n] = sequences[2][sample, n, start + t]
            mixing[t, 1, n] = sequences[3][sample, n, start + t]


@njit(**OPTIONS)
def _copy(source, target):
    for n in range(source.shape[0]):
        for lane in range(LANES):
            target[n, lane] = source[n, lane]


@njit(**OPTIONS)
def _load(sequence, first, start, tile):
    """Copy a tile (tokens, lanes) out of (channels, length); what lies outside is 0."""
    channels, tokens = min(LANES, sequence.shape[0] - first), min(TILE, sequence.shape[1] - start)
    if channels < LANES or tokens < TILE:
        tile[:] = 0
    for lane in range(channels):
        for t in range(tokens):
            tile[t, lane] = sequence[first + lane, start + t]


@njit(**OPTIONS)
def _store(tile, first, start, sequence):
    """Copy a tile into (channels, length)."""
    for lane in range(min(LANES, sequence.shape[0] - first)):
        for t in range(min(TILE, sequence.shape[1] - start)):
            sequence[first + lane, start + t] = tile[t, lane]
