"""Softplus and sigmoid that a compiler can turn into vector instructions.

Numba on its own calls the system's mathematics library number by number, which would take ten times as long as
all else in a scan. In float64, where only correctness counts, that is what is done.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, call-arg, arg-type"
# (Numba compiles these; it finds the types out by itself. What it keeps on disk goes by the date of numba_kernels.py
# alone: after a change here, touch that.)

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# Multiplications may be fused with additions. Nothing may be reordered: rounding below depends on the order.
OPTIONS: Final[dict[str, Any]] = {"fastmath": {"contract", "nsz", "arcp"}, "error_model": "numpy"}

_F = np.float32
_ONE, _TWO, _SOFTPLUS_LINEAR = _F(1), _F(2), _F(20)
_LOWEST, _HIGHEST = _F(-87.3), _F(88.3)  # between them the result is a normal number
_LOG2_E = _F(1.44269504)
_ROUND = _F(12582912.0)  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440e-4)
_E2, _E3, _E4, _E5, _E6, _E7 = (
    _F(c)
    for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)
)
# artanh(s) = s (1 + ARTANH[0] s**2 + ARTANH[1] s**4 + ...) for s up to 1/3
ARTANH = (_F(0.33333158), _F(0.20012427), _F(0.13980709), _F(0.14087329))


@intrinsic
def _bits(_typing, number):
    """Look at a float32 as an int32."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _number(_typing, bits):
    """Look at an int32 as a float32."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(**OPTIONS)
def _exponential_single(x):
    """Return exp(x) of a float32, within 1.1 units in the last place, held between 1.2e-38 and 2.2e38.

    The method and the coefficients are those of Cephes' expf (S. Moshier): x = n ln 2 + r, a polynomial for
    exp(r), and n put into the exponent's bits.
    """
    x = _LOWEST if x < _LOWEST else x  # and not max(): not-a-number stays what it is
    x = _HIGHEST if x > _HIGHEST else x
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E7 * r + _E6) * r + _E5) * r + _E4) * r + _E3) * r + _E2
    p = p * (r * r) + r + _ONE
    return p * _number(np.int32((_bits(shifted) << np.int32(23)) + np.int32(0x3F800000)))


@njit(**OPTIONS)
def _softplus_single(x):
    """Return log(1 + exp(x)) of a float32, and x above 20."""
    small = _exponential_single(-abs(x))
    # log(1 + e) = 2 artanh(s) with s = e / (2 + e) <= 1/3: exact for small e too
    s = small / (_TWO + small)
    square = s * s
    series = (((ARTANH[3] * square + ARTANH[2]) * square + ARTANH[1]) * square + ARTANH[0]) * square + _ONE
    return (x if x > 0 else _F(0)) + _TWO * s * series


@njit(**OPTIONS)
def _sigmoid_single(x):
    """Return 1 / (1 + exp(-x)) of a float32, without overflow."""
    small = _exponential_single(-abs(x))
    return (_ONE if x >= 0 else small) / (_ONE + small)


@njit(**OPTIONS)
def _softplus_double(x):
    """Return log(1 + exp(x)), and x above 20, as PyTorch and mamba_ssm do."""
    return x if x > 20 else math.log1p(math.exp(x))


@njit(**OPTIONS)
def _sigmoid_double(x):
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


def softplus(x):
    """Return log(1 + exp(x)) of a float32 or float64; for use in compiled functions."""
    raise NotImplementedError


def sigmoid(x):
    """Return 1 / (1 + exp(-x)) of a float32 or float64; for use in compiled functions."""
    raise NotImplementedError


def _offer(function, single, double):
    """Let compiled functions call `function` with either type."""

    @overload(function, jit_options=OPTIONS)
    def choose(x):
        chosen = single if x == types.float32 else double
        return lambda x: chosen(x)


_offer(softplus, _softplus_single, _softplus_double)
_offer(sigmoid, _sigmoid_single, _sigmoid_double)
