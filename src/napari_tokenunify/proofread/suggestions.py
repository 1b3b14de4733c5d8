"""The queue of likely errors, by what a look at each is expected to mend, and by how much work it is expected to be.

The consequence of a merge or split of two sides of a and b voxels is the change of entropy,
((a + b) log(a + b) - a log a - b log b) / n bits: just so much the variation of information falls where the edit is
right, and rises where it is wrong. A look at a place is worth the chance of an error times the consequence, over the
expected effort: to say no takes half of what an edit takes. The chance comes from `error_chance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.proofread.constraints import Constraints
from napari_tokenunify.proofread.contacts import between_segments, within_segments
from napari_tokenunify.proofread.error_chance import Decision, features_of, same_neuron, smaller_sides, weights_after
from napari_tokenunify.proofread.shape_signs import Ends, reason_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.contacts import Contacts, Cuts, Graph
    from napari_tokenunify.proofread.error_chance import Kind

MOST: Final = 100_000
WORTH_VOXELS: Final = 1000

_NO: Final = 0.5  # effort of a rejection; an edit, which is looked at once more, drawn and kept, is 1


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A likely error, and the edit that would mend it.

    Attributes
    ----------
    kind : "merge" or "split"
        The edit.
    fragments : tuple of int
        One of each side: where these touch, the sides touch most; `shape_signs.contact_place` finds the voxel.
    sides : tuple of ndarray of uint64
        All fragments of each side: two segments to merge, or the two parts of one, that is the seeds of a split.
    sizes : tuple of int
        Voxels of each side.
    count, mean : float
        Pairs of neighbouring voxels over which they touch, and the mean of their affinities.
    chance : float
        That it is an error, 0..1.
    score : float
        Bits that are expected of it for the effort of an edit.
    reason : str
        What is suspicious, e.g. "thin bridge".
    largest : tuple of int
        The largest fragment of each side.
    spread : float
        How much the answers to several orientations differ at the contact, 0..1: twice their standard deviation.
    """

    kind: Kind
    fragments: tuple[int, int]
    sides: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    sizes: tuple[int, int]
    count: float
    mean: float
    chance: float
    score: float
    reason: str
    largest: tuple[int, int]
    spread: float = 0.0

    @property
    def voxels(self) -> int:
        """Size of the consequence: voxels of the smaller side."""
        return min(self.sizes)

    @property
    def sentence(self) -> str:
        """What is suspicious, with numbers."""
        differ = f" ± {self.spread / 2:.2f}" if self.spread else ""
        return (
            f"{self.reason.capitalize()}: {self.sizes[0]:,} and {self.sizes[1]:,} voxels touch over {self.count:,.0f} "
            f"pairs of voxels with a mean affinity of {self.mean:.2f}{differ}."
        )

    def decided(self, *, accepted: bool) -> Decision:
        """Return the answer to it, for the next `suggest`."""
        contact = self.count, self.mean, self.voxels, self.spread
        return Decision(self.kind, accepted, self.fragments, self.largest, *contact)

    def is_open(self, table: NDArray[np.uint64]) -> bool:
        """Return whether it still makes sense in another table, e.g. after edits elsewhere."""
        first, second = table[list(self.fragments)]
        return bool(first and second and (first == second) == (self.kind == "split"))


