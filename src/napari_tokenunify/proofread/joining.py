"""Joining the edits of two people who started from the same state: what agrees is taken over, the rest is listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokenunify.proofread.edits import new_edit, ordered
from napari_tokenunify.proofread.log_files import refuse_other_fragments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_tokenunify.proofread.edits import Edit, FragmentCut
    from napari_tokenunify.proofread.log_files import Log
    from napari_tokenunify.proofread.planning import Shown
    from napari_tokenunify.proofread.proofreading import Proofreading


@dataclass(frozen=True)
class Conflict:
    """An edit that was not taken over.

    Attributes
    ----------
    edit : Edit
        The other person's.
    reason : str
        One sentence.
    """

    edit: Edit
    reason: str


@dataclass(frozen=True)
class Joined:
    """What became of the other person's edits.

    Attributes
    ----------
    taken : tuple of Edit
        Now in force here, as new edits that name the one they repeat.
    conflicts : tuple of Conflict
        Not taken over, each with the reason.
    known : int
        How many were in force here already.
    """

    taken: tuple[Edit, ...]
    conflicts: tuple[Conflict, ...]
    known: int


def join_logs(proofreading: Proofreading, theirs: Log) -> Joined:
    """Take over the other person's edits that come after the last one that both have.

    Edits that contradict one in force here, or touch what is locked or deleted here, are listed and not taken over.
    Joining the same log once more changes nothing.

    Parameters
    ----------
    proofreading : Proofreading
        Ours; each edit that is taken over becomes one of it, and can be undone.
    theirs : Log
        Of the same fragments.

    Raises
    ------
    ProofreadError
        If the log is of other fragments, or an edit cannot be saved.
    """
    refuse_other_fragments(proofreading.history, theirs)
    ours = proofreading.history.active()
    known = ({edit.uuid for edit in ours} | {edit.taken_from for edit in ours}) - {None}
    names: dict[int, int] = {}  # parts of fragments that they have divided -> what these are called here
    taken, conflicts, there = [], [], 0
    for edit in theirs.in_force:
        if {edit.uuid, edit.taken_from} & known:
            there += 1
            _note_parts(edit, ours, names)
            continue
        reason = _contradiction(edit, proofreading.shown(), lambda f: names.get(f, f))
        if reason:
            conflicts.append(Conflict(edit, reason))
            continue
        head = proofreading.in_force[-1] if proofreading.in_force else None
        free = max(proofreading.history.next_fragment, proofreading.graph.nodes + 1)
        taken.append(proofreading.commit(_repeated(edit, head, names, free)))
    return Joined(tuple(taken), tuple(conflicts), there)


def _note_parts(edit: Edit, ours: Iterable[Edit], names: dict[int, int]) -> None:
    """Remember what the parts of a fragment are called here that was taken over before."""
    if edit.division is not None:
        theirs = {edit.uuid, edit.taken_from} - {None}
        same = next(mine for mine in ours if {mine.uuid, mine.taken_from} & theirs)
        if same.division is not None:
            names.update(zip(edit.division.parts, same.division.parts, strict=True))


def _contradiction(edit: Edit, shown: Shown, here: Callable[[int], int]) -> str | None:
    """Return why an edit cannot be taken over; None if it can."""
    parts = () if edit.division is None else edit.division.parts
    held = {here(f) for f in (*edit.locked, *edit.deleted)}
    touched = {here(f) for pair in (*edit.links, *edit.cuts) for f in pair if not set(pair) & set(parts)} | held
    if edit.division is not None:
        touched.add(here(edit.division.fragment))
    unknown = sorted(f for f in touched if f > shown.graph.nodes)
    if unknown:
        return f"It is about fragment {unknown[0]}, a part of one that is not divided here."
    locked = touched & set(shown.constraints.locked[:, 1].tolist())
    if locked:
        return f"It touches fragment {min(locked)}, whose segment is marked correct here."
    deleted = touched & set(shown.constraints.deleted.tolist())
    if deleted:
        return f"It touches fragment {min(deleted)}, which is deleted here."
    if parts:
        return None  # what it demands of the parts is new here
    released = {tuple(sorted(map(here, pair))) for pair in edit.released}
    must, cannot = (
        [pair for pair in pairs.tolist() if tuple(pair) not in released]
        for pairs in (shown.constraints.must, shown.constraints.cannot)
    )
    links, cuts = ([(here(u), here(v)) for u, v in pairs] for pairs in (edit.links, edit.cuts))
    return _joins_what_is_apart(links, cannot, shown) or _parts_what_is_one(cuts, must) or _held(held, must, cannot)


def _joins_what_is_apart(links: list[tuple[int, int]], cannot: list[list[int]], shown: Shown) -> str | None:
    apart = {tuple(sorted(map(int, shown.table[pair]))): pair for pair in cannot}
    for u, v in links:
        ends = tuple(sorted((int(shown.table[u]), int(shown.table[v]))))
        if ends[0] != ends[1] and ends in apart:
            at = apart[ends]
            return f"It joins fragments {u} and {v}, whose segments were split here (at {at[0]} and {at[1]})."
    return None


def _parts_what_is_one(cuts: list[tuple[int, int]], must: list[list[int]]) -> str | None:
    group = _groups(must)
    for u, v in cuts:
        if u in group and group[u] == group.get(v):
            return f"It cuts fragments {u} and {v}, whose segments were merged here."
    return None


def _held(held: set[int], must: list[list[int]], cannot: list[list[int]]) -> str | None:
    """Return why fragments cannot be locked or deleted as the whole segment that they were there."""
    for u, v in must:
        if (u in held) != (v in held):
            return f"It is about a whole segment, which was merged with another one here (at {u} and {v})."
    for u, v in cannot:
        if u in held and v in held:
            return f"It is about a whole segment, which was split here (at {u} and {v})."
    return None


def _groups(pairs: Iterable[list[int]]) -> dict[int, int]:
    """Return for each fragment that pairs join the smallest fragment that it is joined with."""
    group: dict[int, int] = {}

    def lead(fragment: int) -> int:
        while group.setdefault(fragment, fragment) != fragment:
            fragment = group[fragment]
        return fragment

    for u, v in pairs:
        a, b = lead(u), lead(v)
        group[max(a, b)] = min(a, b)
    return {fragment: lead(fragment) for fragment in list(group)}


def _repeated(edit: Edit, head: str | None, names: dict[int, int], free: int) -> Edit:
    """Return an edit of ours that does what theirs does; parts of fragments get ids that are free here."""
    fields: dict[str, Any] = {"places": edit.places, "text": edit.text, "taken_from": edit.uuid}
    if edit.division is not None:
        names.update({part: free + number for number, part in enumerate(edit.division.parts)})
        fields["division"] = _renamed(edit.division, names)
    for name in ("links", "cuts", "released"):
        fields[name] = ordered((names.get(u, u), names.get(v, v)) for u, v in getattr(edit, name))
    for name in ("locked", "unlocked", "deleted"):
        fields[name] = tuple(names.get(fragment, fragment) for fragment in getattr(edit, name))
    return new_edit(edit.kind, edit.author, head, **fields)


def _renamed(division: FragmentCut, names: dict[int, int]) -> FragmentCut:
    contacts = []
    for contact in division.contacts:
        u, v = sorted((names.get(contact.u, contact.u), names.get(contact.v, contact.v)))
        contacts.append(contact.model_copy(update={"u": u, "v": v}))
    changes = {
        "fragment": names.get(division.fragment, division.fragment),
        "parts": tuple(names[part] for part in division.parts),
        "contacts": tuple(contacts),
    }
    return division.model_copy(update=changes)
