"""Affinities to fragments block by block, and which fragments of neighbouring blocks are the same.

Neighbouring blocks both cut the voxels around their shared face into fragments. There each finds its counterparts, and
those that are each other's largest become one group. What is left of their differences is settled in `settle.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import contingency
from napari_tokenunify.segment.block_work import save
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.fragments import fragments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.segment.block_work import BlockWork
    from napari_tokenunify.segment.blocks.grid import Block

_BEGINS, _GROUPS = "begins.npy", "groups.npy"


def cut_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Cut a block with its halo into fragments, and keep them under ids of the block's own.

    Returns
    -------
    dict
        `core`: how many have voxels in the core, their ids are 1..core; `all`: how many there are with the halo.
    """
    outer = block.outer.shifted(work.start)
    mask = None if work.mask is None else work.mask.read(block.outer) != 0
    found = fragments(
        work.affinities.read(outer),
        work.affinities.offsets,
        work.config,
        voxel_size_nm=work.affinities.voxel_size_nm,
        mask=mask,
    )
    count = int(found.max(initial=0))
    in_core = np.zeros(count + 1, bool)
    in_core[found[block.inner.slices]] = True
    in_core[0] = False
    new = np.zeros(count + 1, np.uint32)
    core = int(in_core.sum())
    new[in_core] = np.arange(1, core + 1)
    new[1:][~in_core[1:]] = np.arange(core + 1, count + 1)
    work.save_voxels("cut", block, new[found])
    return {"core": core, "all": count}


def match_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Find which fragments of a block go on in the blocks above it along z, y and x.

    Returns
    -------
    dict
        `pairs`: how many were found. They are kept as rows (id here, other block, id there).
    """
    rows = [np.empty((0, 3), np.int64)]
    for axis, other in work.grid.above(block):
        around = _around_face(block, other, axis)
        if around is not None:
            here, there = _mutual_largest(cut_ids(work, block, around), cut_ids(work, other, around))
            rows.append(np.stack([here, np.full_like(here, other.index), there], axis=1))
    pairs = np.concatenate(rows)
    work.save("match", block, pairs)
    return {"pairs": len(pairs)}


def _around_face(block: Block, other: Block, axis: int) -> Box | None:
    """Return the voxels around the face between two cores where neither cut is near its end: half a halo."""
    start, stop, face = list(block.core.start), list(block.core.stop), block.core.stop[axis]
    start[axis], stop[axis] = -(-(face + other.outer.start[axis]) // 2), (face + block.outer.stop[axis]) // 2
    if stop[axis] <= start[axis]:  # no halo along this axis
        return None
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def cut_ids(work: BlockWork, block: Block, box: Box) -> NDArray[np.uint32]:
    """Return what `cut_block` has kept of a block, in a box that lies in its outer one."""
    return work.load_voxels("cut", block, block.outer, box, np.uint32)


def _mutual_largest(here: NDArray[np.uint32], there: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of ids that share more voxels with each other than with any other; 0 is no fragment.

    Of several with the same number of voxels the smallest id is taken. A pair that shares less than half of the
    smaller of the two is none: both then mostly lie in others.
    """
    table = contingency(here, there, ignore=(0,), ignore_segments=(0,))
    a, b, voxels = table.truth.astype(np.int64), table.segments.astype(np.int64), table.voxels
    best_of_a, best_of_b = np.zeros(len(a), bool), np.zeros(len(a), bool)
    best_of_a[_first_of_each(a, voxels, b)] = True
    best_of_b[_first_of_each(b, voxels, a)] = True
    size_a, size_b = np.bincount(a, voxels), np.bincount(b, voxels)
    kept = best_of_a & best_of_b & (2 * voxels >= np.minimum(size_a[a], size_b[b]))
    return a[kept], b[kept]


def _first_of_each(ids: NDArray[np.int64], voxels: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each id the row with most voxels; of several the one with the smallest other id."""
    order = np.lexsort((others, -voxels, ids))
    begins = np.flatnonzero(np.diff(ids[order], prepend=-1))
    rows: NDArray[np.int64] = order[begins]
    return rows


def join_blocks(work: BlockWork, cut: list[dict[str, int]]) -> None:
    """Put pieces that were matched into one group, over the whole volume.

    Parameters
    ----------
    work : BlockWork
        Its matches are read; the groups are written beside them, 0 for those that have no voxel in a core.
    cut : list of dict
        What `cut_block` has returned for each block, in the order of the grid.
    """
    begins = np.cumsum([0, *(one["all"] for one in cut)], dtype=np.int64)
    total = int(begins[-1])
    linked = [np.empty((0, 2), np.int64)]
    in_core = np.zeros(total, bool)
    for block in work.grid:
        first = begins[block.index]
        in_core[first : first + cut[block.index]["core"]] = True
        here, other, there = work.load("match", block).T
        linked.append(np.stack([first + here - 1, begins[other] + there - 1], axis=1))
    a, b = np.concatenate(linked).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(total, total))
    piece = connected_components(graph, directed=False)[1] if total else np.empty(0, np.int64)
    groups = np.unique(piece[in_core])
    new = np.zeros(total, np.uint64)
    new[groups] = np.arange(1, len(groups) + 1)
    for name, array in ((_BEGINS, begins), (_GROUPS, new[piece])):
        save(work.folder / WORK / name, array)


def groups_of(work: BlockWork, block: Block) -> NDArray[np.uint64]:
    """Return the group of each fragment of a block, by the id that `cut_ids` gives; 0 of 0."""
    begins, groups = (
        np.load(work.folder / WORK / name, mmap_mode="r", allow_pickle=False) for name in (_BEGINS, _GROUPS)
    )
    return np.concatenate([np.zeros(1, np.uint64), groups[begins[block.index] : begins[block.index + 1]]])
