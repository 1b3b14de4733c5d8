"""How long an edit takes among 1 million fragments with 5 million contacts, and what the undo of 10,000 of them holds.

Each time is from the call until the edit is on the disk and the segment of every fragment is known anew; targets are
for the 95th percentile.

- merge, undo, redo   of segments of 64 fragments: at most 50 ms each.
- split               of a segment of 64, and of one of 10,000 fragments (minimum cut): at most 300 ms.
- anew                the segment of every fragment from all edits, as when the threshold moves. The ratio says how much
                      less an edit costs.
- memory              10,000 merges that can all be undone, on 125,000 fragments: at most 50 MB.
- queue               all suggestions: only told.

    python benchmarks/proofread.py               # some five minutes
    python benchmarks/proofread.py --side 40 --edits 200
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rows import Row, Rows, add_json_option

from napari_tokenunify.proofread import Proofreading, corrected, suggest
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import RegionGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CUBE = 4  # fragments of a segment, along each axis
LARGE = (21, 21, 23)  # of the large one: 10,143


def lattice(folder: Path, side: int) -> Segmentation:
    """Make fragments of a voxel, contacts along the axes and at random, segments that are cubes, and a large one."""
    ids = np.arange(1, side**3 + 1, dtype=np.uint64).reshape(side, side, side)
    chance = np.random.default_rng(0)
    near = [np.stack([np.delete(ids, -1, a).ravel(), np.delete(ids, 0, a).ravel()], axis=1) for a in range(3)]
    far = np.sort(chance.integers(1, ids.size + 1, (21 * ids.size // 10, 2), np.uint64))
    pairs = np.unique(np.concatenate([*near, far[far[:, 0] != far[:, 1]]]), axis=0)
    mean, count = chance.random(len(pairs), np.float32), chance.integers(1, 400, len(pairs)).astype(np.float64)
    none = (np.empty((0, 2), np.uint64), np.empty(0), np.empty(0, np.float32))
    graph = RegionGraph(ids.size, pairs, count, mean, mean, *none, np.r_[0, np.full(ids.size, 4000, np.int64)])
    z, y, x = (axis // CUBE * CUBE for axis in np.indices(ids.shape))
    segments = ids[z, y, x]
    corner = tuple(slice(side - n, side) for n in LARGE)
    segments[corner] = ids[-1, -1, -1]
    return Segmentation.create(folder, ids, graph, np.r_[np.uint64(0), segments.ravel()], spec={"method": "multicut"})


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def row(what: str, times: list[float], target: float) -> Row:
    """Say the 95th percentile, and the median and the worst beside it."""
    note = f"median {np.median(times):.1f}, worst {max(times):.1f}, {len(times)} of them"
    return Row(f"{what}, 95th percentile", float(np.percentile(times, 95)), target, unit="ms", note=note)


def neighbours(segmentation: Segmentation, number: int) -> NDArray[np.uint64]:
    """Return pairs of fragments that touch and are in two segments, none of them the large one."""
    edges, table = segmentation.graph.edges, segmentation.table
    apart = (table[edges[:, 0]] != table[edges[:, 1]]) & (table[edges] != table[-1]).all(axis=1)
    return np.random.default_rng(1).permutation(edges[apart])[:number]


def edits(folder: Path, side: int, number: int) -> Iterator[Row]:
    """Merge, undo, redo and split, and make the whole table anew."""
    with Proofreading.open(lattice(folder, side)) as reading:
        size = f"{reading.graph.nodes:,} fragments, {len(reading.graph.edges):,} contacts"
        print(size)

        def seen(edit: Callable[[], object]) -> float:
            return milliseconds(lambda: (edit(), reading.table()))

        reading.merge(1, 1 + CUBE)  # the first one opens the files
        reading.table()
        pairs = neighbours(reading.segmentation, number).tolist()
        merges = [seen(lambda u=u, v=v: reading.merge(u, v)) for u, v in pairs]  # type: ignore[misc]
        undos = [seen(reading.undo) for _ in pairs]
        redos = [seen(reading.redo) for _ in pairs]
        for what, times in (("merge", merges), ("undo", undos), ("redo", redos)):
            yield row(what, times, 50)
        few = [seen(lambda u=u: reading.split([u], [u + 1])) for u in _inside(reading.segmentation, number)]  # type: ignore[misc]
        yield row("split of 64 fragments", few, 300)
        many, large = [], np.flatnonzero(reading.table() == reading.table()[-1]).tolist()
        for turn in range(max(20, number // 10)):  # seeds over both ends, so that the cut goes through the middle
            seeds = [np.random.default_rng(turn).permutation(end)[:50].tolist() for end in (large[:483], large[-483:])]
            many.append(seen(lambda seeds=seeds: reading.split(*seeds)))  # type: ignore[misc]
            reading.undo()
            reading.table()
        yield row(f"split of {np.prod(LARGE):,} fragments", many, 300)
        anew = [milliseconds(lambda: corrected(reading.graph, reading.base(), reading.constraints)) for _ in range(9)]
        whole = float(np.median(anew))
        yield Row("anew: segments from all edits", whole, unit="ms", note=f"{len(reading.in_force):,} edits")
        ratio = whole / float(np.median(merges))
        yield Row("anew against a merge, time", ratio, at_least=True, is_ratio=True)
        taken = milliseconds(lambda: suggest(reading.graph, reading.table(), constraints=reading.constraints))
        yield Row("queue: all suggestions", taken / 1e3, unit="s")


def _inside(segmentation: Segmentation, number: int) -> list[int]:
    """Return fragments whose next one is in the same segment: one each of so many segments of 64."""
    table = segmentation.table.astype(np.int64)
    is_whole = np.bincount(table)[table[1:-1]] == CUBE**3
    together = np.flatnonzero((table[1:-1] == table[2:]) & is_whole) + 1
    _, first = np.unique(table[together], return_index=True)
    chosen: list[int] = np.random.default_rng(2).permutation(together[first])[:number].tolist()
    return chosen


def memory(folder: Path, number: int) -> Iterator[Row]:
    """Say by how much the process grows with edits that can all be undone."""
    with Proofreading.open(lattice(folder, 50)) as reading:
        pairs = neighbours(reading.segmentation, number).tolist()
        for u, v in pairs[:20]:
            reading.merge(u, v)
        reading.table()
        before = _resident_mb()
        for u, v in pairs[20:]:
            if len({int(name) for name in reading.table()[[u, v]]}) == 2:
                reading.merge(u, v)
            else:
                reading.comment("joined already", u)
        reading.table()
        grown, made = _resident_mb() - before, len(reading.in_force)
        undos = [milliseconds(lambda: (reading.undo(), reading.table())) for _ in range(made)]
        if reading.in_force:
            raise RuntimeError("not all edits were undone")
    yield Row(f"memory of {made:,} edits that can be undone", grown, 50, unit="MB")
    yield row(f"undo of {made:,} edits one by one", undos, 50)


def _resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=100, help="fragments along each axis")
    parser.add_argument("--edits", type=int, default=400, help="of each kind that is timed")
    parser.add_argument("--undone", type=int, default=10_000, help="edits whose memory is measured")
    add_json_option(parser)
    options = parser.parse_args()
    rows = Rows()
    with tempfile.TemporaryDirectory() as place:
        for found in edits(Path(place) / "edits", options.side, options.edits):
            rows.add(found)
        for found in memory(Path(place) / "memory", options.undone):
            rows.add(found)
    rows.end(options.json)


if __name__ == "__main__":
    main()
