"""Speed of agglomeration: our region graph and merge tree against waterz, and the table behind a threshold slider.

A block of fib25_train_test with affinities made from its labels plus noise. waterz goes from the same fragments and
affinities to segments at one threshold; ours makes the region graph, all merges there are, and the table. Both take
turns in one process, and the ratio is the median over the rounds, so that other work on the machine disturbs both
alike. Compiling (Numba, once for a machine) does not count.

    python benchmarks/agglomerate.py         # about two minutes; the data folder is NTU_DATA, by default ../shared/data
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import waterz
from rows import Row, Rows, add_json_option

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import FragmentsConfig
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.merge_tree import merge_tree
from napari_tokenunify.segment.region_graph import RegionGraph, region_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[1] / "../shared/data"))
THRESHOLD = 0.5
RATIO, TABLE_MS = 1.1, 50.0
NODES, EDGES = 1_000_000, 5_000_000
WATERZ = {
    "quantile50": ("OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>", 256),
    "mean": ("OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>", 0),
}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what waterz writes to the process's output out of the table."""
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def block(sections: int) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    with np.load(DATA / "fib25_train_test.npz", allow_pickle=False) as data:
        labels = data["labels"][130 : 130 + sections]
    affinities = known_affinities(labels, DEFAULT_OFFSETS)[0].astype(np.float32)
    affinities += np.random.default_rng(0).normal(0, 0.2, affinities.shape).astype(np.float32)
    affinities = np.clip(affinities, 0, 1)
    return fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig()), affinities


def against_waterz(rows: Rows, rounds: int, sections: int) -> None:
    cut, affinities = block(sections)
    for linkage, (function, bins) in WATERZ.items():

        def ours(linkage: str = linkage) -> None:
            merge_tree(region_graph(cut, affinities, DEFAULT_OFFSETS), linkage).table(THRESHOLD)  # type: ignore[arg-type]

        def theirs(function: str = function, bins: int = bins) -> None:
            with silence():
                list(
                    waterz.agglomerate(
                        affinities,
                        [THRESHOLD],
                        fragments=cut.copy(),
                        scoring_function=function,
                        discretize_queue=bins,
                    )
                )

        ours()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
        ratio = statistics.median(a / b for a, b in pairs)
        a, b = (statistics.median(times) for times in zip(*pairs, strict=True))
        note = f"{'x'.join(map(str, cut.shape))}, {int(cut.max())} fragments; ours {a:.2f} s, waterz {b:.2f} s"
        rows.add(Row(f"ours against waterz, time, {linkage}", ratio, RATIO, is_ratio=True, note=note))


def large_graph() -> RegionGraph:
    """Return a graph in which nodes touch those with near ids, as fragments in scan order do."""
    rng = np.random.default_rng(0)
    u = rng.integers(1, NODES + 1, 2 * EDGES)
    v = u + rng.choice([1, 2, 97, 98, 100, 9800, 9801], 2 * EDGES) + rng.integers(0, 3, 2 * EDGES)
    keys = np.unique(u[v <= NODES] * (NODES + 1) + v[v <= NODES])
    keys = np.sort(rng.permutation(keys)[:EDGES])
    mean = rng.random(len(keys), np.float32)
    return RegionGraph(
        nodes=NODES,
        edges=np.stack([keys // (NODES + 1), keys % (NODES + 1)], axis=1).astype(np.uint64),
        count=rng.integers(1, 200, len(keys)).astype(float),
        mean=mean,
        largest=np.minimum(mean * 1.3, 1),
        far_edges=np.empty((0, 2), np.uint64),
        far_count=np.empty(0),
        far_mean=np.empty(0, np.float32),
        sizes=np.ones(NODES + 1, np.int64),
    )


def tables(rows: Rows, rounds: int) -> None:
    graph = large_graph()
    for linkage in WATERZ:
        start = time.perf_counter()
        tree = merge_tree(graph, linkage)  # type: ignore[arg-type]
        made = time.perf_counter() - start
        thresholds = np.linspace(0.05, 0.95, rounds)
        found = 1000 * statistics.median(seconds(partial(tree.table, value)) for value in thresholds)
        note = f"{graph.nodes} nodes, {len(graph.edges)} edges; tree made in {made:.1f} s"
        rows.add(Row(f"table(threshold), {linkage}", found, TABLE_MS, unit="ms", note=note))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often both sides run; more steady the median")
    parser.add_argument("--sections", type=int, default=100, help="sections of the block, at most 120")
    add_json_option(parser)
    options = parser.parse_args()
    rows = Rows()
    if (DATA / "fib25_train_test.npz").exists():
        against_waterz(rows, options.rounds, options.sections)
    else:
        print(f"waterz: skipped, as {DATA} does not hold fib25_train_test.npz (set NTU_DATA)", file=sys.stderr)
    tables(rows, 20)
    rows.end(options.json)


if __name__ == "__main__":
    main()
