"""What the tools of proofreading say: in the panel in sentences, and shortly on the canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokenunify.gui.edit_plan import Chosen, Plan

PICK, MERGE, SPLIT, CUT = "Pick", "Merge", "Split", "Cut"
MODES: Final = {
    PICK: ("Q", "Choose a segment, to delete it, mark it correct, isolate a fragment or see it in 3-D (Q)."),
    MERGE: ("J", "Join segments: click two, or more (J)."),
    SPLIT: ("D", "Divide a segment: click what belongs to one side, then what belongs to the other (D)."),
    CUT: ("K", "Divide a fragment, which no split can: paint a line through it (K)."),
}
HINTS: Final = {
    PICK: "Click a segment.",
    MERGE: "Click two segments that are one neuron.",
    SPLIT: "Click on one side of a wrong connection; then T, and the other side.",
    CUT: "Paint a line through one fragment, from edge to edge; its two sides are shown after each stroke.",
}
SIDES: Final = ("orange", "blue")
SIDE_COLOURS: Final = ("#ff9a2e", "#4aa3ff")
DONE: Final = {
    "merge": "Merged.",
    "split": "Split.",
    "detach": "Isolated.",
    "cut": "Cut.",
    "delete": "Deleted.",
    "lock": "Marked correct: nothing changes it until you unlock it.",
    "unlock": "Unlocked.",
    "comment": "Noted.",
}
LOOKING: Final = "Looking what falls on which side..."
NO_SEGMENTS: Final = "There are no segments yet: make them in the step Segment."
REMOVED: Final = "The layer of the segments was deleted: go to another step and back, and it is there again."
_ENTER: Final = "Enter: do it, Esc: drop it"


def about_plan(found: Plan, *, is_asked: bool) -> str:
    """Say what an edit would do; `is_asked` where a large merge has to be confirmed once more."""
    kind = found.edit.kind
    if kind == "merge" and is_asked:
        before = listed([voxels for _, voxels in found.shown.segments])
        return f"These are large: {before} voxels. Press Enter once more if they are one neuron."
    if kind == "merge":
        return f"They would be one segment of {listed(found.after)} voxels. {_ENTER}, or click a further one."
    if kind == "delete":
        return f"The red segment would be background. {_ENTER}."
    more = " More points on either side make it better." if kind == "split" else ""
    return f"It would fall into {listed(found.after)} voxels. {_ENTER}.{more}"


def about_chosen(found: Chosen) -> str:
    """Say what is known of a segment."""
    of = "fragment" if found.fragments == 1 else "fragments"
    locked = ", marked correct" if found.is_locked else ""
    return f"Segment {found.segment}: {found.voxels:,} voxels, of {found.fragments:,} {of}{locked}."


def next_step(mode: str, counts: Sequence[int], side: int) -> str:
    """Say what to click next, given how many points each side has."""
    if mode == SPLIT and any(counts):
        return f"Now click the {SIDES[side]} side." if not counts[side] else "Press T, then click the other side."
    if mode == MERGE and counts[0]:
        return "Now click the segment that it goes on in."
    return HINTS[mode]


def on_canvas(mode: str, step: str, planned: Plan | None, *, is_asked: bool) -> str:
    """Say in a few words which mode it is and what comes next."""
    if planned is None:
        return f"{mode}: {step}"
    return f"{mode}: large! Enter once more, or Esc" if is_asked else f"{mode}: {_ENTER}"


def listed(voxels: Sequence[int]) -> str:
    """Return numbers for people, the first few of them."""
    words = [f"{count:,}" for count in voxels[:4]] + (["..."] if len(voxels) > 4 else [])
    return (" and " if len(words) == 2 else " / ").join(words)
