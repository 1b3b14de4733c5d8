"""A seeded watershed on affinities: the loops of `fragments.py`, compiled by Numba.

The watersheds of the libraries do not serve here. On a boundary map a voxel next to a thin membrane may fall to
either side, and one such voxel links two neurons by an affinity of 1; on affinities bioimage-cpp takes equal ones in
no given order, so that plateaus are shared out at random. Here a voxel is reached along the strongest affinities,
and on a plateau by the shortest way.

Throughout, arrays of voxels are flat and `shape` is their (Z, Y, X). `cost` is uint8 (3, voxels): what it costs (0 =
nothing, 254 = affinity 0) to step from p to p - 1 along z, y, x, the first plane of each axis unused. `start` is the
first axis along which steps are taken: 0, or 1 to stay in the section. Ids are uint64; 0 is free, OUTSIDE is never
entered.
"""

from __future__ import annotations

import numpy as np

from napari_tokenunify.network.compiled import compiled

LEVELS = 254
OUTSIDE = np.uint64(2**64 - 1)
_NEVER = 255


@compiled
def flood(cost, shape, ids, start, limit):  # type: ignore[no-untyped-def]
    """Let the ids grow, in place, over steps that cost less than `limit`: cheapest first, of equal ones the oldest."""
    best = np.full(ids.size, _NEVER, np.uint8)  # the cheapest step to each voxel that is in a queue
    first, last = np.full(LEVELS + 1, -1, np.int64), np.full(LEVELS + 1, -1, np.int64)
    voxels, following, sources, used = _queue(shape, ids, start, first, last)
    free, level = np.int64(-1), 0
    while level < limit and level <= LEVELS:
        entry = first[level]
        if entry == -1:
            level += 1
            continue
        first[level] = following[entry]
        following[entry], free = free, entry
        voxel = voxels[entry]
        if sources[entry] != voxel:
            if ids[voxel] != 0:
                continue
            ids[voxel] = ids[sources[entry]]
        place = _place(shape, voxel)
        for way in range(2 * start, 6):
            near = _near(shape, voxel, place, way)
            if near < 0 or ids[near] != 0:
                continue
            step = max(_step(cost, voxel, near, way), level)
            if step >= limit or step >= best[near]:
                continue
            best[near] = step
            if free == -1:
                voxels, following, sources = _room(voxels, used), _room(following, used), _room(sources, used)
                entry, used = used, used + 1
            else:
                entry, free = free, following[free]
            voxels[entry], sources[entry], following[entry] = near, voxel, -1
            if first[step] == -1:
                first[step] = entry
            else:
                following[last[step]] = entry
            last[step] = entry


@compiled
def seed_rest(cost, shape, ids, start, limit):  # type: ignore[no-untyped-def]
    """Give free voxels that hang together an id of their own, in place.

    Two voxels hang together if the step between them costs less than `limit`. A single voxel stays free, unless it
    hangs on another section although steps stay in theirs: then two neurons would hang together by it.
    """
    next_id = np.uint64(0)
    for voxel in range(ids.size):
        if ids[voxel] != OUTSIDE:
            next_id = max(next_id, ids[voxel])
    waiting = np.empty(ids.size, np.int64)
    for voxel in range(ids.size):
        if ids[voxel] != 0:
            continue
        next_id += np.uint64(1)
        ids[voxel] = next_id
        waiting[0], begin, end = voxel, 0, 1
        while begin < end:
            here = waiting[begin]
            begin += 1
            place = _place(shape, here)
            for way in range(2 * start, 6):
                near = _near(shape, here, place, way)
                if near >= 0 and ids[near] == 0 and _step(cost, here, near, way) < limit:
                    ids[near] = next_id
                    waiting[end] = near
                    end += 1
        if end == 1 and not _hangs(cost, shape, voxel, start, limit):
            ids[voxel] = 0
            next_id -= np.uint64(1)


