"""The selective scan on the CPU, compiled by Numba: the kernels.

Sixteen channels lie side by side in vector registers ("lanes") and walk through the sequence together, in tiles
of 64 tokens that stay in the nearest cache; nothing of the size (length, channels, states) ever exists. The
forward pass keeps the states in front of each tile, from which the backward pass computes the tile's states again.

A block is sixteen channels of one sample. `rows` holds a tile of what goes along the sequence, (quantity, token,
lane); `mixing` a tile of B and C, (2, state, token); `rates` is a block's A and `h` its states, (state, lane).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# (Numba compiles these; it finds the types out by itself.)

from __future__ import annotations

import numpy as np
from numba import njit

from napari_tokenunify.network.scan.numba_functions import OPTIONS, exponential, sigmoid, softplus

LANES = 16  # one register of AVX-512, two of AVX2, four of Neon
TILE = 64
U, STEP, SLOPE, INPUT, Y, GATE, DY, DINPUT, DSTEP, QUANTITIES = range(10)


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
    rows, mixing = np.zeros((QUANTITIES, TILE, LANES), y.dtype), np.zeros((2, states, TILE), y.dtype)
    h, decay = np.zeros((states, LANES), y.dtype), np.zeros((states, LANES), y.dtype)
    for block in range(span[0], span[1]):
        sample, first = _place(block, channels)
        rates, skip, bias = _load_weights(weights, first)
        h[:] = 0
        for start in range(0, length, TILE):
            if kept.shape[1] > 0:
                _copy(h, kept[block, start // TILE])
            _load_tile(sequences, (sample, first, start), rows, mixing)
            _prepare(rows, bias, delta_softplus)
            for t in range(min(TILE, length - start)):
                _advance(t, (h, h, decay), rates, rows, mixing)
            _add_product(skip, rows[U], rows[Y])
            if z.shape[0] > 0:
                _load(z[sample], first, start, rows[GATE])
                _gate(rows)
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
    rows, mixing = np.zeros((QUANTITIES, TILE, LANES), dy.dtype), np.zeros((2, states, TILE), dy.dtype)
    h, decay = np.zeros((TILE + 1, states, LANES), dy.dtype), np.zeros((TILE, states, LANES), dy.dtype)
    dh, carried = np.zeros((states, LANES), dy.dtype), np.zeros((states, LANES), dy.dtype)
    for block in range(span[0], span[1]):
        sample, first = _place(block, channels)
        rates, skip, bias = _load_weights(weights, first)
        drates, dskip_bias = np.zeros((states, LANES), dy.dtype), np.zeros((2, LANES), dy.dtype)
        carried[:] = 0
        for start in range((length - 1) // TILE * TILE, -1, -TILE):
            _load_tile(sequences, (sample, first, start), rows, mixing)
            _load(dy[sample], first, start, rows[DY])
            _prepare(rows, bias, delta_softplus)
            steps = min(TILE, length - start)
            _copy(kept[block, start // TILE], h[0])
            for t in range(steps):
                _advance(t, (h[t], h[t + 1], decay[t]), rates, rows, mixing)
            if z.shape[0] > 0:
                _add_product(skip, rows[U], rows[Y])
                _load(z[sample], first, start, rows[GATE])
                _gate_backward(rows)
                _store(rows[GATE], first, start, dz[sample])
            for t in range(steps - 1, -1, -1):
                _retreat(t, (h[t], decay[t], carried, dh), rates, drates, rows, mixing)
                _mix_backward(t, dh, h[t + 1], rows, mixing)
            _prepare_backward(rows, skip, dskip_bias)
            _store(rows[DINPUT], first, start, du[sample])
            _store(rows[DSTEP], first, start, ddelta[sample])
            for n in range(states):
                for t in range(steps):
                    dB[sample, n, start + t] += mixing[0, n, t]
                    dC[sample, n, start + t] += mixing[1, n, t]
        for lane in range(min(LANES, channels - first)):
            for n in range(states):
                dA[sample, first + lane, n] = drates[n, lane]
            dD[sample, first + lane, 0] = dskip_bias[0, lane]
            dbias[sample, first + lane, 0] = dskip_bias[1, lane]


@njit(**OPTIONS)
def _advance(t, states, rates, rows, mixing):
    """Take one step: h = exp(step A) h + input B and y = sum(h C) over the states."""
    before, after, decay = states
    for n in range(rates.shape[0]):
        b, c = mixing[0, n, t], mixing[1, n, t]
        for lane in range(LANES):
            a = exponential(rows[STEP, t, lane] * rates[n, lane])
            h = a * before[n, lane] + rows[INPUT, t, lane] * b
            decay[n, lane] = a
            after[n, lane] = h
            rows[Y, t, lane] += h * c


@njit(**OPTIONS)
def _retreat(t, states, rates, drates, rows, mixing):
    """Take one step back: the gradient of h now and, `carried`, what of it reaches the h before."""
    before, decay, carried, dh = states
    for n in range(rates.shape[0]):
        b, c = mixing[0, n, t], mixing[1, n, t]
        for lane in range(LANES):
            d = carried[n, lane] + rows[DY, t, lane] * c
            back = d * decay[n, lane]
            dexponent = back * before[n, lane]
            dh[n, lane] = d
            carried[n, lane] = back
            drates[n, lane] += dexponent * rows[STEP, t, lane]
            rows[DSTEP, t, lane] += dexponent * rates[n, lane]
            rows[DINPUT, t, lane] += d * b


@njit(fastmath=True)
def _mix_backward(t, dh, h, rows, mixing):
    """Put the gradients of B and C, sums over the lanes, in the places of B and C; here additions may be reordered."""
    for n in range(dh.shape[0]):
        db = dc = dh.dtype.type(0)
        for lane in range(LANES):
            db += dh[n, lane] * rows[INPUT, t, lane]
            dc += h[n, lane] * rows[DY, t, lane]
        mixing[0, n, t] = db
        mixing[1, n, t] = dc


@njit(**OPTIONS)
def _prepare(rows, bias, delta_softplus):
    """Make step sizes and inputs of delta and u, and empty what is added to."""
    for t in range(TILE):
        for lane in range(LANES):
            step = rows[STEP, t, lane] + bias[lane]
            if delta_softplus:
                rows[SLOPE, t, lane] = sigmoid(step)
                step = softplus(step)
            else:
                rows[SLOPE, t, lane] = 1
            rows[STEP, t, lane] = step
            rows[INPUT, t, lane] = step * rows[U, t, lane]
            rows[Y, t, lane] = 0
            rows[DINPUT, t, lane] = 0
            rows[DSTEP, t, lane] = 0


@njit(**OPTIONS)
def _prepare_backward(rows, skip, dskip_bias):
    """Turn the gradients of inputs and step sizes into those of u and delta; add up those of D and the bias."""
    for t in range(TILE):
        for lane in range(LANES):
            dinput, dy = rows[DINPUT, t, lane], rows[DY, t, lane]
            ddelta = (rows[DSTEP, t, lane] + dinput * rows[U, t, lane]) * rows[SLOPE, t, lane]
            rows[DINPUT, t, lane] = dinput * rows[STEP, t, lane] + dy * skip[lane]
            rows[DSTEP, t, lane] = ddelta
            dskip_bias[0, lane] += dy * rows[U, t, lane]
            dskip_bias[1, lane] += ddelta


@njit(**OPTIONS)
def _gate(rows):
    """Multiply y by SiLU(z)."""
    for t in range(TILE):
        for lane in range(LANES):
            z = rows[GATE, t, lane]
            rows[Y, t, lane] *= z * sigmoid(z)


@njit(**OPTIONS)
def _gate_backward(rows):
    """Replace z by its gradient, and the gradient of the gated output by that of y."""
    for t in range(TILE):
        for lane in range(LANES):
            z, dy = rows[GATE, t, lane], rows[DY, t, lane]
            s = sigmoid(z)
            rows[GATE, t, lane] = dy * rows[Y, t, lane] * (s + z * (s - s * s))
            rows[DY, t, lane] = dy * z * s


@njit(**OPTIONS)
def _add_product(skip, u, y):
    for t in range(TILE):
        for lane in range(LANES):
            y[t, lane] += skip[lane] * u[t, lane]


@njit(**OPTIONS)
def _place(block, channels):
    """Return the sample and the first channel of a block."""
    blocks = (channels + LANES - 1) // LANES
    return block // blocks, block % blocks * LANES


@njit(**OPTIONS)
def _load_weights(weights, first):
    """Return A (states, lanes), D and the bias (lanes) of a block; lanes without a channel stay 0."""
    A, D, delta_bias = weights
    rates = np.zeros((A.shape[1], LANES), A.dtype)
    skip, bias = np.zeros(LANES, A.dtype), np.zeros(LANES, A.dtype)
    for lane in range(min(LANES, A.shape[0] - first)):
        for n in range(A.shape[1]):
            rates[n, lane] = A[first + lane, n]
        skip[lane] = D[first + lane, 0]
        bias[lane] = delta_bias[first + lane, 0]
    return rates, skip, bias


@njit(**OPTIONS)
def _load_tile(sequences, corner, rows, mixing):
    """Copy what every tile needs: u, delta, B and C."""
    sample, first, start = corner
    _load(sequences[0][sample], first, start, rows[U])
    _load(sequences[1][sample], first, start, rows[STEP])
    for n in range(mixing.shape[1]):
        for t in range(min(TILE, sequences[0].shape[2] - start)):
            mixing[0, n, t] = sequences[2][sample, n, start + t]
            mixing[1, n, t] = sequences[3][sample, n, start + t]


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
