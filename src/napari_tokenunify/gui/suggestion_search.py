"""What the queue of likely errors asks in a thread: the suggestions, the place of one, and the answers so far."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify import proofread  # its names load when they are used: the panel opens without
from napari_tokenunify.errors import ProofreadError, SegmentError
from napari_tokenunify.gui.edit_plan import FIRST, SECOND, Coloured, plan
from napari_tokenunify.project import whole_file
from napari_tokenunify.segmentations import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.gui.edit_plan import Plan
    from napari_tokenunify.proofread import Decision, Proofreading, Suggestion, Suggestions
    from napari_tokenunify.proofread.edits import Place


@dataclass(frozen=True, eq=False)
class Offer:
    """A suggestion that can be looked at and accepted.

    Attributes
    ----------
    suggestion : Suggestion
        What is suspicious, and why.
    plan : Plan
        The edit that would mend it.
    shown : Coloured
        Its two sides, as they would be compared.
    place : tuple of int
        The voxel (z, y, x) of the segmentation where the two sides touch.
    number : int
        Where it stands in the list.
    """

    suggestion: Suggestion
    plan: Plan
    shown: Coloured
    place: Triple
    number: int


@dataclass(frozen=True, eq=False)
class Search:
    """The suggestions at one moment.

    Attributes
    ----------
    found : Suggestions
        The most important first.
    boxes : ndarray of int32, shape (nodes + 1, 6)
        Where each fragment lies.
    left : int
        How many that are worth looking at are errors, as far as one can know.
    """

    found: Suggestions
    boxes: NDArray[np.int32]
    left: int


def search(proofreading: Proofreading, threshold: float | None, answers: Sequence[Decision]) -> Search:
    """Rank the likely errors of what is shown now."""
    boxes = proofread.EditedSegmentation.of(proofreading).boxes
    found = proofread.suggest(
        proofreading.graph,
        proofreading.table(threshold),
        constraints=proofreading.constraints,
        decided=answers,
        boxes=boxes,
    )
    return Search(found, boxes, found.edits_left())


def offer(
    proofreading: Proofreading,
    threshold: float | None,
    made: Search,
    first: int,
    skipped: frozenset[tuple[str, int, int]],
) -> Offer | None:
    """Return the first suggestion from a number on that still makes sense; None if there is none."""
    table = proofreading.table(threshold)
    for number in range(first, len(made.found)):
        suggestion = made.found[number]
        if (suggestion.kind, *suggestion.fragments) in skipped or not suggestion.is_open(table):
            continue
        try:
            places: list[list[Place]] = [list(map(int, side)) for side in suggestion.sides]
            if suggestion.kind == "merge":
                places = [[int(fragment) for fragment in suggestion.fragments]]
            found = plan(proofreading, suggestion.kind, places, threshold)
            place = proofread.contact_place(proofreading.fragments, made.boxes, suggestion.fragments)
        except (ProofreadError, SegmentError):  # edits since have changed what it is about
            continue
        found = found if suggestion.kind == "merge" else _pointing(found, suggestion)
        return Offer(suggestion, found, _sides(proofreading, suggestion), place, number)
    return None


def _pointing(found: Plan, suggestion: Suggestion) -> Plan:
    """Let the edit point at the contact alone: all fragments of both sides would hardly be found in other segments."""
    return replace(found, edit=found.edit.model_copy(update={"places": tuple((f,) for f in suggestion.fragments)}))


def _sides(proofreading: Proofreading, suggestion: Suggestion) -> Coloured:
    colours = np.zeros(proofreading.graph.nodes + 1, np.uint64)
    for colour, side in zip((FIRST, SECOND), suggestion.sides, strict=True):
        colours[side] = colour
    return Coloured(proofreading.fragments, colours)


def read_answers(proofreading: Proofreading) -> list[Decision]:
    """Return the answers that were given on these fragments; none if they cannot be read, as they are only hints."""
    try:
        kept = json.loads(_path(proofreading).read_text(encoding="utf-8"))
        if kept["fragments_hash"] != proofreading.history.fragments_hash:
            return []
        return [_decision(answer) for answer in kept["answers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def keep_answers(proofreading: Proofreading, answers: Sequence[Decision]) -> None:
    """Keep the answers beside the edits.

    Raises
    ------
    ProofreadError
        If they cannot be written.
    """
    kept = {
        "fragments_hash": proofreading.history.fragments_hash,
        "answers": [asdict(answer) for answer in answers],
    }
    with whole_file(_path(proofreading), ProofreadError) as part:
        part.write_text(json.dumps(kept), encoding="utf-8")


def _path(proofreading: Proofreading) -> Path:
    return proofreading.segmentation.folder / ANSWERS


def _decision(answer: dict[str, Any]) -> Decision:
    (u, v), (x, y) = answer["fragments"], answer["largest"]
    return proofread.Decision(**{**answer, "fragments": (int(u), int(v)), "largest": (int(x), int(y))})
