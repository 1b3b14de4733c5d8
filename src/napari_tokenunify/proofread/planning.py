"""From what a user points at to an edit: which pairs must and cannot be one, on the table that is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread.correction import links_between, members_of
from napari_tokenunify.proofread.edits import ordered
from napari_tokenunify.proofread.split import Sides, link_weights, pieces_of, split_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.constraints import Constraints
    from napari_tokenunify.proofread.correction import Links
    from napari_tokenunify.proofread.edits import Kind
    from napari_tokenunify.proofread.fragment_graph import FragmentGraph


@dataclass(frozen=True, eq=False)
class Shown:
    """What is on the screen when the user points at it.

    Attributes
    ----------
    graph : FragmentGraph
        Contacts and sizes.
    base : ndarray of uint64, shape (nodes + 1,)
        The table without edits.
    constraints : Constraints
        What edits demand.
    table : ndarray of uint64, shape (nodes + 1,)
        The table with edits.
    united : ndarray of uint64, shape (nodes + 1,)
        The same if nothing were forbidden.
    """

    graph: FragmentGraph
    base: NDArray[np.uint64]
    constraints: Constraints
    table: NDArray[np.uint64]
    united: NDArray[np.uint64]

    def segment_of(self, fragment: int) -> int:
        """Return the segment of a fragment.

        Raises
        ------
        ProofreadError
            If there is none.
        """
        if not 0 < fragment < len(self.table):
            raise ProofreadError(f"There is no fragment {fragment}: they go from 1 to {len(self.table) - 1}.")
        segment = int(self.table[fragment])
        if segment == 0:
            raise ProofreadError(f"Fragment {fragment} is in no segment (it was deleted): undo that first.")
        return segment

    def members(self, segment: int) -> NDArray[np.int64]:
        """Return the fragments of a segment, sorted."""
        return np.flatnonzero(self.table == np.uint64(segment))

    def refuse_locked(self, *segments: int) -> None:
        """Refuse to change segments that were marked correct.

        Raises
        ------
        ProofreadError
            If one is.
        """
        locked = self.locked_segments()
        for segment in segments:
            if segment in locked:
                raise ProofreadError(f"Segment {segment} is marked correct, and locked; unlock it to change it.")

    def locked_segments(self) -> set[int]:
        """Return the segments that were marked correct."""
        return set(self.table[self.constraints.locked[:, 1]].tolist())


def plan_edit(kind: Kind, shown: Shown, groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the effect of an edit of a kind.

    Parameters
    ----------
    kind : str
        One of KINDS.
    shown : Shown
        What is on the screen.
    groups : sequence of sequences of int
        The fragments that were pointed at: a group for each side of a split, else one.

    Returns
    -------
    dict
        Fields of Edit.

    Raises
    ------
    ProofreadError
        If it cannot be made.
    """
    flat = [fragment for group in groups for fragment in group]
    if kind == "comment":
        return {}
    if kind == "split":
        return plan_split(shown, groups)[0]
    if kind == "merge":
        return plan_merge(shown, flat)
    if not flat or (kind != "delete" and len(flat) > 1):
        raise ProofreadError(f"Point at one segment to {kind}.")
    if kind in {"delete", "lock"}:
        return plan_whole(shown, flat, lock=kind == "lock")
    if kind == "unlock":
        return plan_unlock(shown, flat[0])
    if kind == "detach":
        return plan_detach(shown, flat[0])[0]
    raise ProofreadError(f"A {kind} needs a painted line.")


def plan_merge(shown: Shown, fragments: Sequence[int]) -> dict[str, Any]:
    """Return the effect of joining the segments of fragments into one; whether they touch does not matter.

    Parameters
    ----------
    shown : Shown
        What is on the screen.
    fragments : sequence of int
        Two or more, that were pointed at.

    Returns
    -------
    dict
        Fields of Edit.

    Raises
    ------
    ProofreadError
        If they are of one segment already, of none, or of a locked one.
    """
    if len(fragments) < 2:
        raise ProofreadError("To merge, point at two segments or more.")
    segments = [shown.segment_of(fragment) for fragment in fragments]
    shown.refuse_locked(*segments)
    if len(set(segments)) == 1:
        raise ProofreadError(f"Both points are in segment {segments[0]} already: there is nothing to merge.")
    links = [
        (fragments[0], fragment)
        for fragment, segment in zip(fragments[1:], segments[1:], strict=True)
        if segment != segments[0]
    ]
    cannot = shown.constraints.cannot
    apart = shown.table[cannot]
    between = np.isin(apart, np.unique(np.array(segments, np.uint64))).all(axis=1) & (apart[:, 0] != apart[:, 1])
    return {"links": ordered(links), "released": ordered(cannot[between].tolist())}