@compiled
def absorb(edges, order, sizes, smallest):  # type: ignore[no-untyped-def]
    """Return for each fragment the one it belongs to when those below `smallest` have joined a neighbour.

    Edges are looked at in `order`; an edge is taken if one of its sides is still too small.
    """
    table = np.arange(sizes.size)
    for edge in order:
        u, v = np.int64(edges[edge, 0]), np.int64(edges[edge, 1])
        while table[u] != u:
            table[u] = u = table[table[u]]
        while table[v] != v:
            table[v] = v = table[table[v]]
        if u != v and min(sizes[u], sizes[v]) < smallest:
            u, v = min(u, v), max(u, v)
            table[v] = u
            sizes[u] += sizes[v]
    for node in range(table.size):
        table[node] = table[table[node]]
    return table


@compiled
def number(ids, table):  # type: ignore[no-untyped-def]
    """Look the ids up in a table and number them 1..n, in place, in the order in which a scan meets them."""
    numbers = np.zeros(table.size, np.uint64)
    count = np.uint64(0)
    for voxel in range(ids.size):
        found = table[np.int64(ids[voxel])]
        if found != 0:
            if numbers[found] == 0:
                count += np.uint64(1)
                numbers[found] = count
            ids[voxel] = numbers[found]


@compiled
def _place(shape, voxel):  # type: ignore[no-untyped-def]
    return voxel // (shape[1] * shape[2]), (voxel // shape[2]) % shape[1], voxel % shape[2]


@compiled
def _stride(shape, axis):  # type: ignore[no-untyped-def]
    return shape[1] * shape[2] if axis == 0 else (shape[2] if axis == 1 else 1)


@compiled
def _near(shape, voxel, place, way):  # type: ignore[no-untyped-def]
    """Return the neighbour of a voxel, -1 = none; ways are -z, +z, -y, +y, -x, +x."""
    axis = way >> 1
    if way & 1 == 0:
        return voxel - _stride(shape, axis) if place[axis] > 0 else -1
    return voxel + _stride(shape, axis) if place[axis] + 1 < shape[axis] else -1


@compiled
def _step(cost, voxel, near, way):  # type: ignore[no-untyped-def]
    """Return what it costs to go from a voxel to its neighbour."""
    return np.int64(cost[way >> 1, max(voxel, near)])


@compiled
def _hangs(cost, shape, voxel, start, limit):  # type: ignore[no-untyped-def]
    place = _place(shape, voxel)
    for way in range(2 * start):
        near = _near(shape, voxel, place, way)
        if near >= 0 and _step(cost, voxel, near, way) < limit:
            return True
    return False


@compiled
def _queue(shape, ids, start, first, last):  # type: ignore[no-untyped-def]
    """Return a queue of the seeds that have a free neighbour, all on the first level."""
    voxels, seeds = np.empty(1024, np.int64), 0
    for voxel in range(ids.size):
        if ids[voxel] != 0 and ids[voxel] != OUTSIDE and _borders(shape, ids, voxel, start):
            voxels = _room(voxels, seeds)
            voxels[seeds] = voxel
            seeds += 1
    following = np.arange(1, voxels.size + 1)
    if seeds > 0:
        first[0], last[0], following[seeds - 1] = 0, seeds - 1, -1
    return voxels, following, voxels.copy(), seeds


@compiled
def _borders(shape, ids, voxel, start):  # type: ignore[no-untyped-def]
    place = _place(shape, voxel)
    for axis in range(start, 3):
        stride = _stride(shape, axis)
        if place[axis] > 0 and ids[voxel - stride] == 0:
            return True
        if place[axis] + 1 < shape[axis] and ids[voxel + stride] == 0:
            return True
    return False


@compiled
def _room(values, used):  # type: ignore[no-untyped-def]
    """Return an array with room for one more than is used: this one, or a copy of twice the length."""
    if used < values.size:
        return values
    longer = np.empty(2 * values.size, values.dtype)
    longer[:used] = values
    return longer
