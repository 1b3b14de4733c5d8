"""Random numbers and smooth noise that are the same on every machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple

    Floats = NDArray[np.float32]
    Vector = tuple[float, float, float]


class Dice:
    """Random numbers from the bits of PCG64, whose stream NumPy never changes (NEP 19).

    Parameters
    ----------
    *seed : int
        Non-negative numbers; other numbers give other dice.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(list(seed))
        self._drawn: list[float] = []

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return an array of numbers in low..high."""
        bits = self._bits.random_raw(math.prod(shape)) >> np.uint64(11)
        unit: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
        return (unit * (high - low) + low).reshape(shape)

    def number(self, low: float, high: float) -> float:
        """Return one number in low..high."""
        if not self._drawn:  # many at once are far quicker than one by one
            self._drawn = self.uniform(0, 1, (4096,)).tolist()
        return low + (high - low) * self._drawn.pop()

    def integer(self, below: int) -> int:
        """Return one of 0 .. below - 1."""
        return int(self.number(0, below))

    def vector(self, size: float) -> Vector:
        """Return a vector with components in -size..size."""
        return self.number(-size, size), self.number(-size, size), self.number(-size, size)

    def normal(self, shape: tuple[int, ...]) -> Floats:
        """Return nearly normal numbers of mean 0 and deviation 1: each the sum of four uniform ones."""
        bits = self._bits.random_raw(math.prod(shape)).view(np.uint16).reshape(-1, 4)
        total = bits[:, 0].astype(np.int32)
        for part in (1, 2, 3):
            total += bits[:, part]
        normal: Floats = (total - 131070).astype(np.float32) * np.float32(1 / 37837)
        return normal.reshape(shape)


class Noise:
    """Smooth noise of deviation about 1: a quadratic B-spline through random knots.

    Parameters
    ----------
    dice : Dice
        Where chance comes from.
    shape : tuple of int
        Points on each axis, (z, y, x).
    wavelength : sequence of float
        Points from knot to knot on each axis.
    """

    def __init__(self, dice: Dice, shape: Triple, wavelength: Sequence[float]) -> None:
        knots = tuple(int(n / cell) + 4 for n, cell in zip(shape, wavelength, strict=True))
        self._knots = dice.uniform(-4.2, 4.2, knots).astype(np.float32)
        self._z, *self._yx = [_spline(n, cell) for n, cell in zip(shape, wavelength, strict=True)]
        self._sections = shape[0]

    def plane(self, z: int) -> Floats:
        """Return section z, shape (Y, X)."""
        first, weights = self._z
        plane: Floats = weights[0][z] * self._knots[first[z]]
        for k in (1, 2):
            plane += weights[k][z] * self._knots[first[z] + k]
        for axis, (first, weights) in enumerate(self._yx):
            across = (-1, 1) if axis == 0 else (1, -1)
            finer = plane.take(first, axis) * weights[0].reshape(across)
            for k in (1, 2):
                finer += plane.take(first + k, axis) * weights[k].reshape(across)
            plane = finer
        return plane

    def volume(self) -> Floats:
        """Return all sections, shape (Z, Y, X)."""
        return np.stack([self.plane(z) for z in range(self._sections)])


def _spline(n: int, cell: float) -> tuple[NDArray[np.intp], list[Floats]]:
    """Return, for n points, the first of the three knots each depends on, and the three weights."""
    at = np.arange(n) / cell
    first = at.astype(np.intp)
    t = at - first
    before, after = (1 - t) * (1 - t) / 2, t * t / 2
    return first, [w.astype(np.float32) for w in (before, 1 - before - after, after)]
