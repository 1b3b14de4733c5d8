"""Points, lines and polygons as labels: drawn into each box when it is read, so a huge volume costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_tokenunify.errors import AnnotationError
from napari_tokenunify.geometry import Box, Triple, VoxelSize

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unit = Literal["voxel", "nm", "um"]

_WIDEST_VOXELS = 100  # radius; a larger one is a mistake in the unit
_GROUP = 256  # things whose common bounds are looked at first
_FARTHEST = 2.0**40  # voxels: whatever lies beyond is outside any volume
_ROUNDING = 1e-6  # voxels: nm divided by a voxel size rarely gives a whole number


@dataclass(frozen=True)
class Pen:
    """How coordinates in a file become labelled voxels.

    Attributes
    ----------
    unit : {"voxel", "nm", "um"} or None
        What the coordinates count. In "voxel", 0 is the middle of the first voxel; in nm and micrometres, 0 is the
        corner from which the volume's origin is measured. None means voxels in a CSV file; SWC files need a choice.
    radius_nm : float or None
        Half the thickness of points and lines; the shortest edge of a voxel if None. Keep it well below the
        radius of the thinnest neurite: what is drawn counts as known.
    """

    unit: Unit | None = None
    radius_nm: float | None = None

    def ball(self, voxel_size_nm: VoxelSize | None) -> NDArray[np.int64]:
        """Return the voxels within the radius of a voxel's middle: shape (N, 3), relative, z y x.

        Raises
        ------
        AnnotationError
            If the radius is negative or very large, or given in nm for a volume of unknown voxel size.
        """
        if self.radius_nm is not None and voxel_size_nm is None:
            raise AnnotationError(
                "The radius of the pen is in nm, but the volume's voxel size is unknown: give it too."
            )
        size = np.array(voxel_size_nm or (1.0, 1.0, 1.0))
        radius = float(size.min()) if self.radius_nm is None else self.radius_nm
        if not 0 <= radius <= _WIDEST_VOXELS * size.min():
            raise AnnotationError(
                f"The radius of the pen cannot be {radius:g} nm with voxels of {size.min():g} nm: give 0 to "
                f"{_WIDEST_VOXELS} voxels."
            )
        reach = np.floor(radius / size + _ROUNDING).astype(int)
        grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
        near: NDArray[np.int64] = grid[np.linalg.norm(grid * size, axis=1) <= radius * (1 + _ROUNDING)]
        return near


DEFAULT_PEN = Pen()


@dataclass(frozen=True, eq=False)
class Polygon:
    """A filled outline in one section.

    Attributes
    ----------
    neuron : int
        Its id.
    axis : int
        Across which axis the section lies: 0 (z), 1 (y) or 2 (x).
    section : int
        Index on that axis, in voxels.
    outline : ndarray of float, shape (N, 2)
        Vertices on the two other axes, in voxels.
    """

    neuron: int
    axis: int
    section: int
    outline: NDArray[np.float64]

    @property
    def corners(self) -> NDArray[np.float64]:
        """Lowest and highest vertex, shape (2, 3), z y x."""
        ends = np.stack([self.outline.min(axis=0), self.outline.max(axis=0)])
        return np.insert(ends, self.axis, float(self.section), axis=1)


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a file of points, lines and polygons holds, in voxels (z, y, x).

    Attributes
    ----------
    lines : ndarray of float, shape (N, 2, 3)
        Both ends of each straight line; a point is a line without length.
    neurons : ndarray of uint64, shape (N,)
        The id of each line.
    polygons : tuple of Polygon
        Filled outlines; a later one covers an earlier one.
    """

    lines: NDArray[np.float64]
    neurons: NDArray[np.uint64]
    polygons: tuple[Polygon, ...] = ()

    def check_inside(self, shape: Triple, name: str) -> None:
        """Refuse a drawing of which a point, or a whole polygon, lies outside a volume of `shape` (z, y, x).

        Raises
        ------
        AnnotationError
            With `name`, the number of points outside, and the first of them.
        """
        points = self.lines.reshape(-1, 3)
        voxels = nearest_voxels(points)
        outside = ((voxels < 0) | (voxels >= shape)).any(axis=1)
        beyond = [p.corners[0] for p in self.polygons if _box_of(p.corners, 0).clipped(shape) is None]
        if not outside.any() and not beyond:
            return
        first = points[outside][0] if outside.any() else beyond[0]
        what = f"{len(np.unique(points[outside], axis=0))} points" if outside.any() else f"{len(beyond)} polygons"
        raise AnnotationError(
            f"{name}: {what} lie outside the volume of {', '.join(map(str, shape))} voxels (z, y, x), the first at "
            f"voxel {', '.join(f'{value:.1f}' for value in first)}: check the unit, the order of the axes, and that "
            "they were made on this volume."
        )


