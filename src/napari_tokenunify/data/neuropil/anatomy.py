"""A block of neuropil, voxel by voxel: labels, depth below the membrane, mitochondria and small organelles."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.data.neuropil.growth import FAR, GRID_NM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.neuropil.chance import Floats
    from napari_tokenunify.data.neuropil.growth import Mitochondrion, Neuropil, Node, Window
    from napari_tokenunify.geometry import Triple, VoxelSize

    Bytes = NDArray[np.uint8]
    Points = NDArray[np.float64]  # (N, 3), nm, z y x

_TILE_NM = 224.0
_NEAR_NM = 80.0  # a neurite further behind the nearest one than this is nobody's neighbour
_VESICLES_PER_UM3 = 250
_SYNAPSES_PER_UM3 = 3
_CROWD = 120  # places tried for the vesicles of a synapse


@dataclass(frozen=True)
class Anatomy:
    """What lies at each voxel; depths are in half nanometres, and 255 stands for all that is deeper.

    Attributes
    ----------
    label : ndarray of uint16, shape (Z, Y, X)
        Which neurite a voxel belongs to.
    depth : ndarray of uint8, shape (Z, Y, X)
        Distance to the middle of the cell membrane.
    mitochondrion : ndarray of uint8, shape (Z, Y, X)
        Depth inside a mitochondrion; 0 outside.
    stain : ndarray of uint8, shape (Z, Y, X)
        How dark microtubules, vesicles and synapses are; 0 where there are none.
    """

    label: NDArray[np.uint16]
    depth: Bytes
    mitochondrion: Bytes
    stain: Bytes


def voxelise(block: Neuropil, shape: Triple, voxel_size_nm: VoxelSize) -> Anatomy:
    """Find out what lies at the voxels of a volume that covers the block from its origin."""
    label = np.empty(shape, np.uint16)
    lead = np.empty(shape, np.float32)
    mitochondrion = np.empty(shape, np.uint8)
    for tile in _tiles(shape, voxel_size_nm):
        label[tile], lead[tile], mitochondrion[tile] = _tile(block, tile, voxel_size_nm)
    depth = _depth(lead, voxel_size_nm)
    anatomy = Anatomy(label, depth, mitochondrion, np.zeros(shape, np.uint8))
    _add_microtubules(anatomy, block, voxel_size_nm)
    _add_synapses(anatomy, block, voxel_size_nm)
    return anatomy


# -- neurites and mitochondria, interpolated from the coarse grid ---------------------------------------------


def _tiles(shape: Triple, voxel_size_nm: VoxelSize) -> Iterator[Window]:
    edges = [max(1, int(_TILE_NM / size)) for size in voxel_size_nm]
    for z in range(0, shape[0], edges[0]):
        for y in range(0, shape[1], edges[1]):
            for x in range(0, shape[2], edges[2]):
                stop = [min(a + edge, n) for a, edge, n in zip((z, y, x), edges, shape, strict=True)]
                yield slice(z, stop[0]), slice(y, stop[1]), slice(x, stop[2])


def _tile(block: Neuropil, tile: Window, voxel_size_nm: VoxelSize) -> tuple[NDArray[np.uint16], Floats, Bytes]:
    """Return label, lead of the nearest surface over the next one (nm), and depth inside a mitochondrion."""
    at = [(np.arange(s.start, s.stop) + 0.5) * size / GRID_NM for s, size in zip(tile, voxel_size_nm, strict=True)]
    z, y, x = (slice(int(a[0]), int(a[-1]) + 2) for a in at)
    window = (z, y, x)
    inner = [a - w.start for a, w in zip(at, window, strict=True)]
    names, fields = _neighbours(block, window)
    fine = _interpolated(fields, inner)
    nearest = fine.argmin(axis=0)[None]
    first = np.take_along_axis(fine, nearest, 0)[0]
    np.put_along_axis(fine, nearest, FAR, 0)
    label = names[nearest[0]].astype(np.uint16)
    lead = fine.min(axis=0) - first
    inside = np.zeros(lead.shape, np.float32)
    for item in block.mitochondria:
        if item.label in names and _overlaps(item, window):
            depth = -2 * _interpolated(_cropped(item, window)[None], inner)[0]
            np.maximum(inside, np.where(label == item.label, depth, 0), out=inside)
    np.minimum(inside, lead - 50, out=inside)  # the matrix stays 25 nm below the membrane
    return label, lead, _bytes(inside)


def _neighbours(block: Neuropil, window: Window) -> tuple[NDArray[np.int32], Floats]:
    """Return the neurites that come near in a window, and their distances there; a far one stands at the end."""
    distance, label = block.distance[(slice(None), *window)], block.label[(slice(None), *window)]
    names = np.unique(label[(distance < distance[:1] + _NEAR_NM) & (label > 0)])
    fields = np.repeat(distance[-1:], len(names) + 1, axis=0)  # one that is not among the nearest is at least so far
    fields[-1] = FAR / 10
    for index, name in enumerate(names):
        for rank in range(len(label)):
            np.copyto(fields[index], distance[rank], where=label[rank] == name)
    return np.append(names, 0), fields


def _interpolated(fields: Floats, at: Sequence[NDArray[np.floating]]) -> Floats:
    """Interpolate fields (N, Z, Y, X) linearly at the given grid coordinates of each axis."""
    for axis, points in enumerate(at, start=1):
        low = points.astype(np.intp)
        part = (points - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
        lower = fields.take(low, axis)
        fields = fields.take(low + 1, axis)
        fields -= lower
        fields *= part
        fields += lower
    return fields


def _overlaps(item: Mitochondrion, window: Window) -> bool:
    extents = zip(item.start, item.distance.shape, window, strict=True)
    return all(start < part.stop and start + n > part.start for start, n, part in extents)


def _cropped(item: Mitochondrion, window: Window) -> Floats:
    """Return a mitochondrion's distances in a window of the grid, 200 nm where they are not known."""
    out = np.full([part.stop - part.start for part in window], 200, np.float32)
    here, there = [], []
    for start, n, part in zip(item.start, item.distance.shape, window, strict=True):
        low, high = max(start, part.start), min(start + n, part.stop)
        here.append(slice(low - part.start, high - part.start))
        there.append(slice(low - start, high - start))
    out[tuple(here)] = np.minimum(item.distance[tuple(there)], 200)
    return out


