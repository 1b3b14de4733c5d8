"""The selective scan on a CUDA GPU, compiled by Triton: the kernels.

There are few channels and many tokens, so the sequence itself is shared out: it is cut into tiles, and
1. `tile_ends` finds what every tile, begun at zero, adds to the state: a weighted sum, for which no scan is needed;
2. `join_tiles` scans over these ends: now the state in front of every tile is known;
3. `outputs` scans inside every tile from there.
The backward pass does the same from the end for the gradient of the state (1 and 2 again, then `gradients`), and
computes the states inside the tiles anew. Steps 1 and 3 run for all tiles at once, however few channels there are.

A program has BLOCK channels of one sample and one tile, (BLOCK, TILE), and goes through the states one by one, so
that B and C are read once for all its channels. All arrays are contiguous; what is kept for each tile has the shape
(batch, channels, tiles, states). Exponentials are powers of 2, which is what the hardware has.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0913, PLR0915 - a kernel has as many arguments as arrays, and is one piece
# (Triton compiles these; the arguments in capitals are fixed then, and a tensor may be None.)

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _follow(decay, gain, later_decay, later_gain):
    """Join two stretches of h = decay h + gain."""
    return decay * later_decay, gain * later_decay + later_gain


@triton.jit
def _softplus(x):
    """Return log(1 + exp(x)), exact for very negative x too."""
    small = tl.exp2(-tl.abs(x) * LOG2_E)
    s = small / (2 + small)  # log(1 + e) = 2 artanh(e / (2 + e)), and e <= 1
    q = s * s
    series = (((0.14087329 * q + 0.13980709) * q + 0.20012427) * q + 0.33333158) * q + 1
    return tl.maximum(x, 0) + 2 * s * series


@triton.jit
def _raw_steps(delta, bias, rows, channel, inside, wanted):
    """Load delta plus its bias."""
    raw = tl.load(delta + rows, mask=inside, other=0).to(tl.float32)
    if bias is not None:
        raw += tl.load(bias + channel, mask=wanted, other=0).to(tl.float32)[:, None]
    return raw


@triton.jit
def _steps(delta, bias, rows, channel, inside, wanted, SOFTPLUS: tl.constexpr):
    """Load step sizes; outside they are 0, so that a state stays as it is."""
    raw = _raw_steps(delta, bias, rows, channel, inside, wanted)
    if SOFTPLUS:
        raw = _softplus(raw)
    return tl.where(inside, raw, 0)


@triton.jit
def _place(channels, length, BLOCK: tl.constexpr, TILE: tl.constexpr):
    """Return this program's sample, channels, their rows among all samples', its tokens, and which channels exist."""
    sample = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token = tl.program_id(0) * TILE + tl.arange(0, TILE)
    return sample, channel, sample * channels + channel, token, channel < channels


@triton.jit
def tile_ends(
    x, delta, A, mixing, z, bias, ends, totals, channels, length,
    STATES: tl.constexpr, SOFTPLUS: tl.constexpr, BACKWARDS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Find the state each tile ends with when it begins with zero, and the sum of its steps.

    Backwards, `x` is the gradient of the output and `mixing` C, and what is found is the gradient of the state in
    front of the tile; forwards they are u and B. Only backwards is `z` looked at.
    """
    sample, channel, row, token, wanted = _place(channels, length, BLOCK, TILE)
    tiles = tl.cdiv(length, TILE)
    inside = wanted[:, None] & (token < length)[None, :]
    rows = row[:, None] * length + token[None, :]
    step = _steps(delta, bias, rows, channel, inside, wanted, SOFTPLUS)
    value = tl.load(x + rows, mask=inside, other=0).to(tl.float32)
    if BACKWARDS:
        time = tl.cumsum(step, axis=1)
        if z is not None:
            gate = tl.load(z + rows, mask=inside, other=0).to(tl.float32)
            value *= gate * tl.sigmoid(gate)
    else:
        # The time from a token to the end is summed from the end: differences of large sums would be inexact.
        later = inside & ((token + 1 < length) & ((token + 1) % TILE != 0))[None, :]
        time = tl.cumsum(_steps(delta, bias, rows + 1, channel, later, wanted, SOFTPLUS), axis=1, reverse=True)
        value *= step
    place = row * tiles + tl.program_id(0)
    tl.store(totals + place, tl.sum(step, axis=1), mask=wanted)
    for n in range(STATES):
        rate = tl.load(A + channel * STATES + n, mask=wanted, other=0).to(tl.float32) * LOG2_E
        weight = tl.load(mixing + (sample * STATES + n) * length + token, mask=token < length, other=0).to(tl.float32)
        end = tl.sum(tl.exp2(rate[:, None] * time) * (value * weight[None, :]), axis=1)
        tl.store(ends + place * STATES + n, end, mask=wanted)


