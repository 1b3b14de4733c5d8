"""How proofreading goes: how many edits, and how many an hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from napari_tokenunify.proofread.edits import Kind

_BREAK: Final = timedelta(minutes=5)  # between two edits; longer ones do not count as work


@dataclass(frozen=True)
class Statistics:
    """How proofreading goes.

    Attributes
    ----------
    edits : int
        Those in force.
    kinds : dict
        How many of each kind.
    hours : float
        Time at work: breaks of more than five minutes do not count.
    edits_per_hour : float
        0 before the second edit.
    """

    edits: int
    kinds: dict[str, int]
    hours: float
    edits_per_hour: float

    @classmethod
    def of(cls, edits: Sequence[tuple[Kind, datetime]]) -> Self:
        """Count edits, of which the kind and the time are given in the order of their making."""
        kinds: dict[str, int] = {}
        for kind, _ in edits:
            kinds[kind] = kinds.get(kind, 0) + 1
        gaps = [b - a for (_, a), (_, b) in pairwise(edits) if timedelta() <= b - a <= _BREAK]
        hours = sum(gaps, timedelta()).total_seconds() / 3600
        return cls(len(edits), kinds, hours, len(gaps) / hours if hours else 0.0)