def _depth(lead: Floats, voxel_size_nm: VoxelSize) -> Bytes:
    """Turn the lead of the nearest surface over the next one into half nanometres from where they meet.

    The lead grows by 2 nm a nanometre where surfaces face each other, slower where they meet at an angle: so it is
    divided by its slope, the steeper side's because it has a kink in the membrane.
    """
    depth = np.empty(lead.shape, np.uint8)
    for z, plane in enumerate(lead):
        above, below = lead[max(z - 1, 0)], lead[min(z + 1, len(lead) - 1)]
        square = np.maximum(np.abs(plane - above), np.abs(below - plane)) * np.float32(1 / voxel_size_nm[0])
        square *= square
        for axis in (0, 1):
            step = np.abs(np.diff(plane, axis=axis)) * np.float32(1 / voxel_size_nm[axis + 1])
            before, after = ([(side, 1 - side) if a == axis else (0, 0) for a in (0, 1)] for side in (1, 0))
            steepest = np.maximum(np.pad(step, before), np.pad(step, after))
            square += steepest * steepest
        slope = np.minimum(np.maximum(np.sqrt(square), np.float32(0.7)), np.float32(2.4))
        depth[z] = _bytes(plane * 2 / slope)
    return depth


def _bytes(values: Floats) -> Bytes:
    return np.minimum(np.maximum(values, 0), 255).astype(np.uint8)


# -- microtubules, vesicles, synapses -------------------------------------------------------------------------