@triton.jit
def join_tiles(
    ends, totals, A, states, channels, tiles,
    STATES: tl.constexpr, PADDED: tl.constexpr, BACKWARDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Turn the ends of the tiles into the states in front of them (backwards: what comes back from behind them).

    A program has one channel of one sample. In front of the first tile is zero, which must be there already.
    """
    row = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, PADDED)
    rate = tl.load(A + row % channels * STATES + n, mask=n < STATES, other=0).to(tl.float32) * LOG2_E
    carried = tl.zeros([PADDED], tl.float32)
    for first in range(0, tiles, BLOCK):
        k = first + tl.arange(0, BLOCK)
        tile = k
        to = k + 1
        if BACKWARDS:
            tile = tiles - 1 - k
            to = tile - 1
        total = tl.load(totals + row * tiles + tile, mask=k < tiles, other=0)
        known = (k < tiles)[:, None] & (n < STATES)[None, :]
        end = tl.load(ends + (row * tiles + tile)[:, None] * STATES + n[None, :], mask=known, other=0)
        decay, state = tl.associative_scan((tl.exp2(total[:, None] * rate[None, :]), end), 0, _follow)
        state += decay * carried[None, :]
        known &= ((to >= 0) & (to < tiles))[:, None]
        tl.store(states + (row * tiles + to)[:, None] * STATES + n[None, :], state, mask=known)
        carried = tl.sum(tl.where((k == first + BLOCK - 1)[:, None], state, 0), axis=0)


@triton.jit
def outputs(
    u, delta, A, B, C, D, z, bias, states, y, channels, length,
    STATES: tl.constexpr, SOFTPLUS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Scan inside the tiles, from the states in front of them."""
    sample, channel, row, token, wanted = _place(channels, length, BLOCK, TILE)
    inside = wanted[:, None] & (token < length)[None, :]
    rows = row[:, None] * length + token[None, :]
    place = (row * tl.cdiv(length, TILE) + tl.program_id(0)) * STATES
    step = _steps(delta, bias, rows, channel, inside, wanted, SOFTPLUS)
    value = tl.load(u + rows, mask=inside, other=0).to(tl.float32)
    total = tl.zeros([BLOCK, TILE], tl.float32)
    if D is not None:
        total = value * tl.load(D + channel, mask=wanted, other=0).to(tl.float32)[:, None]
    value *= step
    for n in range(STATES):
        rate = tl.load(A + channel * STATES + n, mask=wanted, other=0).to(tl.float32) * LOG2_E
        mixing = (sample * STATES + n) * length + token
        gain = value * tl.load(B + mixing, mask=token < length, other=0).to(tl.float32)[None, :]
        decay, h = tl.associative_scan((tl.exp2(rate[:, None] * step), gain), 1, _follow)
        h += decay * tl.load(states + place + n, mask=wanted, other=0)[:, None]
        total += h * tl.load(C + mixing, mask=token < length, other=0).to(tl.float32)[None, :]
    if z is not None:
        gate = tl.load(z + rows, mask=inside, other=0).to(tl.float32)
        total *= gate * tl.sigmoid(gate)
    tl.store(y + rows, total, mask=inside)


@triton.jit
def gradients(
    u, delta, A, B, C, D, z, bias, dy, states, after, du, ddelta, dB, dC, dD, dz, dbias, channels, length,
    STATES: tl.constexpr, SOFTPLUS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Scan inside the tiles forwards for the states and backwards for their gradients.

    `after` is the gradient of the state behind a tile that comes from there; each number is read once, and its place
    then takes the tile's share of A's gradient. dD and dbias are (batch, channels, tiles), and to dB and dC is added.
    """
    sample, channel, row, token, wanted = _place(channels, length, BLOCK, TILE)
    inside = wanted[:, None] & (token < length)[None, :]
    later = inside & ((token + 1 < length) & ((token + 1) % TILE != 0))[None, :]
    rows = row[:, None] * length + token[None, :]
    place = row * tl.cdiv(length, TILE) + tl.program_id(0)
    step = _steps(delta, bias, rows, channel, inside, wanted, SOFTPLUS)
    next_step = _steps(delta, bias, rows + 1, channel, later, wanted, SOFTPLUS)
    earlier = inside & (token % TILE != 0)[None, :]
    last_gain = _steps(delta, bias, rows - 1, channel, earlier, wanted, SOFTPLUS)
    last_gain *= tl.load(u + rows - 1, mask=earlier, other=0).to(tl.float32)
    value = tl.load(u + rows, mask=inside, other=0).to(tl.float32)
    back = tl.load(dy + rows, mask=inside, other=0).to(tl.float32)
    if z is not None:
        gate = tl.load(z + rows, mask=inside, other=0).to(tl.float32)
        back *= gate * tl.sigmoid(gate)
    y = tl.zeros([BLOCK, TILE], tl.float32)
    dvalue = tl.zeros([BLOCK, TILE], tl.float32)
    dstep = tl.zeros([BLOCK, TILE], tl.float32)
    for n in range(STATES):
        rate = tl.load(A + channel * STATES + n, mask=wanted, other=0).to(tl.float32) * LOG2_E
        mixing = (sample * STATES + n) * length + token
        b = tl.load(B + mixing, mask=token < length, other=0).to(tl.float32)[None, :]
        c = tl.load(C + mixing, mask=token < length, other=0).to(tl.float32)[None, :]
        # `passed` is what of the last state is still there: h without its gain, found without a difference of both.
        gain = last_gain * tl.load(B + mixing - 1, mask=(token < length) & (token % TILE != 0), other=0).to(tl.float32)
        decay = tl.exp2(rate[:, None] * step)
        decay, passed = tl.associative_scan((decay, decay * gain), 1, _follow)
        passed += decay * tl.load(states + place * STATES + n, mask=wanted, other=0)[:, None]
        h = passed + value * step * b
        decay, dh = tl.associative_scan((tl.exp2(rate[:, None] * next_step), back * c), 1, _follow, reverse=True)
        dh += decay * tl.load(after + place * STATES + n, mask=wanted, other=0)[:, None]
        dexponent = dh * passed
        dvalue += dh * b
        dstep += dexponent * rate[:, None]
        if z is not None:
            y += h * c
        tl.store(after + place * STATES + n, tl.sum(dexponent * step, axis=1), mask=wanted)
        tl.atomic_add(dB + mixing, tl.sum(dh * (value * step), axis=0), mask=token < length, sem="relaxed")
        tl.atomic_add(dC + mixing, tl.sum(h * back, axis=0), mask=token < length, sem="relaxed")
    # dstep was summed with rates for powers of 2
    dstep = dstep * LN_2 + dvalue * value
    if SOFTPLUS:
        dstep *= tl.sigmoid(_raw_steps(delta, bias, rows, channel, inside, wanted))
    dvalue *= step
    if D is not None:
        skip = tl.load(D + channel, mask=wanted, other=0).to(tl.float32)[:, None]
        dvalue += back * skip
        y += value * skip
        tl.store(dD + place, tl.sum(back * value, axis=1), mask=wanted)
    if z is not None:
        gate = tl.load(z + rows, mask=inside, other=0).to(tl.float32)
        slope = tl.sigmoid(gate)
        slope *= 1 + gate * (1 - slope)
        tl.store(dz + rows, tl.load(dy + rows, mask=inside, other=0).to(tl.float32) * y * slope, mask=inside)
    if bias is not None:
        tl.store(dbias + place, tl.sum(tl.where(inside, dstep, 0), axis=1), mask=wanted)
    tl.store(du + rows, dvalue, mask=inside)
    tl.store(ddelta + rows, dstep, mask=inside)
