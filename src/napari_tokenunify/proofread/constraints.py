"""Constraints: what all edits in force demand together, whatever threshold, method or model makes the segments."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.edits import Edit

    Keys = NDArray[np.uint64]

_HALF = np.uint64(32)
_LOW = np.uint64(2**32 - 1)


def _none() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is demanded of fragments; sorted arrays, in which a pair is one number (the first id in the high half).

    Attributes
    ----------
    must_keys : ndarray of uint64, shape (N,)
        Pairs u < v that must be in one segment.
    cannot_keys : ndarray of uint64, shape (M,)
        Pairs u < v that must never be.
    locked_keys : ndarray of uint64, shape (L,)
        Pairs of a group (its smallest fragment) and a fragment of it: a group is a segment that was marked correct.
    deleted : ndarray of uint64, shape (D,)
        Fragments that are in no segment.
    """

    must_keys: Keys = field(default_factory=_none)
    cannot_keys: Keys = field(default_factory=_none)
    locked_keys: Keys = field(default_factory=_none)
    deleted: Keys = field(default_factory=_none)

    @property
    def must(self) -> NDArray[np.uint64]:
        """Pairs u < v that must be in one segment, uint64 (N, 2)."""
        return as_pairs(self.must_keys)

    @property
    def cannot(self) -> NDArray[np.uint64]:
        """Pairs u < v that must never be in one segment, uint64 (M, 2)."""
        return as_pairs(self.cannot_keys)

    @property
    def locked(self) -> NDArray[np.uint64]:
        """Groups and their fragments, uint64 (L, 2)."""
        return as_pairs(self.locked_keys)

    def __eq__(self, other: object) -> bool:
        """Whether both demand the same."""
        if not isinstance(other, Constraints):
            return NotImplemented
        return all(np.array_equal(getattr(self, part.name), getattr(other, part.name)) for part in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def changed_by(self, edit: Edit) -> Change:
        """Return what an edit changes here."""
        links, cuts, released = (as_keys(pairs) for pairs in (edit.links, edit.cuts, edit.released))
        unlocked = np.isin(self.locked_keys & _LOW, np.array(edit.unlocked, np.uint64))
        group = min(edit.locked, default=0)
        locked = as_keys([(group, fragment) for fragment in edit.locked])
        return Change(
            Constraints(
                _lacking(links, self.must_keys),
                _lacking(cuts, self.cannot_keys),
                _lacking(locked, self.locked_keys),
                _lacking(np.unique(np.array(edit.deleted, np.uint64)), self.deleted),
            ),
            Constraints(
                _lacking(_common(np.union1d(released, cuts), self.must_keys), links),
                _lacking(_common(np.union1d(released, links), self.cannot_keys), cuts),
                self.locked_keys[unlocked],
            ),
        )

    def after(self, change: Change) -> Self:
        """Return what is demanded after a change."""
        return self._swapped(change.removed, change.added)

    def before(self, change: Change) -> Self:
        """Return what was demanded before a change."""
        return self._swapped(change.added, change.removed)

    def within(self, inside: NDArray[np.bool_]) -> Self:
        """Return what is demanded of some fragments among each other; `inside` says of each whether it counts."""
        return type(self)(
            self.must_keys[inside[self.must].all(axis=1)],
            self.cannot_keys[inside[self.cannot].all(axis=1)],
            self.locked_keys[inside[self.locked_keys & _LOW]],
            self.deleted[inside[self.deleted]],
        )

    def _swapped(self, out: Constraints, into: Constraints) -> Self:
        names = [part.name for part in fields(self)]
        return type(self)(*(_swap(getattr(self, n), getattr(out, n), getattr(into, n)) for n in names))


@dataclass(frozen=True, eq=False)
class Change:
    """What an edit has changed, so that it can be taken back.

    Attributes
    ----------
    added, removed : Constraints
        What is demanded only since, and only before.
    """

    added: Constraints
    removed: Constraints

    @property
    def touched(self) -> NDArray[np.uint64]:
        """The fragments of which something else is demanded, uint64 (n,)."""
        sets = (self.added, self.removed)
        pairs = [as_pairs(keys).ravel() for s in sets for keys in (s.must_keys, s.cannot_keys, s.locked_keys)]
        return np.unique(np.concatenate([*pairs, *(s.deleted for s in sets)]))


def fold(edits: Iterable[Edit]) -> Constraints:
    """Return what edits demand together, one after the other."""
    constraints = Constraints()
    for edit in edits:
        constraints = constraints.after(constraints.changed_by(edit))
    return constraints


def as_keys(pairs: Iterable[tuple[int, int]] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return pairs of ids as numbers, sorted, each once."""
    array = np.asarray(pairs if isinstance(pairs, np.ndarray) else list(pairs), np.uint64).reshape(-1, 2)
    return np.unique((array[:, 0] << _HALF) | array[:, 1])


def as_pairs(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the pairs that `as_keys` made numbers of, uint64 (N, 2)."""
    return np.stack([keys >> _HALF, keys & _LOW], axis=1)


def _swap(keys: Keys, out: Keys, into: Keys) -> Keys:
    """Take keys out of a sorted array and put others into it; linear, unlike NumPy's functions for sets."""
    if len(out):
        keys = np.delete(keys, np.searchsorted(keys, out))
    if len(into):
        keys = np.insert(keys, np.searchsorted(keys, into), into)
    return keys


def _found(keys: Keys, among: Keys) -> NDArray[np.bool_]:
    """Whether each key is in a sorted array."""
    if not len(among):
        return np.zeros(len(keys), bool)
    place = np.searchsorted(among, keys).clip(max=len(among) - 1)
    found: NDArray[np.bool_] = among[place] == keys
    return found


def _lacking(keys: Keys, among: Keys) -> Keys:
    return keys[~_found(keys, among)]


def _common(keys: Keys, among: Keys) -> Keys:
    return keys[_found(keys, among)]