def plan_split(shown: Shown, seeds: Sequence[Sequence[int]]) -> tuple[dict[str, Any], Sides]:
    """Return the effect of cutting a segment between sets of seeds, and which fragment goes where.

    Parameters
    ----------
    shown : Shown
        What is on the screen.
    seeds : sequence of sequences of int
        Two sets of fragments or more, all of one segment.

    Returns
    -------
    fields : dict
        Of Edit.
    sides : Sides
        Seeds of one set are joined, should their side fall apart otherwise.

    Raises
    ------
    ProofreadError
        If seeds are missing, of several segments, of a locked one, or two sets share a fragment.
    """
    sets = [sorted(set(fragments)) for fragments in seeds]
    if len(sets) < 2 or not all(sets):
        raise ProofreadError("To split, point at two sides or more, each with at least one point.")
    flat = [fragment for fragments in sets for fragment in fragments]
    if len(set(flat)) < len(flat):
        shared = next(fragment for fragment in flat if flat.count(fragment) > 1)
        raise ProofreadError(
            f"Two sides have points in the same fragment, {shared}: the fragment itself must be cut; draw a line "
            "through it (cut), or point elsewhere."
        )
    segments = {shown.segment_of(fragment) for fragment in flat}
    if len(segments) > 1:
        raise ProofreadError(
            f"The points are in the segments {', '.join(map(str, sorted(segments)))}: to split one, point at it alone."
        )
    shown.refuse_locked(*segments)
    members = shown.members(segments.pop())
    links = links_between(shown.graph, shown.base, shown.constraints, members)
    rows = [np.searchsorted(members, fragments).tolist() for fragments in sets]
    sides = split_sides(members, links.pairs, link_weights(shown.graph, links), rows)
    return _apart(shown, links, sides, sets), sides


def plan_detach(shown: Shown, fragment: int) -> tuple[dict[str, Any], Sides]:
    """Return the effect of taking one fragment out of its segment, and what is left of that.

    Raises
    ------
    ProofreadError
        If it is all of its segment, of none, or of a locked one.
    """
    segment = shown.segment_of(fragment)
    shown.refuse_locked(segment)
    members = shown.members(segment)
    if len(members) == 1:
        raise ProofreadError(f"Fragment {fragment} is a segment of its own already.")
    links = links_between(shown.graph, shown.base, shown.constraints, members)
    side = (members != fragment).astype(np.int32)
    inside = side[links.pairs].all(axis=1)
    pieces = pieces_of(links.pairs[inside], len(members))
    sides = Sides(members, side, 0.0, (1, len(np.unique(pieces[side == 1]))))
    return _apart(shown, links, sides, [[fragment], []]), sides


def plan_whole(shown: Shown, fragments: Sequence[int], *, lock: bool) -> dict[str, Any]:
    """Return the effect of marking the segment of a fragment correct, or of deleting those of several.

    Raises
    ------
    ProofreadError
        If one is locked already, or there is none.
    """
    segments = sorted({shown.segment_of(fragment) for fragment in fragments})
    shown.refuse_locked(*segments)
    if lock and len(segments) != 1:
        raise ProofreadError("Mark one segment correct at a time.")
    members = tuple(members_of(shown.table, np.array(segments, np.uint64)).tolist())
    return {"locked": members} if lock else {"deleted": members}


def plan_unlock(shown: Shown, fragment: int) -> dict[str, Any]:
    """Return the effect of letting the segment of a fragment be changed again.

    Raises
    ------
    ProofreadError
        If it is not locked.
    """
    segment = shown.segment_of(fragment)
    locked = shown.constraints.locked
    members = locked[shown.table[locked[:, 1]] == np.uint64(segment), 1]
    if not len(members):
        raise ProofreadError(f"Segment {segment} is not locked.")
    return {"unlocked": tuple(members.tolist())}


def _apart(shown: Shown, links: Links, sides: Sides, seeds: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the fields of an edit after which the sides are segments of their own, and nothing else changes.

    Every contact between two sides becomes a pair that cannot be one. So does every contact to another segment that
    the table without edits has in the same one: which of these demands keeps them apart may change with this edit.
    """
    members, side = sides.members, sides.side
    across = links.pairs[side[links.pairs[:, 0]] != side[links.pairs[:, 1]]]
    number = np.full(len(shown.base), -1, np.int64)
    number[members] = side
    around = members_of(shown.united, np.unique(shown.united[members]))
    edges = edges_within(shown.graph, around)
    u, v = number[edges].T
    with_another = (u < 0) != (v < 0)
    same_base = shown.base[edges[:, 0]] == shown.base[edges[:, 1]]
    cut = edges[((u != v) & (u >= 0) & (v >= 0)) | (with_another & same_base)]
    cuts = [*cut.tolist(), *members[across].tolist()]
    firsts = [fragments[0] for fragments in seeds if fragments]
    cuts += [(a, b) for i, a in enumerate(firsts) for b in firsts[i + 1 :]]
    must = shown.constraints.must
    ends = number[must]
    released = must[(ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])]
    joined = [(fragments[0], fragment) for fragments in seeds for fragment in _elsewhere(links, sides, fragments)]
    return {
        "cuts": ordered((u, v) for u, v in cuts if u != v),
        "released": ordered(released.tolist()),
        "links": ordered(joined),
    }


def _elsewhere(links: Links, sides: Sides, seeds: Sequence[int]) -> list[int]:
    """Return one of the seeds for each piece of their side that does not hang together with the first of them."""
    if len(seeds) < 2:
        return []
    same = sides.side[links.pairs[:, 0]] == sides.side[links.pairs[:, 1]]
    pieces = pieces_of(links.pairs[same], len(sides.members))
    of = pieces[np.searchsorted(sides.members, np.asarray(seeds))]
    _, firsts = np.unique(of, return_index=True)
    return [seeds[i] for i in sorted(firsts.tolist()) if of[i] != of[0]]


def edges_within(graph: FragmentGraph, members: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the contacts between some fragments, uint64 (n, 2)."""
    counts = graph.first[members + 1] - graph.first[members]
    rows = np.repeat(graph.first[members] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    edges = np.asarray(graph.edges[rows + np.arange(counts.sum())])
    inside = np.zeros(graph.nodes + 1, bool)
    inside[members] = True
    within: NDArray[np.uint64] = edges[inside[edges[:, 1]]]
    return within
