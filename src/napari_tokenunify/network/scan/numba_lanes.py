"""Sixteen numbers side by side, as one value in functions that Numba compiles.

What is written with them is sure to become vector instructions, and stays in registers from one step to the next.
With loops over sixteen numbers the compiler has to find that out: it puts checks for overlap in front of every token
and results of every step into memory. The loop over a scan's states was five times slower that way.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# (Numba compiles these; it finds the types out by itself. What it keeps on disk goes by the date of numba_kernels.py
# alone: after a change here, touch that.)

from __future__ import annotations

import math
import operator
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import extending, types
from numba.extending import models, overload, register_model

intrinsic: Any = extending.intrinsic
LANES: Final = 16  # one register of AVX-512, two of AVX2, four of Neon
_FLAGS: Final = ("contract", "nsz", "arcp")  # as OPTIONS of numba_functions


class _Format(NamedTuple):
    """A floating point number in memory, and a polynomial in x that is 2**x to its last place for |x| <= 1/2."""

    number: ir.Type
    bits: int
    mantissa: int
    polynomial: tuple[float, ...]  # of x**0, x**1, ...


# Of degree 5 in single precision: it starts with 1, and the largest relative error, 9.1e-8, is the least there can be.
_MINIMAX: Final = (1.0, 0.69314697760, 0.24022242083, 0.055507337445, 0.0096715127858, 0.0013264727253)
_TAYLOR: Final = tuple(math.log(2) ** k / math.factorial(k) for k in range(14))
_FORMATS: Final = {
    types.float32: _Format(ir.FloatType(), 32, 23, _MINIMAX),
    types.float64: _Format(ir.DoubleType(), 64, 52, _TAYLOR),
}


class Lanes(types.Type):
    """Numba's type of sixteen numbers."""

    def __init__(self, number):
        self.number = number
        super().__init__(f"{LANES} x {number}")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, type_):
        super().__init__(manager, type_, _vector(type_))


def _vector(lanes):
    return ir.VectorType(_FORMATS[lanes.number].number, LANES)


def _address(context, builder, array_type, array, index):
    """Return where the sixteen numbers with this index are."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(index, ir.Constant(index.type, LANES))])
    return builder.bitcast(first, _vector(Lanes(array_type.dtype)).as_pointer())


@intrinsic
def load(_typing, array, index):
    """Return the numbers `16 index` to `16 index + 15` of a C-contiguous array."""

    def generate(context, builder, signature, arguments):
        place = _address(context, builder, signature.args[0], *arguments)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), generate


@intrinsic
def store(_typing, array, index, lanes):
    """Write the numbers `16 index` to `16 index + 15` of a C-contiguous array."""

    def generate(context, builder, signature, arguments):
        place = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def spread(_typing, number):
    """Return sixteen times the same number."""

    def generate(_context, builder, signature, arguments):
        unset = ir.Constant(_vector(signature.return_type), ir.Undefined)
        first = builder.insert_element(unset, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, unset, _places([0] * LANES))

    return Lanes(number)(number), generate


@intrinsic
def total(_typing, lanes):
    """Return the sum of the sixteen numbers."""

    def generate(_context, builder, _signature, arguments):
        (left,) = arguments
        width = LANES
        while width > 1:
            width //= 2
            right = builder.shuffle_vector(left, left, _places([(i + width) % LANES for i in range(LANES)]))
            left = builder.fadd(left, right, flags=_FLAGS)
        return builder.extract_element(left, ir.Constant(ir.IntType(32), 0))

    return lanes.number(lanes), generate


@intrinsic
def larger(_typing, lanes, others):
    """Return the larger of each two numbers; not-a-number of the first stays what it is."""

    def generate(_context, builder, _signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments), *reversed(arguments))

    return lanes(lanes, others), generate


@intrinsic
def power_of_two(_typing, lanes):
    """Return 2**x, held between the smallest and the largest normal power; not-a-number stays what it is.

    x = n + r with |r| <= 1/2: the polynomial for 2**r, and n added to the exponent's bits.
    """
    form = _FORMATS[lanes.number]
    vector, integers = _vector(lanes), ir.VectorType(ir.IntType(form.bits), LANES)
    highest = (1 << (form.bits - form.mantissa - 2)) - 1

    def generate(_context, builder, _signature, arguments):
        def constant(value):
            return ir.Constant(vector, [value] * LANES)

        (x,) = arguments
        for beyond, limit in (("<", constant(1.0 - highest)), (">", constant(float(highest)))):
            x = builder.select(builder.fcmp_ordered(beyond, x, limit), limit, x)
        rounding = constant(1.5 * 2.0**form.mantissa)  # adding it leaves the nearest integer in the low bits
        shifted = builder.fadd(x, rounding)
        r = builder.fsub(x, builder.fsub(shifted, rounding))
        *lower, highest_term = map(constant, form.polynomial)
        series = highest_term
        for term in reversed(lower):
            series = builder.fadd(builder.fmul(series, r, flags=_FLAGS), term, flags=_FLAGS)
        n = builder.shl(builder.bitcast(shifted, integers), ir.Constant(integers, [form.mantissa] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(series, integers), n), vector)

    return lanes(lanes), generate


def _places(indices):
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), indices)


def _offer(operation, instruction):
    """Let compiled functions write `operation` between two values of sixteen numbers."""

    @intrinsic
    def apply(_typing, left, right):
        def generate(_context, builder, _signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=_FLAGS)

        return left(left, right), generate

    @overload(operation)
    def choose(left, right):
        if isinstance(left, Lanes) and left == right:
            return lambda left, right: apply(left, right)
        return None


_offer(operator.add, "fadd")
_offer(operator.mul, "fmul")
_offer(operator.truediv, "fdiv")
