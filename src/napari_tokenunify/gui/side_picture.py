"""Pictures of planes across the sections, of the layers that a viewer shows; made in a thread, piece by piece."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.theme import get_theme

from napari_tokenunify.segment.fragment_store import SegmentView, StoredFragments

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from napari import Viewer
    from numpy.typing import NDArray

    Colours = NDArray[np.float32]
    World = tuple[float, float, float]

_STRIP: Final = 32  # voxels along z that are read at once, or a chunk where that is more
_SHADES: Final = 256


@dataclass(frozen=True)
class Plane:
    """A rectangle on the screen that shows a plane of the world.

    Attributes
    ----------
    along : int
        The axis that is looked along: 0, 1 or 2 for z, y or x.
    axes : tuple of int
        The axis that goes down on the screen, and the one that goes to the right.
    centre : tuple of float
        (z, y, x) in the middle, in the viewer's unit.
    size : tuple of int
        Height and width in pixels.
    zoom : float
        Pixels for each unit; a larger value shows less.
    """

    along: int
    axes: tuple[int, int]
    centre: World
    size: tuple[int, int]
    zoom: float

    def places(self, side: int) -> NDArray[np.floating[Any]]:
        """Return where the pixels down (0) or to the right (1) lie, in the viewer's unit."""
        pixels = np.arange(self.size[side]) + 0.5 - self.size[side] / 2
        return self.centre[self.axes[side]] + pixels / self.zoom

    def at(self, down: float, right: float) -> World:
        """Return the place (z, y, x) that a pixel shows."""
        place = list(self.centre)
        for axis, pixel, extent in zip(self.axes, (down, right), self.size, strict=True):
            place[axis] += (pixel - extent / 2) / self.zoom
        return place[0], place[1], place[2]


