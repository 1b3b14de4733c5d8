"""Speed and memory of the way from affinities to segments: thresholds, slices, blocks and workers.

- table     `Segmentation.at(threshold)` for 1 million fragments and 5 million edges: at most 50 ms.
- slice     a 1250 x 1250 section of a lazy view, chunks in the page cache: at most 20 ms; first for sections whose
            chunks were not decoded yet, then for neighbours of those, then for another threshold.
- memory    the stage on a volume and on one 64 times as large, same blocks: peak memory grows by less than 20 %. What
            the graph, the tree and the tables take grows with the number of fragments and is given beside it.
- workers   the stage in blocks by one process and by two: at least 1.5 times as fast. Start of the processes included.
- blocks    real labels (NTU_DATA): the segments of blocks against those of the whole volume in one block: VOI <= 0.05.

    python benchmarks/segment.py                 # a quarter of an hour on two cores
    python benchmarks/segment.py table slice
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rows import Row, Rows, add_json_option

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.metrics import variation_of_information
from napari_tokenunify.segment import Segmentation, write_affinities
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.merge_tree import merge_tree
from napari_tokenunify.segment.region_graph import RegionGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_tokenunify.geometry import Box, Triple

DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[1] / "../shared/data"))
PROBE = """
import json, sys
from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.segment import segment
stage = segment(SegmentConfig(**json.loads(sys.argv[1])))
if __name__ == "__main__":
    while True:
        try:
            next(stage)
        except StopIteration as end:
            result = end.value
            break
    peak = next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps({**result, "peak_memory_mb": peak}))
"""


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Run the stage in a fresh process and return its result, with the peak memory of that process."""
    words = [sys.executable, "-c", PROBE, json.dumps(settings)]
    result: dict[str, Any] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return result


def table(folder: Path) -> Iterator[Row]:
    """One voxel a fragment, in a lattice of 100 cubed, and random edges beside those of the lattice."""
    ids = np.arange(1, 1_000_001, dtype=np.uint64).reshape(100, 100, 100)
    chance = np.random.default_rng(0)
    near = [np.stack([np.delete(ids, -1, a).ravel(), np.delete(ids, 0, a).ravel()], axis=1) for a in range(3)]
    pairs = np.sort(np.concatenate([*near, chance.integers(1, 1_000_001, (2_100_000, 2), np.uint64)]), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)[:5_000_000]
    mean, count = chance.random(len(pairs), np.float32), np.ones(len(pairs))
    none = (np.empty((0, 2), np.uint64), np.empty(0), np.empty(0, np.float32))
    graph = RegionGraph(ids.size, pairs, count, mean, mean, *none, np.r_[0, np.ones(ids.size, np.int64)])
    started = time.perf_counter()
    tree = merge_tree(graph, "mean")
    seconds = time.perf_counter() - started
    Segmentation.create(folder / "million", ids, graph, tree.table(0.5), tree=tree, spec={"method": "mean"})
    found = Segmentation.open(folder / "million")
    first = milliseconds(lambda: found.at(0.5))
    times = [milliseconds(lambda t=t: found.at(t)) for t in np.linspace(0, 1, 21)]  # type: ignore[misc]
    note = f"{ids.size} fragments, {len(pairs)} edges; worst {max(times):.1f}, first with reading the tree {first:.0f}"
    note = f"{note}; agglomeration {seconds:.1f} s"
    yield Row("table: at(threshold)", statistics.median(times), 50, unit="ms", note=note)


def slices(folder: Path) -> Iterator[Row]:
    """Fragments of about 20 x 25 x 25 voxels with bent borders."""
    z, y, x = np.ogrid[:128, :1250, :1250]
    bend = 4 * np.sin(y / 9 + z / 5) + 4 * np.sin(x / 11)
    ids = (z + bend).astype(np.int64) // 20 * 10_000 + (y + bend).astype(np.int64) // 25 * 100
    ids = ids + (x + bend).astype(np.int64) // 25
    ids = np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.uint64) + np.uint64(1)
    nodes = int(ids.max())
    none = (np.empty((0, 2), np.uint64), np.empty(0), np.empty(0, np.float32))
    sizes = np.bincount(ids.ravel(), minlength=nodes + 1)
    graph = RegionGraph(nodes, none[0], none[1], none[2], none[2], *none, sizes)
    tables = np.random.default_rng(0).integers(1, nodes, (2, nodes + 1)).astype(np.uint64)
    tables[:, 0] = 0
    found = Segmentation.create(folder / "sections", ids, graph, tables[0], spec={"method": "none"})
    view = found.view()
    for section in (2, 65):  # maps the files, and lets the process have its memory
        view[section]
    fresh = [milliseconds(lambda z=z: view[z]) for z in range(6, 126, 8)]  # type: ignore[misc]
    near = [milliseconds(lambda z=z: view[z]) for z in (121, 122, 123, 121, 122)]  # type: ignore[misc]
    again = []
    for chosen in (1, 0, 1, 0):
        view.set_table(tables[chosen])
        again.append(milliseconds(lambda: view[122]))
    for what, times in (
        ("not decoded yet", fresh),
        ("neighbour of one that was shown", near),
        ("the same with another table", again),
    ):
        yield Row(f"slice: {what}", statistics.median(times), 20, unit="ms", note=f"worst {max(times):.1f}")


