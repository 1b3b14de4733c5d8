"""Neurites that fill a block of tissue: random branching tubes, and at each point of a coarse grid the nearest ones.

Each neurite is traced through the room that earlier ones left; what remains is shared out by an additively weighted
Voronoi diagram (distance to the axis minus radius) of a warped space, which makes cells of irregular outline.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.data.neuropil.chance import Noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.data.neuropil.chance import Dice, Floats, Vector
    from napari_tokenunify.geometry import Triple, VoxelSize

    Node = tuple[Vector, float]  # a point of an axis in nm (z, y, x), and the radius there
    Window = tuple[slice, slice, slice]

GRID_NM = 28.0
FAR = np.float32(1e4)

_NEAREST = 5  # neurites kept at a grid point, nearest first
_REACH_NM = 150.0  # how far from its surface a neurite can matter
_WARPS_NM = ((520.0, 45.0), (190.0, 16.0))  # wavelength and size of what bends all surfaces
_WARP_LIMIT_NM = 110.0
_RIPPLE_ROOM = 24  # grid points by which the ripple noise is larger than the block
_SMALLEST_NM = 78.0  # room below this is shared out between neighbours
_THINNEST_NM = 30.0


@dataclass
class Neurite:
    """A branching tube.

    Attributes
    ----------
    label : int
        Its id, from 1.
    radius_nm : float
        Radius of its trunk.
    paths : list of list of (tuple, float)
        For each branch, the points of its axis in nm (z, y, x), each with the radius in nm; in warped space.
    """

    label: int
    radius_nm: float
    paths: list[list[Node]] = field(default_factory=list)


@dataclass
class Mitochondrion:
    """Signed distance in nm to a mitochondrion's surface (negative inside), on a window of the coarse grid."""

    label: int
    start: Triple
    distance: Floats


