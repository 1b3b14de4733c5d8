"""What a block whose fragments are settled adds to the segmentation: voxels, contacts, and counts of labels."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import offset_reach
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import Contingency, ContingencySum, contingency
from napari_tokenunify.segment.fragment_store import FRAGMENTS, writable_fragments
from napari_tokenunify.segment.region_graph import BlockStatistics, RegionGraph, block_statistics, merge_statistics
from napari_tokenunify.segment.settle import numbers_of, settled_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokenunify.segment.block_work import BlockWork
    from napari_tokenunify.segment.blocks.grid import Block


def write_block(work: BlockWork, block: Block) -> dict[str, Any]:
    """Write the core of a block under the ids of the whole volume, and gather what it adds to the region graph.

    Returns
    -------
    dict
        `hash`: hexadecimal, of the voxels and of where they lie; `edges`: how many pairs of fragments touch in it. The
        statistics are kept.
    """
    down, up = offset_reach(work.affinities.offsets)
    start = tuple(a + d for a, d in zip(block.core.start, down, strict=True))
    stop = tuple(b + u for b, u in zip(block.core.stop, up, strict=True))
    around = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).clipped(work.grid.shape) or block.core
    ids = numbers_of(work)[settled_ids(work, around)]
    core = block.core.seen_from(around.start)
    voxels = np.ascontiguousarray(ids[core.slices])
    writable_fragments(work.folder / FRAGMENTS)[block.core.slices] = voxels
    there, store = around.shifted(work.start), work.affinities
    spread = store.read_spread(there) if store.has_spread else None
    found = block_statistics(ids, store.read(there), store.offsets, core, spread)
    work.save_arrays("graph", block, asdict(found))
    content = str(block.core).encode() + voxels.astype("<u8", copy=False).tobytes()
    return {"hash": hashlib.blake2b(content, digest_size=16).hexdigest(), "edges": len(found.edges)}


@dataclass(frozen=True)
class _Kept:
    """What `write_block` has kept of each block, read anew each time it is gone through."""

    work: BlockWork

    def __iter__(self) -> Iterator[BlockStatistics]:
        return (BlockStatistics(**self.work.load_arrays("graph", block)) for block in self.work.grid)


def merge_blocks(work: BlockWork, nodes: int) -> RegionGraph:
    """Return the region graph of the volume from what `write_block` has kept of each block."""
    return merge_statistics(_Kept(work), nodes)


def compare_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Count the voxels that each label shares with each fragment in a block.

    Returns
    -------
    dict
        `labelled`: voxels that are labelled and lie in a fragment. The counts are kept.
    """
    if work.labels is None:
        raise SegmentError("There are no labels to compare with.")
    found = contingency(
        work.labels.read(block.core), np.asarray(writable_fragments(work.folder / FRAGMENTS)[block.core.slices])
    )
    work.save_arrays("compare", block, asdict(found))
    return {"labelled": found.total}


def merge_comparisons(work: BlockWork) -> Contingency:
    """Return the counts of the volume from what `compare_block` has kept of each block."""
    total = ContingencySum()
    for block in work.grid:
        total.add(Contingency(**work.load_arrays("compare", block)))
    return total.result()
