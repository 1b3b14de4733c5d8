"""What is done with one block on the way from affinities to a region graph, and how blocks are joined.

Neighbouring blocks both cut the voxels around their shared face into fragments. There each finds its counterparts, and
those that are each other's largest become one fragment, so that none ends where a block does.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from zarr.codecs import BloscCodec

from napari_tokenunify.affinities import offset_reach
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import Contingency, ContingencySum, contingency
from napari_tokenunify.network.atomic import whole_file
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.fragment_store import CHUNK, FRAGMENTS, writable_fragments
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.region_graph import BlockStatistics, RegionGraph, block_statistics, merge_statistics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.config import FragmentsConfig
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.affinity_store import AffinityStore
    from napari_tokenunify.segment.blocks.grid import Block, BlockGrid

_BEGINS, _IDS = "begins.npy", "ids.npy"
_CODEC: Final = BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle", typesize=4)


@dataclass(frozen=True, eq=False)
class PlacedVolume:
    """A volume, and its voxel (z, y, x) that the first voxel of the segmentation is."""

    volume: Volume
    start: Triple

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box in voxels of the segmentation."""
        return self.volume.read(box.shifted(self.start))


@dataclass(frozen=True, eq=False)
class BlockWork:
    """What the work on every block needs to know; crosses to other processes, where the files are opened again.

    Attributes
    ----------
    folder : Path
        The segmentation that is being made; what is needed for a while lies in its folder `work`.
    affinities : AffinityStore
        What is cut.
    start : tuple of int
        The voxel (z, y, x) of the affinities that the first voxel of the segmentation is.
    grid : BlockGrid
        The blocks, in voxels of the segmentation.
    config : FragmentsConfig
        How affinities are cut.
    mask : PlacedVolume, optional
        Nothing is segmented where it is 0.
    labels : PlacedVolume, optional
        What a threshold is tuned on.
    """

    folder: Path
    affinities: AffinityStore
    start: Triple
    grid: BlockGrid
    config: FragmentsConfig
    mask: PlacedVolume | None = None
    labels: PlacedVolume | None = None


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
    local = zarr.create_array(
        _place(work, "cut", block),
        shape=found.shape,
        dtype="uint32",
        chunks=tuple(min(4 * c, n) for c, n in zip(CHUNK, found.shape, strict=True)),
        compressors=_CODEC,
        overwrite=True,
    )
    local[:] = new[found]
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
            here, there = _mutual_largest(_local(work, block, around), _local(work, other, around))
            rows.append(np.stack([here, np.full_like(here, other.index), there], axis=1))
    pairs = np.concatenate(rows)
    _save(_npy(work, "match", block), pairs)
    return {"pairs": len(pairs)}


def _around_face(block: Block, other: Block, axis: int) -> Box | None:
    """Return the voxels on both sides of the face between two cores that both blocks have cut."""
    start, stop = list(block.core.start), list(block.core.stop)
    start[axis], stop[axis] = other.outer.start[axis], block.outer.stop[axis]
    if stop[axis] <= start[axis]:  # no halo along this axis
        return None
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _local(work: BlockWork, block: Block, box: Box) -> NDArray[np.uint32]:
    z, y, x = block.outer.start
    cut: Any = zarr.open_array(_place(work, "cut", block), mode="r")
    local: NDArray[np.uint32] = cut[box.shifted((-z, -y, -x)).slices]
    return local


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