class Neuropil:
    """A block of tissue on a coarse grid.

    Parameters
    ----------
    extent_nm : tuple of float
        Size of the block, (z, y, x).
    dice : Dice
        Where chance comes from.

    Attributes
    ----------
    distance : ndarray of float32, shape (5, Z, Y, X)
        Distances in nm to the surfaces of the nearest neurites, nearest first; negative inside a tube.
    label : ndarray of int32, shape (5, Z, Y, X)
        The ids of those neurites; 0 where there is none.
    """

    def __init__(self, extent_nm: VoxelSize, dice: Dice) -> None:
        self.extent = extent_nm
        self.dice = dice
        z, y, x = (int(size / GRID_NM) + 2 for size in extent_nm)
        self.shape: Triple = (z, y, x)
        self.distance = np.full((_NEAREST, z, y, x), FAR, np.float32)
        self.label = np.zeros((_NEAREST, z, y, x), np.int32)
        self.neurites: list[Neurite] = []
        self.mitochondria: list[Mitochondrion] = []
        self._bend = [self._warp() for _ in self.shape]
        straight = np.meshgrid(
            *(np.arange(n, dtype=np.float32) * np.float32(GRID_NM) for n in self.shape), indexing="ij"
        )
        self._points = [line + bend for line, bend in zip(straight, self._bend, strict=True)]
        larger = (z + _RIPPLE_ROOM, y + _RIPPLE_ROOM, x + _RIPPLE_ROOM)
        self._ripple = Noise(dice, larger, [170 / GRID_NM] * 3).volume()

    def _warp(self) -> Floats:
        parts = [Noise(self.dice, self.shape, [w / GRID_NM] * 3).volume() * np.float32(a) for w, a in _WARPS_NM]
        return np.minimum(np.maximum(parts[0] + parts[1], -_WARP_LIMIT_NM), _WARP_LIMIT_NM)

    # -- room -------------------------------------------------------------------------------------------------

    def unwarped(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where in the block points (N, 3) of warped space lie, in nm."""
        limit = np.array(self.shape) - 1
        at = tuple(np.minimum(np.maximum(points / GRID_NM + 0.5, 0).astype(np.intp), limit).T)
        moved: NDArray[np.float64] = points - np.stack([bend[at] for bend in self._bend], axis=1)
        return moved

    def room(self, point: Vector) -> float:
        """Return how far in nm the nearest surface is; outside the block, what its border has."""
        z, y, x = self._index(point)
        return float(self.distance[0, z, y, x])

    def _index(self, point: Vector) -> Triple:
        """Return the grid point next to a point of warped space."""
        near = self._nearest(*point)
        bend = self._bend
        return self._nearest(point[0] - bend[0][near], point[1] - bend[1][near], point[2] - bend[2][near])

    def _nearest(self, z: float, y: float, x: float) -> Triple:
        depth, height, width = self.shape
        return (
            min(max(int(z / GRID_NM + 0.5), 0), depth - 1),
            min(max(int(y / GRID_NM + 0.5), 0), height - 1),
            min(max(int(x / GRID_NM + 0.5), 0), width - 1),
        )

    def filled(self) -> float:
        """Return the fraction of the block that lies inside tubes."""
        return int(np.count_nonzero(self.distance[0] < 0)) / math.prod(self.shape)

    def roomiest(self, tries: int) -> tuple[Vector, float]:
        """Return the point with most room among `tries` random grid points (0: among all), and its room in nm."""
        room = self.distance[0].ravel()
        if tries:
            best = max((self.dice.integer(room.size) for _ in range(tries)), key=room.__getitem__)
        else:
            best = int(np.argmax(room))
        z, y, x = (float(points.flat[best]) for points in self._points)
        return (z, y, x), float(room[best])

    # -- growth -----------------------------------------------------------------------------------------------

    def grow(self, start: Vector, radius: float, wander: float) -> None:
        """Trace a neurite through `start` both ways, branch it, and put it on the grid.

        Parameters
        ----------
        start : tuple of float
            (z, y, x) in nm, in warped space.
        radius : float
            Of the trunk, in nm; less where there is no room.
        wander : float
            0 grows straight on, 1 turns by up to 45 degrees at each step.
        """
        z, y, x = self.dice.vector(1.0)
        if not self.neurites or self.dice.number(0, 1) < 0.4:  # runs on through the block, as in a tract
            z, wander = 0.2 * z, 0.4 * wander
        heading = _unit((z, y, x))
        ahead = self._trace(start, heading, radius, wander)
        back = self._trace(start, _step((0.0, 0.0, 0.0), heading, -1.0), radius, wander)
        trunk = back[:0:-1] + ahead
        neurite = Neurite(len(self.neurites) + 1, radius, [trunk])
        for point, here in trunk[3:-3]:
            if here > 60 and self.dice.number(0, 1) < 0.04:
                thin = max(here * self.dice.number(0.3, 0.6), 40.0)
                neurite.paths.append(self._trace(point, _unit(self.dice.vector(1.0)), thin, 0.5))
        self.neurites.append(neurite)
        self._put(neurite)

    def _trace(self, start: Vector, heading: Vector, radius: float, wander: float) -> list[Node]:
        """Follow the room from `start` until the block is left, or it stays narrow for six steps."""
        point = start
        path = [(start, min(radius, max(self.room(start), _THINNEST_NM)))]
        length = min(max(0.8 * radius, 45.0), 120.0)
        bulge, squeezed = radius, 0
        while squeezed < 6 and len(path) < 200:
            count, spread = (12, 0.9) if squeezed else (6, wander)
            ways = [_unit(_step(heading, self.dice.vector(spread), 1.0)) for _ in range(count)]
            rooms = [self.room(_step(point, way, length)) for way in ways]
            best = max(range(count), key=lambda k: min(rooms[k], radius) - 4 * k)
            if rooms[best] < -25:
                break
            squeezed = squeezed + 1 if rooms[best] < 15 else 0
            heading = ways[best]
            point = _step(point, heading, length)
            bulge = min(max(bulge * self.dice.number(0.8, 1.25), 0.7 * radius), 1.4 * radius)
            path.append((point, 0.5 * path[-1][1] + 0.5 * min(bulge, max(rooms[best], _THINNEST_NM))))
            if any(p < -60 - radius or p > size + 60 + radius for p, size in zip(point, self.extent, strict=True)):
                break
        return path

    def add_mitochondrion(self, label: int, axis: list[Vector], radius: float) -> None:
        """Lay a mitochondrion of `radius` nm along an axis inside neurite `label`."""
        window, distance = self._tubes([[(point, radius) for point in axis]], radius * 0.16, 40.0)
        if distance.size:
            start = (window[0].start, window[1].start, window[2].start)
            self.mitochondria.append(Mitochondrion(label, start, distance))

    # -- distances --------------------------------------------------------------------------------------------

    def _put(self, neurite: Neurite) -> None:
        """Enter a neurite at every grid point where it is among the nearest."""
        window, new = self._tubes(neurite.paths, 0.10 * neurite.radius_nm + 6, _REACH_NM)
        new_label = np.full(new.shape, neurite.label, np.int32)
        distance, label = self.distance[(slice(None), *window)], self.label[(slice(None), *window)]
        for rank in range(_NEAREST):
            closer = new < distance[rank]
            old, old_label = distance[rank].copy(), label[rank].copy()
            np.copyto(distance[rank], new, where=closer)
            np.copyto(label[rank], new_label, where=closer)
            np.copyto(new, old, where=closer)
            np.copyto(new_label, old_label, where=closer)

    def _tubes(self, paths: list[list[Node]], ripple: float, reach: float) -> tuple[Window, Floats]:
        """Return the window of the grid that lies within `reach`, and the distance from its points to the tubes."""
        pieces = [pair for path in paths for pair in itertools.pairwise(path)]
        boxes = [(box, a, b) for a, b in pieces if (box := self._window(a, b, reach + _WARP_LIMIT_NM)) is not None]
        if not boxes:
            return (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), np.float32)
        low = [min(box[axis].start for box, _, _ in boxes) for axis in range(3)]
        high = [max(box[axis].stop for box, _, _ in boxes) for axis in range(3)]
        distance = np.full([b - a for a, b in zip(low, high, strict=True)], FAR, np.float32)
        for box, a, b in boxes:
            part = distance[tuple(slice(s.start - o, s.stop - o) for s, o in zip(box, low, strict=True))]
            np.minimum(part, self._cone(box, a, b), out=part)
        shift = [self.dice.integer(_RIPPLE_ROOM) for _ in low]
        ripples = self._ripple[tuple(slice(a + s, b + s) for a, b, s in zip(low, high, shift, strict=True))]
        distance += ripples * np.float32(ripple)
        return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), distance

    def _window(self, a: Node, b: Node, margin: float) -> Window | None:
        """Return the part of the grid within `margin` of a cone's surface; None if it lies outside the block."""
        around = max(a[1], b[1]) + margin
        box = []
        for p, q, n in zip(a[0], b[0], self.shape, strict=True):
            first = max(0, math.floor((min(p, q) - around) / GRID_NM))
            stop = min(n, math.ceil((max(p, q) + around) / GRID_NM) + 1)
            if stop <= first:
                return None
            box.append(slice(first, stop))
        return box[0], box[1], box[2]

    def _cone(self, box: Window, a: Node, b: Node) -> Floats:
        """Return the distance in nm from the warped points of a window to the surface of the round cone from a to b."""
        (start, ra), (end, rb) = a, b
        axis = [q - p for p, q in zip(start, end, strict=True)]
        length = max(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2], 1.0)
        offset: list[Floats] = [points[box] - np.float32(p) for points, p in zip(self._points, start, strict=True)]
        along = offset[0] * np.float32(axis[0] / length)
        for part, component in zip(offset[1:], axis[1:], strict=True):
            along += part * np.float32(component / length)
        np.maximum(along, 0, out=along)
        np.minimum(along, 1, out=along)
        total: Floats = np.zeros_like(along)
        for part, component in zip(offset, axis, strict=True):
            part -= along * np.float32(component)
            part *= part
            total += part
        np.sqrt(total, out=total)
        along *= np.float32(rb - ra)
        total -= along
        total -= np.float32(ra)
        return total


