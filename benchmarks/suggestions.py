"""How fast proofreading mends a segmentation: an automatic proofreader with ground truth follows the queue.

At each suggestion it accepts if the labels say so: a merge if the two fragments that touch are mostly in the same
neuron, a split if the two sides are mostly in different ones. Else it rejects. After each answer the suggestions are
made anew.
The same suggestions are gone through in three orders: ours (expected gain over expected effort), the largest
consequence first, and at random (mean of three seeds). Given are VOI after so many answers and after so many edits
(answers that were yes), and how many of both it takes to halve VOI.

fib25_train_test z >= 130, ids of 100 voxels or more, with the affinities of a network that was trained on z < 120:

- watershed  NeuroProof's supervoxels as they are
- own        the project's fragments, agglomerated with the default settings

    python benchmarks/suggestions.py --affinities affinities.zarr --plot docs/images/proofreading.png

`--affinities` is what `predict --box 130:250,0:250,0:250` makes, or a .npy file of uint8 (c, z, y, x) of these
sections. `--first 54 --last 126` scores other sections, e.g. to choose the weights of the ranking on.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.config import AgglomerateConfig, FragmentsConfig
from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import Contingency, contingency, variation_of_information
from napari_tokenunify.proofread.constraints import Constraints, as_keys
from napari_tokenunify.proofread.suggestions import Suggestions, suggest
from napari_tokenunify.segment import open_affinities
from napari_tokenunify.segment.agglomeration import agglomerate
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.names import named
from napari_tokenunify.segment.region_graph import RegionGraph, region_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.error_chance import Decision
    from napari_tokenunify.proofread.suggestions import Suggestion

    Order = Callable[[Suggestions], NDArray[np.int64]]

DATA = Path(os.environ.get("NTU_DATA", Path(__file__).parents[1] / "../shared/data"))
SMALLEST = 100
SEEDS = 3
SHOWN = {"answers": (25, 50, 100, 200, 400, 800), "edits": (25, 50, 100, 200)}


@dataclass(frozen=True, eq=False)
class Start:
    """A segmentation to mend, and the truth."""

    name: str
    graph: RegionGraph
    table: NDArray[np.uint64]
    counts: Contingency
    boxes: NDArray[np.int32]

    @cached_property
    def shared(self) -> sparse.csr_array:
        """Voxels that each fragment shares with each neuron."""
        _, column = np.unique(self.counts.truth, return_inverse=True)
        where = (self.counts.segments.astype(np.int64), column)
        return sparse.csr_array((self.counts.voxels, where), shape=(self.graph.nodes + 1, column.max() + 1))

    def neuron(self, side: NDArray[np.uint64] | list[int]) -> int | None:
        """Return the neuron that most voxels of some fragments are in; None without labels."""
        voxels = self.shared[np.asarray(side, np.int64)].sum(axis=0)
        return int(voxels.argmax()) if voxels.max() else None

    def voi(self, table: NDArray[np.uint64]) -> float:
        """Return the error of a table, in bits."""
        return sum(variation_of_information(self.counts.relabelled(table)))

    def best(self) -> float:
        """Return the VOI that is left when each fragment is where most of it belongs."""
        neurons = np.asarray(self.shared.argmax(axis=1), np.uint64).ravel() + np.uint64(1)
        return self.voi(neurons)


@dataclass
class Proofreader:
    """Accepts and rejects."""

    start: Start
    table: NDArray[np.uint64]
    decided: list[Decision] = field(default_factory=list)
    must: list[tuple[int, int]] = field(default_factory=list)
    cannot: list[tuple[int, int]] = field(default_factory=list)

    def queue(self) -> Suggestions:
        """Return what is suggested now."""
        constraints = Constraints(must_keys=as_keys(self.must), cannot_keys=as_keys(self.cannot))
        start = self.start
        return suggest(start.graph, self.table, constraints=constraints, decided=self.decided, boxes=start.boxes)

    def answer(self, suggestion: Suggestion) -> bool:
        """Return whether an edit was made."""
        is_merge = suggestion.kind == "merge"
        sides = [[fragment] for fragment in suggestion.fragments] if is_merge else suggestion.sides
        one, other = (self.start.neuron(side) for side in sides)
        accepted = one is not None and other is not None and (one == other) == is_merge
        self.decided.append(suggestion.decided(accepted=accepted))
        if accepted:
            (self.must if is_merge else self.cannot).append(tuple(sorted(suggestion.fragments)))
            for side in suggestion.sides:
                self.table[side] = side[0]
            if is_merge:
                self.table[suggestion.sides[1]] = suggestion.sides[0][0]
        return accepted


@dataclass(frozen=True, eq=False)
class Curve:
    """VOI and edits after 0, 1, 2, ... answers."""

    voi: NDArray[np.float64]
    edits: NDArray[np.int64]

    def after(self, steps: int, what: str) -> float:
        """Return VOI after so many answers or edits; the last one where there were fewer."""
        place = steps if what == "answers" else int(np.searchsorted(self.edits, steps))
        return float(self.voi[min(place, len(self.voi) - 1)])

    def reached(self, voi: float) -> int | None:
        """Return the number of answers after which VOI is no more than this; None where it never is."""
        there = np.flatnonzero(self.voi <= voi)
        return int(there[0]) if len(there) else None


def followed(start: Start, order: Order, budget: int) -> Curve:
    reader = Proofreader(start, start.table.copy())
    voi, edits = [start.voi(start.table)], [0]
    while len(voi) <= budget and len(queue := reader.queue()):
        for place in order(queue)[: budget + 1 - len(voi)]:
            suggestion = queue[int(place)]
            edited = reader.answer(suggestion)
            voi.append(start.voi(reader.table) if edited else voi[-1])
            edits.append(edits[-1] + edited)
            if edited or suggestion.kind == "split":  # else the others are suggested as before
                break
    return Curve(np.array(voi), np.array(edits))


def at_random(seed: int) -> Order:
    chance = np.random.default_rng(seed)
    return lambda queue: chance.permutation(len(queue))


ORDERS: dict[str, list[Order]] = {
    "ours": [lambda _: np.zeros(1, np.int64)],  # anew after each answer, as it learns from them
    "size": [lambda queue: np.argsort(-queue.voxels, kind="stable")],
    "random": [at_random(seed) for seed in range(SEEDS)],
}


def read_affinities(path: Path) -> NDArray[np.float32]:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False).astype(np.float32) / 255
    store = open_affinities(path)
    return store.read(Box.whole(store.shape))


def starts(affinities: NDArray[np.float32], sections: slice) -> list[Start]:
    with np.load(DATA / "fib25_train_test.npz", allow_pickle=False) as data:
        labels, watershed = data["labels"], data["watershed"][sections]
    truth = np.where(np.bincount(labels.ravel())[labels] >= SMALLEST, labels, 0)[sections].astype(np.uint64)
    _, numbered = np.unique(watershed, return_inverse=True)
    supervoxels = numbered.reshape(watershed.shape).astype(np.uint64) + np.uint64(1)
    own = fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig(), voxel_size_nm=(10.0, 10.0, 10.0))
    found = []
    for name, cut in (("watershed", supervoxels), ("own", own)):
        graph = region_graph(cut, affinities, DEFAULT_OFFSETS)
        table = np.arange(graph.nodes + 1, dtype=np.uint64)
        if name == "own":
            table = agglomerate(graph, AgglomerateConfig()).table
        found.append(Start(name, graph, named(table, graph.sizes), contingency(truth, cut), boxes_of(cut)))
    return found


def boxes_of(cut: NDArray[np.uint64]) -> NDArray[np.int32]:
    boxes = np.zeros((int(cut.max()) + 1, 6), np.int32)
    for fragment, box in enumerate(ndimage.find_objects(cut.astype(np.int32)), 1):
        if box is not None:
            boxes[fragment] = [*(span.start for span in box), *(span.stop for span in box)]
    return boxes


def told(start: Start, name: str, curves: list[Curve]) -> str:
    """Return a line of the table."""
    words = [start.name, name, f"{curves[0].voi[0]:.2f}"]
    for what, shown in SHOWN.items():
        most = min(len(curve.voi) - 1 if what == "answers" else curve.edits[-1] for curve in curves)
        words += [f"{np.mean([curve.after(n, what) for curve in curves]):.2f}" if n <= most else "" for n in shown]
    halves = [curve.reached(curve.voi[0] / 2) for curve in curves]
    sign = "> " if None in halves else ""
    last = [len(curve.voi) - 1 if half is None else half for curve, half in zip(curves, halves, strict=True)]
    words.append(f"{sign}{np.mean(last):.0f}")
    words.append(f"{sign}{np.mean([curve.edits[n] for curve, n in zip(curves, last, strict=True)]):.0f}")
    return f"| {' | '.join(words)} |"


def plot(path: Path, drawn: dict[str, tuple[Start, dict[str, list[Curve]]]]) -> None:
    """Draw VOI over answers and over edits, for each start."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(drawn), figsize=(8, 5.6), sharey=True, layout="constrained")
    for column, (name, (start, found)) in enumerate(drawn.items()):
        for row, what in enumerate(SHOWN):
            axis = axes[row, column]
            for order, colour in (("ours", "#0072b2"), ("size", "#d55e00"), ("random", "#777777")):
                curves = found[order]
                most = min(len(curve.voi) - 1 if what == "answers" else curve.edits[-1] for curve in curves)
                values = [np.mean([curve.after(n, what) for curve in curves]) for n in range(most + 1)]
                axis.plot(values, color=colour, label=order, linewidth=1.8)
            axis.axhline(start.voi(start.table) / 2, color="black", linestyle="--", linewidth=0.8, label="half")
            axis.axhline(start.best(), color="black", linestyle=":", linewidth=0.8, label="best with these fragments")
            axis.set(xlabel=what, ylabel="" if column else "VOI (bits)", ylim=(0, None), xlim=(0, None))
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, column].set_title(f"from {name}")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--affinities", type=Path, required=True)
    parser.add_argument("--first", type=int, default=130, help="section that they begin at")
    parser.add_argument("--last", type=int, default=250, help="section after their last")
    parser.add_argument("--answers", type=int, default=1000, help="how long each order is followed")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG file")
    options = parser.parse_args()
    if not (DATA / "fib25_train_test.npz").exists():
        print(f"skipped: {DATA} does not hold fib25_train_test.npz (set NTU_DATA)")
        return
    heads = [f"{n} {what}" for what, shown in SHOWN.items() for n in shown]
    print(f"| start | order | VOI | {' | '.join(heads)} | answers to half | edits to half |")
    print("|---|---|---:|" + "---:|" * (len(heads) + 2))
    drawn, notes = {}, []
    for start in starts(read_affinities(options.affinities), slice(options.first, options.last)):
        begun = time.perf_counter()
        left = Proofreader(start, start.table).queue().edits_left()
        curves = {
            name: [followed(start, order, options.answers) for order in orders] for name, orders in ORDERS.items()
        }
        for name in ORDERS:
            print(told(start, name, curves[name]), flush=True)
        drawn[start.name] = start, curves
        notes.append(
            f"{start.name}: {start.graph.nodes} fragments, {len(start.graph.edges)} contacts; best VOI with these "
            f"fragments {start.best():.2f}; edits worth their while, estimated at the start: {left}; "
            f"{time.perf_counter() - begun:.0f} s"
        )
    print("", *notes, sep="\n")
    if options.plot:
        plot(options.plot, drawn)


if __name__ == "__main__":
    main()