def cheap_affinities(path: Path, shape: Triple) -> Path:
    """Write affinities of bent bricks, cell by cell: 4,000 voxels a fragment; real supervoxels of FIB-25 have 5,000."""
    layout = AffinityLayout(shape, DEFAULT_OFFSETS, voxel_size_nm=(8.0, 8.0, 8.0))
    writer = AffinityWriter.create(path, layout)

    def brick(box: Box) -> np.ndarray:
        z, y, x = np.ogrid[box.slices]
        bend = 3 * np.sin(y / 9 + z / 7) + 3 * np.sin(x / 11)
        inside = [((axis + bend) % 21 > 1.5) for axis in (z, y, x)]
        return inside[0] & inside[1] & inside[2]

    for cell in BlockGrid(shape, layout.cell, (0, 0, 0)):
        writer.write(cell.position, np.broadcast_to(brick(cell.core) * np.uint8(255), (3, *cell.core.shape)))
    writer.finish()
    return path


def memory(folder: Path) -> Iterator[Row]:
    """Run a volume of 27 blocks, one of them with the whole halo around it, and one 64 times as large."""
    peaks, notes = [], []
    for name, shape in (("small", (96, 192, 192)), ("large", (384, 768, 768))):
        affinities = cheap_affinities(folder / f"{name}.zarr", shape)
        settings = {
            "affinities": str(affinities),
            "out": str(folder / name),
            "block": (32, 64, 64),
            "halo": (4, 8, 8),
        }
        result = run(settings)
        parts = sum(path.stat().st_size for path in (folder / name).rglob("*.npy")) / 1e6
        peaks.append(result["peak_memory_mb"])
        notes.append(
            f"{name} {result['peak_memory_mb']:.0f} MB in {result['seconds']:.0f} s, {result['blocks']} blocks, "
            f"{result['fragments']} fragments, graph and tables {parts:.1f} MB"
        )
    what = "memory: volume 64 times as large against small"
    yield Row(what, peaks[1] / peaks[0], 1.2, is_ratio=True, note="; ".join(notes))


def real_affinities(folder: Path, wider: int = 0) -> Path | None:
    """Write the affinities that the labels of a real volume say, 250 voxels cubed or mirrored to be wider."""
    if not (DATA / "fib25_train_test.npz").exists():
        print(f"real data: skipped, as {DATA} does not hold it (set NTU_DATA)", file=sys.stderr)
        return None
    path = folder / f"real {wider}.zarr"
    if not path.exists():
        labels = np.load(DATA / "fib25_train_test.npz")["labels"]
        labels = np.pad(labels, [(0, 0), (0, wider), (0, wider)], mode="symmetric")
        write_affinities(path, known_affinities(labels)[0].astype(np.uint8) * np.uint8(255), voxel_size_nm=(10, 10, 10))
    return path


def workers(folder: Path) -> Iterator[Row]:
    """Blocks of 64 x 128 x 128 of the real volume, made nine times as large."""
    affinities = real_affinities(folder, wider=500)
    if affinities is None:
        return
    seconds = {}
    for number in (1, 2):
        out = folder / f"workers {number}"
        settings = {"affinities": str(affinities), "out": str(out), "block": (64, 128, 128), "workers": number}
        seconds[number] = run(settings)["seconds"]
    note = ", ".join(f"{number}: {found:.1f} s" for number, found in seconds.items())
    yield Row(
        "workers: speed of two against one", seconds[1] / seconds[2], 1.5, at_least=True, is_ratio=True, note=note
    )


def blocks(folder: Path) -> Iterator[Row]:
    """Blocks of the real volume against one block, and both against the labels."""
    affinities = real_affinities(folder)
    if affinities is None:
        return
    found = {}
    for name, block in (("one", (256, 256, 256)), ("many", (64, 128, 128))):
        run({"affinities": str(affinities), "out": str(folder / name), "block": block})
        found[name] = Segmentation.open(folder / name)
    one, many = (found[name].view()[:] for name in ("one", "many"))
    labels = np.load(DATA / "fib25_train_test.npz")["labels"]
    whole = sum(variation_of_information(labels, many))
    pieces = variation_of_information(found["one"].fragments[:], found["many"].fragments[:])
    note = (
        f"fragments {found['one'].nodes} and {found['many'].nodes}, VOI between them {sum(pieces):.3f}; "
        f"blocks against the labels {whole:.3f}, one block {sum(variation_of_information(labels, one)):.3f}"
    )
    between = sum(variation_of_information(one, many))
    yield Row("blocks: VOI of segments, blocks against whole", between, 0.05, unit="bits", note=note)


PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "table": table,
    "slice": slices,
    "memory": memory,
    "workers": workers,
    "blocks": blocks,
}


def main() -> None:
    """Print a Markdown table; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; by default all")
    add_json_option(parser)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", end="\n\n")
    rows = Rows()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.parts or PARTS:
            for row in PARTS[name](Path(folder)):
                rows.add(row)
    rows.end(options.json)


if __name__ == "__main__":
    main()
