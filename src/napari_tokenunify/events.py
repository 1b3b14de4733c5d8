"""What a stage reports while it works: small frozen records that survive a trip through JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Progress:
    """So much is done.

    Attributes
    ----------
    done, total : int
        Steps finished, and steps in all; equal when the work is finished.
    what : str
        What is being done, as a short phrase for a progress bar.
    """

    done: int
    total: int
    what: str


@dataclass(frozen=True)
class Message:
    """Something the user should know; `level` "warning" asks for attention, nothing has stopped."""

    text: str
    level: Literal["info", "warning"] = "info"


Event = Progress | Message


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as a dict of plain values, its type under `event`."""
    return {"event": type(event).__name__, **asdict(event)}