def grow_neuropil(extent_nm: VoxelSize, dice: Dice) -> Neuropil:
    """Fill a block of `extent_nm` (z, y, x): trunks first, then ever thinner neurites, then mitochondria."""
    block = Neuropil(extent_nm, dice)
    widest = 0.15 * math.sqrt(extent_nm[1] * extent_nm[2])
    for fraction, thin, thick, wander in ((0.19, 200, 420, 0.15), (0.60, 100, 220, 0.25)):
        while block.filled() < fraction:
            start, room = block.roomiest(12)
            if room < _SMALLEST_NM:
                break
            block.grow(start, min(dice.number(thin, thick), widest), wander)
    while True:
        start, room = block.roomiest(40)
        if room < _SMALLEST_NM:
            start, room = block.roomiest(0)
        if room < _SMALLEST_NM:
            break
        block.grow(start, min(room, dice.number(55, 125)), 0.3)
    for neurite in block.neurites:
        for path in neurite.paths:
            _add_mitochondria(block, neurite.label, path)
    return block


def _add_mitochondria(block: Neuropil, label: int, path: list[Node]) -> None:
    """Lay mitochondria along those parts of a path that are wide enough."""
    dice, at = block.dice, 1
    while at < len(path) - 2:
        radius = path[at][1]
        if radius > 85 and dice.number(0, 1) < 0.3:
            thickness = min(radius * dice.number(0.4, 0.75), dice.number(90, 230))
            count = 2 + int(dice.number(1.5, 6) * thickness / _length(path[at][0], path[at + 1][0]))
            aside = dice.vector(0.35 * (radius - thickness))
            block.add_mitochondrion(label, [_step(point, aside, 1.0) for point, _ in path[at : at + count]], thickness)
            at += count + 2
        at += 1


def _unit(v: Vector) -> Vector:
    length = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) or 1.0
    return v[0] / length, v[1] / length, v[2] / length


def _length(a: Vector, b: Vector) -> float:
    z, y, x = (q - p for p, q in zip(a, b, strict=True))
    return math.sqrt(z * z + y * y + x * x) or 1.0


def _step(start: Vector, way: Vector, length: float) -> Vector:
    return start[0] + way[0] * length, start[1] + way[1] * length, start[2] + way[2] * length