def join_blocks(work: BlockWork, cut: list[dict[str, int]]) -> int:
    """Give every fragment an id of the whole volume, the same for pieces that were matched.

    Parameters
    ----------
    work : BlockWork
        Its matches are read, and the ids are written beside them.
    cut : list of dict
        What `cut_block` has returned for each block, in the order of the grid.

    Returns
    -------
    int
        Number of fragments n; their ids are 1..n in the order of blocks and of ids in them.
    """
    begins = np.cumsum([0, *(one["all"] for one in cut)], dtype=np.int64)
    total = int(begins[-1])
    linked = [np.empty((0, 2), np.int64)]
    in_core = np.zeros(total, bool)
    for block in work.grid:
        first = begins[block.index]
        in_core[first : first + cut[block.index]["core"]] = True
        here, other, there = np.load(_npy(work, "match", block), allow_pickle=False).T
        linked.append(np.stack([first + here - 1, begins[other] + there - 1], axis=1))
    a, b = np.concatenate(linked).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(total, total))
    piece = connected_components(graph, directed=False)[1] if total else np.empty(0, np.int64)
    groups, first_seen = np.unique(piece[in_core], return_index=True)
    new = np.zeros(total, np.uint64)  # id of each group; those that lie in halos alone stay 0
    new[groups[np.argsort(first_seen)]] = np.arange(1, len(groups) + 1)
    for name, array in ((_BEGINS, begins), (_IDS, new[piece])):
        _save(work.folder / WORK / name, array)
    return len(groups)


def write_block(work: BlockWork, block: Block) -> dict[str, str]:
    """Write the core of a block under the ids of the whole volume.

    Returns
    -------
    dict
        `hash`: hexadecimal, of the voxels and of where they lie.
    """
    begins, ids = (np.load(work.folder / WORK / name, mmap_mode="r", allow_pickle=False) for name in (_BEGINS, _IDS))
    of_block = ids[begins[block.index] : begins[block.index + 1]]
    voxels = np.concatenate([np.zeros(1, np.uint64), of_block])[_local(work, block, block.core)]
    writable_fragments(work.folder / FRAGMENTS)[block.core.slices] = voxels
    content = str(block.core).encode() + voxels.astype("<u8", copy=False).tobytes()
    return {"hash": hashlib.blake2b(content, digest_size=16).hexdigest()}


def measure_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Gather what a block adds to the region graph, from the fragments as written.

    Returns
    -------
    dict
        `edges`: how many pairs of fragments touch in it. The statistics are kept.
    """
    down, up = offset_reach(work.affinities.offsets)
    start = tuple(a + d for a, d in zip(block.core.start, down, strict=True))
    stop = tuple(b + u for b, u in zip(block.core.stop, up, strict=True))
    around = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).clipped(work.grid.shape) or block.core
    z, y, x = around.start
    found = block_statistics(
        np.asarray(writable_fragments(work.folder / FRAGMENTS)[around.slices]),
        work.affinities.read(around.shifted(work.start)),
        work.affinities.offsets,
        block.core.shifted((-z, -y, -x)),
    )
    _save_arrays(work, "measure", block, asdict(found))
    return {"edges": len(found.edges)}


def merge_blocks(work: BlockWork, nodes: int) -> RegionGraph:
    """Return the region graph of the volume from what `measure_block` has kept of each block."""
    return merge_statistics((BlockStatistics(**_load_arrays(work, "measure", block)) for block in work.grid), nodes)


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
    _save_arrays(work, "compare", block, asdict(found))
    return {"labelled": found.total}


def merge_comparisons(work: BlockWork) -> Contingency:
    """Return the counts of the volume from what `compare_block` has kept of each block."""
    total = ContingencySum()
    for block in work.grid:
        total.add(Contingency(**_load_arrays(work, "compare", block)))
    return total.result()


def _place(work: BlockWork, kind: str, block: Block) -> Path:
    """Return where a block keeps something for a while; the folder is made."""
    folder = work.folder / WORK / kind
    folder.mkdir(exist_ok=True)
    return folder / str(block.index)


def _npy(work: BlockWork, kind: str, block: Block) -> Path:
    return _place(work, kind, block).with_suffix(".npy")


def _save(path: Path, array: NDArray[Any]) -> None:
    with whole_file(path, SegmentError) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _save_arrays(work: BlockWork, kind: str, block: Block, arrays: dict[str, NDArray[Any]]) -> None:
    path = _place(work, kind, block).with_suffix(".npz")
    with whole_file(path, SegmentError) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load_arrays(work: BlockWork, kind: str, block: Block) -> dict[str, NDArray[Any]]:
    with np.load(_place(work, kind, block).with_suffix(".npz"), allow_pickle=False) as arrays:
        return dict(arrays)
