"""Edits carried to other fragments of the same volume: what the user pointed at is pointed at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread.cut_fragment import line_of
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.edits import Edit, Place, Point
    from napari_tokenunify.proofread.proofreading import Proofreading
    from napari_tokenunify.segment.fragment_store import StoredFragments

_BLOCK = (64, 256, 256)


@dataclass(frozen=True)
class Carried:
    """What became of the edits.

    Attributes
    ----------
    made : tuple of Edit
        Those that were made again.
    left : tuple of (Edit, str)
        Those that could not be, each with the reason.
    """

    made: tuple[Edit, ...]
    left: tuple[tuple[Edit, str], ...]


def carry_over(source: Proofreading, target: Proofreading) -> Carried:
    """Make the edits in force on one segmentation again on another one of the same volume, point by point.

    Fragments that were named by their id are pointed at by their first voxel. An edit that is there already without
    doing anything, e.g. a merge of what the new model has merged itself, is listed as well.

    Parameters
    ----------
    source : Proofreading
        Whose edits; not changed.
    target : Proofreading
        Where they are made; each can be undone.

    Raises
    ------
    ProofreadError
        If an edit cannot be saved.
    """
    edits = source.history.active()
    shift = _shift(source, target)
    named = {place for edit in edits for group in edit.places for place in group if isinstance(place, int)}
    voxels = first_voxels(source.fragments, named)
    made, left = [], []
    for edit in edits:
        try:
            planned = _planned(edit, target, shift, voxels)
        except ProofreadError as error:
            left.append((edit, str(error)))
        else:
            made.append(target.commit(planned))
    return Carried(tuple(made), tuple(left))


def _planned(edit: Edit, target: Proofreading, shift: Point, voxels: dict[int, Point]) -> Edit:
    if edit.division is not None:
        line, box = line_of(edit.division)
        return target.plan_cut(line, box.shifted(shift)).model_copy(update={"author": edit.author})

    def moved(place: Place) -> Point:
        if isinstance(place, int) and place not in voxels:
            raise ProofreadError(f"Fragment {place} has no voxels any more.")
        point = voxels[place] if isinstance(place, int) else place
        return (point[0] + shift[0], point[1] + shift[1], point[2] + shift[2])

    places = [[moved(place) for place in group] for group in edit.places]
    planned = target.plan(edit.kind, places, text=edit.text)
    return planned.model_copy(update={"author": edit.author})


def _shift(source: Proofreading, target: Proofreading) -> Triple:
    """Return what has to be added to a voxel (z, y, x) of one segmentation to have it in the other."""
    here, there = source.segmentation.origin, target.segmentation.origin
    return here[0] - there[0], here[1] - there[1], here[2] - there[2]


def first_voxels(fragments: StoredFragments, wanted: Iterable[int]) -> dict[int, Point]:
    """Return a voxel (z, y, x) of each fragment that has one; read block by block, until all are found."""
    left = set(wanted)
    found: dict[int, Point] = {}
    for block in BlockGrid(fragments.shape, _BLOCK, (0, 0, 0)):
        if not left:
            break
        box = block.core
        ids, at = np.unique(fragments[box.slices], return_index=True)
        for row in np.flatnonzero(np.isin(ids, np.fromiter(left, np.uint64, len(left)))):
            z, y, x = (int(a) + b for a, b in zip(np.unravel_index(at[row], box.shape), box.start, strict=True))
            found[int(ids[row])] = (z, y, x)
        left -= found.keys()
    return found
