"""What an edit would do, as colours to look at before it is made; found in a thread, with no widget and no layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread.cut_fragment import CutFragments
from napari_tokenunify.proofread.lines import plan_along
from napari_tokenunify.segment.fragment_store import FRAGMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Box
    from napari_tokenunify.proofread import Edit, Proofreading
    from napari_tokenunify.proofread.edits import Kind, Place
    from napari_tokenunify.segment.fragment_store import StoredFragments

FIRST, SECOND, GONE, KEPT, CHOSEN, MORE = 1, 2, 3, 4, 5, 6
"""Colours: of the two sides, of what is deleted, of what is marked correct, of what is chosen, of any further side."""


@dataclass(frozen=True, eq=False)
class Coloured:
    """Some segments that stand out.

    Attributes
    ----------
    fragments : StoredFragments
        The voxels.
    colours : ndarray of uint64, shape (nodes + 1,)
        Colour of each fragment; 0 stands out in none.
    segments : tuple of (int, int)
        Those that stand out, as they are now: id and voxels.
    """

    fragments: StoredFragments
    colours: NDArray[np.uint64]
    segments: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """An edit that could be made, and how the segments would be.

    Attributes
    ----------
    edit : Edit
        To be committed.
    shown : Coloured
        The segments that would result, each in a colour of its own; `segments` says how they are before.
    after : tuple of int
        Voxels of each segment that would result, the largest first.
    """

    edit: Edit
    shown: Coloured
    after: tuple[int, ...]

    @property
    def smaller(self) -> int:
        """Voxels of the second largest segment that is concerned; 0 if there is one alone."""
        sizes = sorted((voxels for _, voxels in self.shown.segments), reverse=True)
        return sizes[1] if len(sizes) > 1 else 0


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a click chose.

    Attributes
    ----------
    shown : Coloured
        The segments.
    fragment, segment, voxels, fragments : int
        Of the last place that was clicked: the fragment, its segment, and how large that is.
    is_locked : bool
        Whether the segment is marked correct.
    """

    shown: Coloured
    fragment: int
    segment: int
    voxels: int
    fragments: int
    is_locked: bool


def choose(proofreading: Proofreading, places: Sequence[Place], colour: int, threshold: float | None) -> Chosen:
    """Return the segments at some places, all in one colour.

    Raises
    ------
    ProofreadError
        If nothing was segmented at one of them, or it was deleted.
    """
    shown = proofreading.shown(threshold)
    fragments = [proofreading.fragment_at(place) for place in places]
    segments = [shown.segment_of(fragment) for fragment in fragments]
    colours = np.where(np.isin(shown.table, np.array(segments, np.uint64)), np.uint64(colour), np.uint64(0))
    members = shown.members(segments[-1])
    return Chosen(
        Coloured(proofreading.fragments, colours, _sizes(proofreading, shown.table, segments)),
        fragments[-1],
        segments[-1],
        int(proofreading.graph.sizes[members].sum()),
        len(members),
        segments[-1] in shown.locked_segments(),
    )


def plan(
    proofreading: Proofreading, kind: Kind, groups: Sequence[Sequence[Place]], threshold: float | None, text: str = ""
) -> Plan:
    """Plan an edit and see what it would do.

    Raises
    ------
    ProofreadError
        If it cannot be made.
    """
    edit = proofreading.plan(kind, groups, threshold=threshold, text=text)
    now, then = proofreading.table(threshold), proofreading.preview(edit, threshold)
    pointed = [[proofreading.fragment_at(place) for place in group] for group in edit.places]
    touched = np.array([fragment for group in pointed for fragment in group], np.int64)
    before = np.union1d(now[touched], now[now != then])
    members = np.flatnonzero(np.isin(now, before[before > 0]))
    colours = np.zeros(len(now), np.uint64)
    colours[members] = _colour_of(then[members], [then[group[0]] for group in pointed if group], kind)
    sizes = np.bincount(then[members].astype(np.int64), proofreading.graph.sizes[members])[1:]
    after = tuple(int(voxels) for voxels in np.sort(sizes[sizes > 0])[::-1])
    shown = Coloured(proofreading.fragments, colours, _sizes(proofreading, now, before.tolist()))
    return Plan(edit, shown, after)


def plan_line(proofreading: Proofreading, line: NDArray[np.bool_], box: Box, axis: int) -> Plan:
    """Plan a cut along a painted line, through as many sections as it takes.

    Parameters
    ----------
    proofreading : Proofreading
        Whose fragment.
    line : ndarray of bool, shape of the box
        What was painted.
    box : Box
        Where, in voxels of the segmentation; it may reach outside.
    axis : int
        The axis that is looked along: the line is carried on along it where that is needed.

    Raises
    ------
    ProofreadError
        If nothing is divided by it.
    """
    return _of_cut(proofreading, plan_along(proofreading, (line, box), axis))


def _colour_of(names: NDArray[np.uint64], sides: Sequence[np.uint64], kind: Kind) -> NDArray[np.uint64]:
    """Return a colour for each segment that would be: those of the sides first, then by their names."""
    if kind in {"lock", "unlock"}:
        return np.full(len(names), KEPT, np.uint64)
    colours = np.zeros(len(names), np.uint64)
    order = list(dict.fromkeys([*(int(side) for side in sides), *np.unique(names).tolist()]))
    for place, name in enumerate(order):
        colours[names == np.uint64(name)] = (FIRST, SECOND)[place] if place < 2 else MORE + (place - 2) % 3
    colours[names == 0] = GONE
    return colours


def _of_cut(proofreading: Proofreading, edit: Edit) -> Plan:
    """Show the parts of a fragment, which nobody has seen yet."""
    division = edit.division
    if division is None:
        raise ProofreadError("The line divides nothing.")
    parts = (division.fragment, *division.parts)
    nodes = max(proofreading.graph.nodes, *parts)
    fragments = CutFragments(proofreading.segmentation.folder / FRAGMENTS, nodes, (*proofreading.divided, division))
    colours = np.zeros(nodes + 1, np.uint64)
    for place, part in enumerate(parts):
        colours[part] = (FIRST, SECOND)[place] if place < 2 else MORE + (place - 2) % 3
    whole = ((division.fragment, sum(division.sizes)),)
    return Plan(edit, Coloured(fragments, colours, whole), tuple(sorted(division.sizes, reverse=True)))


def _sizes(
    proofreading: Proofreading, table: NDArray[np.uint64], segments: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return segments, each once, with their voxels."""
    wanted = [int(segment) for segment in dict.fromkeys(segments) if segment]
    return tuple((s, int(proofreading.graph.sizes[table == np.uint64(s)].sum())) for s in wanted)