class Suggestions:
    """Likely errors, the most important first. A suggestion is put together when it is asked for.

    Attributes
    ----------
    score : ndarray of float64, shape (N,)
        Bits that are expected of each for the effort of an edit; falling.
    change : ndarray of float64, shape (N,)
        Consequence of each, the change of entropy in bits.
    chance : ndarray of float64, shape (N,)
        That each is an error.
    voxels : ndarray of int64, shape (N,)
        Size of the smaller side of each.
    is_split : ndarray of bool, shape (N,)
        Splits; the others are merges.
    """

    def __init__(self, graph: Graph, table: NDArray[np.uint64], ends: Ends | None, ranked: _Ranked) -> None:
        self._graph, self._table, self._ends, self._ranked = graph, table, ends, ranked
        self.score, self.change, self.chance = ranked.score, ranked.change, ranked.chance
        self.is_split, self.voxels = ranked.is_split, smaller_sides(ranked.contacts)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.score)

    def __iter__(self) -> Iterator[Suggestion]:
        """Go through them, the most important first."""
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Suggestion:
        """Return one of them; takes milliseconds where there are a million fragments."""
        ranked, contacts = self._ranked, self._ranked.contacts
        u, v = self._graph.edges[contacts.edge[place]].tolist()
        kind: Kind = "split" if ranked.is_split[place] else "merge"
        sides = self._sides(place, u)
        a, b = (int(self._graph.sizes[side].sum()) for side in sides)
        x, y = (int(side[np.argmax(self._graph.sizes[side])]) for side in sides)
        count, mean = float(contacts.count[place]), float(contacts.mean[place])
        return Suggestion(
            kind,
            (u, v),
            sides,
            (a, b),
            count,
            mean,
            float(ranked.chance[place]),
            float(ranked.score[place]),
            reason_for(kind, count, mean, (a, b), None if self._ends is None else self._ends.of_sides(sides)),
            (x, y),
            float(contacts.spread[place]),
        )

    @property
    def features(self) -> NDArray[np.float64]:
        """What the chance of each is made of: 1, logit of the mean affinity, log2 of pairs and of voxels, (N, 4)."""
        contacts = self._ranked.contacts
        return features_of(contacts.count, contacts.mean, contacts.spread, self.voxels)

    def edits_left(self, voxels: float = WORTH_VOXELS) -> int:
        """Estimate how many more edits are worth their while.

        Parameters
        ----------
        voxels : float
            A suggestion is worth looking at if the chance of an error times the voxels of the smaller side is so
            large; a larger value gives fewer edits.

        Returns
        -------
        int
            How many of those suggestions are errors, by their chances. Of each segment one split counts.
        """
        return round(float(self.chance[self.chance * self.voxels >= voxels].sum()))

    def _sides(self, place: int, first: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the fragments of both sides, those of the side that `first` is on before the others."""
        begin, end = self._ranked.contacts.sides[place].tolist()
        if not self._ranked.is_split[place]:
            one, other = (np.flatnonzero(self._table == np.uint64(segment)) for segment in (begin, end))
            return one.astype(np.uint64), other.astype(np.uint64)
        part = np.sort(self._ranked.order[begin:end])
        rest = np.setdiff1d(np.flatnonzero(self._table == self._table[first]), part, assume_unique=True)
        one, other = (part, rest) if first in part else (rest, part)
        return one.astype(np.uint64), other.astype(np.uint64)


def suggest(
    graph: Graph,
    table: NDArray[np.uint64],
    *,
    constraints: Constraints | None = None,
    decided: Sequence[Decision] = (),
    boxes: NDArray[np.int32] | None = None,
    most: int = MOST,
) -> Suggestions:
    """Rank the likely errors of a segmentation.

    Merges are suggested between any two segments that touch, splits at the cuts of `contacts.within_segments`, of each
    segment the best. Thresholds and merge trees are not asked: it works for any method, and after any edits.

    Parameters
    ----------
    graph : Graph
        Contacts of the fragments.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment, edits included; 0 is none.
    constraints : Constraints, optional
        What earlier edits demand: it is not questioned, and locked segments are left alone.
    decided : sequence of Decision
        Answers so far. What was rejected does not come back, and all of them shift the chances.
    boxes : ndarray of int32, shape (nodes + 1, 6), optional
        First voxel of each fragment and the one past the last, (z, y, x): with it, segments that end inside of the
        volume are taken for parts of others.
    most : int
        Keep so many of the best.

    Returns
    -------
    Suggestions
    """
    constraints = constraints or Constraints()
    together, apart = _known(constraints, decided)
    merges, cuts = between_segments(graph, table, apart), within_segments(graph, table, together)
    locked = np.zeros(graph.nodes + 1, bool)
    locked[table[constraints.locked[:, 1]]] = True
    locked[0] = False
    merges = merges[np.flatnonzero(~locked[merges.sides].any(axis=1))]
    is_free = np.flatnonzero(~locked[table[cuts.order[cuts.contacts.sides[:, 0]]]])
    cuts = replace(cuts, contacts=cuts.contacts[is_free])
    ends = None if boxes is None else Ends(boxes)
    same = same_neuron(merges, weights_after("merge", decided))
    if ends is not None:
        same = ends.complete(same, merges.sides, table)
    wrong = 1 - same_neuron(cuts.contacts, weights_after("split", decided))
    return Suggestions(graph, table, ends, _ranked(graph, table, (merges, same), (cuts, wrong), most))


def entropy_change(sizes: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Return by how much the entropy of a segmentation falls when two segments are joined, in bits.

    Parameters
    ----------
    sizes : ndarray of int64, shape (N, 2)
        Voxels of both.
    total : int
        Voxels of all segments.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    a, b = sizes.astype(np.float64).T
    both = a + b
    change: NDArray[np.float64] = (a * np.log2(both / a) + b * np.log2(both / b)) / max(1, total)
    return change


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Candidates in their order; `order` is that of `Cuts`."""

    contacts: Contacts
    is_split: NDArray[np.bool_]
    chance: NDArray[np.float64]
    change: NDArray[np.float64]
    score: NDArray[np.float64]
    order: NDArray[np.int64]


def _ranked(
    graph: Graph,
    table: NDArray[np.uint64],
    merges: tuple[Contacts, NDArray[np.float64]],
    splits: tuple[Cuts, NDArray[np.float64]],
    most: int,
) -> _Ranked:
    (found, same), (cuts, wrong) = merges, splits
    total = int(graph.sizes.sum())
    worth = _worth(wrong, entropy_change(cuts.contacts.sizes, total))
    segments = table[cuts.order[cuts.contacts.sides[:, 0]]]
    by_worth = np.argsort(-worth, kind="stable")
    _, first = np.unique(segments[by_worth], return_index=True)  # others of the segment are much like the best one
    best = by_worth[first]
    joined = found.followed_by(cuts.contacts[best])
    chance = np.concatenate([same, wrong[best]])
    change = entropy_change(joined.sizes, total)
    score = _worth(chance, change)
    kept = np.arange(len(score)) if len(score) <= most else np.argpartition(-score, most)[:most]
    order = kept[np.argsort(-score[kept], kind="stable")]
    is_split = np.arange(len(score)) >= len(found)
    return _Ranked(joined[order], is_split[order], chance[order], change[order], score[order], cuts.order)


def _worth(chance: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bits that are expected for the effort of an edit."""
    return chance * change / (chance + (1 - chance) * _NO)


def _known(constraints: Constraints, decided: Sequence[Decision]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return pairs of fragments that are known to belong together, and those known to be apart.

    Only what was rejected: what was accepted is in the constraints, as long as it was not undone.
    """
    refused = [answer for answer in decided if not answer.accepted]
    together = [answer.largest for answer in refused if answer.kind == "split"]  # so no other cut parts these
    apart = [answer.fragments for answer in refused if answer.kind == "merge"]
    return (
        np.concatenate([constraints.must, np.array(together, np.uint64).reshape(-1, 2)]),
        np.concatenate([constraints.cannot, np.array(apart, np.uint64).reshape(-1, 2)]),
    )