class DrawnLabels:
    """A (z, y, x) array of ids that is drawn where and when it is read.

    Points and lines cover polygons. A voxel that lines of two neurons claim stays 0: whose it is, is not known.

    Parameters
    ----------
    drawing : Drawing
        What to draw.
    shape : tuple of int
        Of the volume, (z, y, x).
    ball : ndarray of int, shape (N, 3)
        What a point of a line covers, from `Pen.ball`.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint64)

    def __init__(self, drawing: Drawing, shape: Triple, ball: NDArray[np.int64]) -> None:
        self.drawing, self.shape, self.ball = drawing, shape, ball
        self._lines = _Bounds(
            drawing.lines.min(axis=1) + ball.min(axis=0), drawing.lines.max(axis=1) + ball.max(axis=0)
        )
        corners = np.array([shape.corners for shape in drawing.polygons]).reshape(-1, 2, 3)
        self._polygons = _Bounds(corners[:, 0], corners[:, 1])

    def filled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return first and last voxel of boxes outside which nothing is drawn, two arrays of shape (N, 3)."""
        low = np.concatenate([self._lines.low, self._polygons.low])
        high = np.concatenate([self._lines.high, self._polygons.high])
        return low, high

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.uint64]:
        """Draw a block; `index` is three slices (z, y, x)."""
        bounds = [part.indices(n)[:2] for part, n in zip(index, self.shape, strict=True)]
        start, stop = (np.array(ends) for ends in zip(*bounds, strict=True))
        block = np.zeros(stop - start, np.uint64)
        for place in self._polygons.near(start, stop):
            _fill(block, self.drawing.polygons[place], start)
        near = self._lines.near(start, stop)
        _trace(block, self.drawing.lines[near] - start, self.drawing.neurons[near], self.ball)
        return block


class _Bounds:
    """Which of many things reach into a box. What follows each other in a file is near each other: groups first.

    Parameters
    ----------
    low, high : ndarray of float, shape (N, 3)
        Lowest and highest corner of each, z y x.
    """

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        self.low, self.high = low - 1, high + 1
        self._begins = np.arange(0, len(low), _GROUP)
        self._group_low = np.minimum.reduceat(self.low, self._begins) if len(low) else self.low
        self._group_high = np.maximum.reduceat(self.high, self._begins) if len(low) else self.high

    def near(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices, ascending, of those that may reach into a box."""
        groups = ((self._group_low < stop) & (self._group_high >= start)).all(axis=1)
        each = (self._begins[groups, None] + np.arange(_GROUP)).ravel()
        each = each[each < len(self.low)]
        return np.asarray(each[((self.low[each] < stop) & (self.high[each] >= start)).all(axis=1)])


def nearest_voxels(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the voxel that holds each point; on the face between two, the upper one."""
    return np.floor(np.clip(points, -_FARTHEST, _FARTHEST) + 0.5 + _ROUNDING).astype(np.int64)


def _box_of(points: NDArray[np.float64], margin: int) -> Box:
    (z0, y0, x0), (z1, y1, x1) = (nearest_voxels(ends).tolist() for ends in (points.min(axis=0), points.max(axis=0)))
    return Box((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1)).grown((margin, margin, margin))


def _fill(block: NDArray[np.uint64], shape: Polygon, start: NDArray[np.int64]) -> None:
    from skimage.draw import polygon  # here, as who only asks for names would wait for it

    planes = np.moveaxis(block, shape.axis, 0)
    section = shape.section - start[shape.axis]
    if 0 <= section < len(planes):
        rows, columns = (shape.outline - np.delete(start, shape.axis)).T
        planes[section][polygon(rows, columns, planes.shape[1:])] = shape.neuron  # type: ignore[no-untyped-call]


def _trace(
    block: NDArray[np.uint64], lines: NDArray[np.float64], neurons: NDArray[np.uint64], ball: NDArray[np.int64]
) -> None:
    """Stamp `ball` at two points or more a voxel along each line."""
    vectors = lines[:, 1] - lines[:, 0]
    steps = np.ceil(2 * np.abs(vectors).max(axis=1, initial=0)).astype(np.int64)
    line = np.repeat(np.arange(len(lines)), steps + 1)
    step = np.arange(len(line)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    points = lines[line, 0] + vectors[line] * (step / np.maximum(steps, 1)[line])[:, None]
    voxels, claims = nearest_voxels(points), neurons[line]
    new = np.ones(len(voxels), bool)  # many steps stay in the voxel of the last one
    new[1:] = (voxels[1:] != voxels[:-1]).any(axis=1) | (claims[1:] != claims[:-1])
    voxels = (voxels[new][:, None] + ball).reshape(-1, 3)
    claims = np.repeat(claims[new], len(ball))
    inside = ((voxels >= 0) & (voxels < block.shape)).all(axis=1)
    where, claims = tuple(voxels[inside].T), claims[inside]
    block[where] = claims
    disputed = block[where] != claims
    block[tuple(axis[disputed] for axis in where)] = 0