def _add_microtubules(anatomy: Anatomy, block: Neuropil, voxel_size_nm: VoxelSize) -> None:
    """Stain lines that run with the neurites."""
    points, owners = [], []
    for neurite in block.neurites:
        for path in neurite.paths:
            middle = path[len(path) // 2][1]
            for _ in range(1 + int(middle * middle / 2500)):
                line = _beside(path, np.array(block.dice.vector(0.6)))
                points.append(line)
                owners.append(np.full(len(line), neurite.label, np.uint16))
    there = block.unwarped(np.concatenate(points))
    kept = _inside(anatomy, there, np.concatenate(owners), voxel_size_nm, 22)
    _stamp(anatomy, kept, voxel_size_nm, ramp(7, 15, 150))


def _add_synapses(anatomy: Anatomy, block: Neuropil, voxel_size_nm: VoxelSize) -> None:
    """Stain patches of membrane, a crowd of vesicles at one side of each, and vesicles anywhere."""
    dice, extent = block.dice, np.array(block.extent)
    volume_um3 = block.extent[0] * block.extent[1] * block.extent[2] * 1e-9
    tried: Points = dice.uniform(0, 1, (1 + int(200 * _SYNAPSES_PER_UM3 * volume_um3), 3)) * extent
    at_membrane = anatomy.depth[_voxels(tried, voxel_size_nm)] < 12
    sites: Points = tried[at_membrane][: int(_SYNAPSES_PER_UM3 * volume_um3)]
    _stamp(anatomy, sites, voxel_size_nm, ramp(30, 120, 255), ramp(10, 40))
    crowd = sites[:, None] + dice.uniform(-1, 1, (len(sites), _CROWD, 3)) * 190
    loose: Points = dice.uniform(0, 1, (1 + int(_VESICLES_PER_UM3 * volume_um3), 3)) * extent
    before = np.repeat(anatomy.label[_voxels(sites, voxel_size_nm)], _CROWD)
    owners = np.concatenate([before, anatomy.label[_voxels(loose, voxel_size_nm)]])
    kept = _inside(anatomy, np.concatenate([crowd.reshape(-1, 3), loose]), owners, voxel_size_nm, 25)
    _stamp(anatomy, kept, voxel_size_nm, ramp(17, 22, 150) - ramp(8, 15, 120))


def _beside(path: list[Node], aside: NDArray[np.float64]) -> Points:
    """Return points along a path, off its axis by `aside` radii."""
    axis = np.array([point for point, _ in path]) + aside * np.array([[radius] for _, radius in path])
    pieces = [axis[-1:]]
    for p, q in itertools.pairwise(axis):
        way = q - p
        count = 1 + int(math.sqrt(way[0] * way[0] + way[1] * way[1] + way[2] * way[2]) / 9)
        pieces.append(p + way * (np.arange(count)[:, None] / count))
    return np.concatenate(pieces)


def _voxels(points: Points, voxel_size_nm: VoxelSize) -> tuple[NDArray[np.intp], ...]:
    return tuple((points / np.array(voxel_size_nm)).astype(np.intp).T)


def _inside(
    anatomy: Anatomy, points: Points, owners: NDArray[np.uint16], voxel_size_nm: VoxelSize, below_nm: float
) -> Points:
    """Return the points that lie in the cytoplasm of their owner, deep enough below its membrane."""
    limit = np.array(anatomy.label.shape) * np.array(voxel_size_nm)
    within = np.all((points >= 0) & (points < limit), axis=1)
    points, owners = points[within], owners[within]
    at = _voxels(points, voxel_size_nm)
    free = (anatomy.mitochondrion[at] == 0) & (anatomy.depth[at] > 2 * below_nm)
    kept: Points = points[free & (anatomy.label[at] == owners)]
    return kept


def _stamp(
    anatomy: Anatomy, centres: Points, voxel_size_nm: VoxelSize, profile: Floats, by_depth: Floats | None = None
) -> None:
    """Stain around each centre: `profile` of the distance to it, times `by_depth` of the depth below the membrane."""
    size, stain = np.array(voxel_size_nm), anatomy.stain
    reach_nm = int(np.flatnonzero(profile).max()) / 2
    half = [int(reach_nm / s) + 1 for s in voxel_size_nm]
    around = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), axis=-1).reshape(-1, 3)
    for some in np.array_split(centres[:, None], 1 + len(centres) * len(around) // 300_000):  # little memory at once
        at = (some / size).astype(np.intp) + around
        away = (at + 0.5) * size - some
        away *= away
        distance = np.sqrt(away[..., 0] + away[..., 1] + away[..., 2])
        inside = np.all((at >= 0) & (at < stain.shape), axis=-1) & (distance < reach_nm)
        where = tuple(at[inside].T)
        dark = profile[(distance[inside] * 2).astype(np.intp)]
        if by_depth is not None:
            dark = dark * by_depth[anatomy.depth[where]]
        np.maximum.at(stain, where, dark.astype(np.uint8))


def ramp(full_nm: float, none_nm: float, height: float = 1.0) -> Floats:
    """Return, for depths of 0..255 half nanometres, `height` up to `full_nm` that falls smoothly to 0 at `none_nm`."""
    depth = np.arange(256, dtype=np.float32) / np.float32(2)
    t = np.minimum(np.maximum((np.float32(none_nm) - depth) / np.float32(none_nm - full_nm), 0), 1)
    values: Floats = t * t * (3 - 2 * t) * np.float32(height)
    return values