@dataclass(frozen=True, eq=False)
class Source:
    """A layer as it was when the picture was begun.

    Attributes
    ----------
    levels : sequence of array
        (z, y, x), the finest first; of a coloured image with red, green and blue last.
    factors : ndarray of float, shape (levels, 3)
        Voxels of the finest level in one of each.
    start, step : ndarray of float, shape (3,)
        Middle of the first voxel, and distance of voxels, in the viewer's unit.
    colours : callable
        Makes of values (...,) colours (..., 4) in 0..1.
    opacity : float
        0..1.
    is_added : bool
        Whether colours are added to what lies below; else they cover it.
    """

    levels: Sequence[Any]
    factors: NDArray[np.float64]
    start: NDArray[np.float64]
    step: NDArray[np.float64]
    colours: Callable[[NDArray[Any]], Colours]
    opacity: float
    is_added: bool

    def strips(self, plane: Plane) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], Colours]]:
        """Yield rows and columns of the screen, and their colours (rows, columns, 4); nothing outside of the layer."""
        level = self._level(plane)
        data, step = self.levels[level], self.step * self.factors[level]
        start = self.start + (step - self.step) / 2
        at = int(np.floor((plane.centre[plane.along] - start[plane.along]) / step[plane.along] + 0.5))
        if not 0 <= at < data.shape[plane.along]:
            return
        voxels = [
            np.floor((plane.places(side) - start[axis]) / step[axis] + 0.5).astype(np.intp)
            for side, axis in enumerate(plane.axes)
        ]
        inside = [np.flatnonzero((v >= 0) & (v < data.shape[axis])) for v, axis in zip(voxels, plane.axes, strict=True)]
        if not all(len(pixels) for pixels in inside):
            return
        thick = _thickness(data, plane.axes[0])
        columns = voxels[1][inside[1]]
        for number in np.unique(voxels[0][inside[0]] // thick):
            pixels = inside[0][voxels[0][inside[0]] // thick == number]
            rows = voxels[0][pixels]
            index: list[int | slice] = [at] * 3
            index[plane.axes[0]] = slice(int(rows[0]), int(rows[-1]) + 1)
            index[plane.axes[1]] = slice(int(columns[0]), int(columns[-1]) + 1)
            values = _read(data, tuple(index))
            if plane.axes[0] > plane.axes[1]:
                values = values.swapaxes(0, 1)
            yield pixels, inside[1], self.colours(values[rows - rows[0]][:, columns - columns[0]])

    def _level(self, plane: Plane) -> int:
        """Return the coarsest level whose voxels are no larger than a pixel."""
        pixels = (self.factors * self.step * plane.zoom)[:, list(plane.axes)].min(axis=1)
        return int(max(np.flatnonzero(pixels <= 1.0), default=0))


def shown_sources(viewer: Viewer) -> list[Source]:
    """Return the images and labels that a viewer shows in three dimensions, the lowest first; nothing is read yet.

    Layers that are rotated or sheared are left out.
    """
    return [
        _source(layer)
        for layer in viewer.layers
        if layer.visible and isinstance(layer, Image | Labels) and layer.ndim == 3 and _is_upright(layer)
    ]


def draw(
    sources: Sequence[Source], planes: Sequence[Plane], below: World
) -> Generator[tuple[int, NDArray[np.uint8] | None], None, list[NDArray[np.uint8]]]:
    """Make a picture of each plane; in a thread.

    Parameters
    ----------
    sources : sequence of Source
        The lowest first.
    planes : sequence of Plane
        What to show.
    below : tuple of float
        Red, green and blue in 0..1 where no layer is.

    Yields
    ------
    tuple
        After each piece that was read None, so that it can be given up, and each picture as soon as it is finished,
        with its number.

    Returns
    -------
    list of ndarray
        uint8, (height, width, 3).
    """
    pictures = []
    for number, plane in enumerate(planes):
        picture = np.empty((*plane.size, 3), np.float32)
        picture[:] = below
        for source in sources:
            for rows, columns, colours in source.strips(plane):
                target = np.ix_(rows, columns)
                picture[target] = _laid_over(picture[target], colours, source)
                yield number, None
        pictures.append(np.rint(picture.clip(0, 1) * 255).astype(np.uint8))
        yield number, pictures[-1]
    return pictures


def background(viewer: Viewer) -> World:
    """Return the colour of the canvas behind all layers, in 0..1."""
    red, green, blue = get_theme(viewer.theme).canvas.as_rgb_tuple()[:3]
    return red / 255, green / 255, blue / 255


def _laid_over(below: Colours, colours: Colours, source: Source) -> Colours:
    alpha = colours[..., 3:] * np.float32(source.opacity)
    kept = below if source.is_added else below * (1 - alpha)
    laid: Colours = kept + colours[..., :3] * alpha
    return laid


def _source(layer: Image | Labels) -> Source:
    origin, unit = np.asarray(layer.world_to_data((0, 0, 0))), np.asarray(layer.world_to_data((1, 1, 1)))
    step = 1 / (unit - origin)
    levels = list(layer.data) if layer.multiscale else [layer.data]
    levels = [_Apart(level) if isinstance(level, SegmentView) else level for level in levels]
    return Source(
        levels,
        np.asarray(layer.downsample_factors if layer.multiscale else np.ones((1, 3)), float)[:, :3],
        -origin * step,
        step,
        _painter(layer),
        float(layer.opacity),
        str(layer.blending) == "additive",
    )


def _is_upright(layer: Image | Labels) -> bool:
    """Whether each axis of the data is one of the world."""
    corners = np.array([layer.world_to_data(corner) for corner in ((0, 0, 0), *np.eye(3))])
    turned = corners[1:] - corners[0]
    return bool(np.allclose(turned, np.diag(np.diag(turned))) and (np.diag(turned) > 0).all())


def _painter(layer: Image | Labels) -> Callable[[NDArray[Any]], Colours]:
    """Return what colours values as the layer does now."""
    if isinstance(layer, Labels):
        colours = layer.colormap
        if isinstance(colours, DirectLabelColormap):
            return lambda ids: _looked_up(colours, ids)
        return lambda ids: np.asarray(colours.map(ids), np.float32)
    if layer.rgb:
        return _as_colours
    low, high = layer.contrast_limits
    shades = np.linspace(0, 1, _SHADES) ** float(layer.gamma)
    table = np.asarray(layer.colormap.map(shades), np.float32)

    def shade(values: NDArray[Any]) -> Colours:
        share = (np.nan_to_num(values.astype(np.float32)) - low) / max(high - low, 1e-12)
        shaded: Colours = table[np.rint(share.clip(0, 1) * (_SHADES - 1)).astype(np.intp)]
        return shaded

    return shade


def _looked_up(colours: DirectLabelColormap, ids: NDArray[Any]) -> Colours:
    """Colour ids one by one: napari's own way for whole arrays waits for a compiler."""
    found, where = np.unique(ids, return_inverse=True)
    table = np.array([colours.map(int(one)) for one in found], np.float32)
    looked: Colours = table[where.reshape(ids.shape)]
    return looked


def _as_colours(values: NDArray[Any]) -> Colours:
    most = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    share = values.astype(np.float32) / np.float32(most)
    opaque = np.ones((*share.shape[:-1], 1), np.float32)
    return np.concatenate([share, opaque], axis=-1)[..., :4]


def _thickness(data: Any, axis: int) -> int:
    """Return how many voxels to read at once along an axis: whole chunks."""
    chunks = getattr(data, "chunks", None)
    if not chunks:
        return _STRIP
    size = chunks[axis] if isinstance(chunks[axis], int) else max(chunks[axis])
    return int(size * -(-_STRIP // size))


def _read(data: Any, index: tuple[int | slice, ...]) -> NDArray[Any]:
    part = data[index]
    if hasattr(part, "compute"):
        part = part.compute(callbacks=())  # what napari keeps of dask's results is for one thread
    return np.asarray(part)


class _Apart:
    """Segments as they are now, read with a cache and a lock of its own: neither the window nor this waits."""

    def __init__(self, view: SegmentView) -> None:
        self._fragments, self._table = view.fragments, view.table
        self.shape, self.chunks = view.shape, view.chunks

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.uint64]:
        own = _OWN.get(self._fragments)
        if own is None:
            own = _OWN[self._fragments] = copy.copy(self._fragments)
        return own.read(index, self._table)


_OWN: Final[WeakKeyDictionary[StoredFragments, StoredFragments]] = WeakKeyDictionary()
