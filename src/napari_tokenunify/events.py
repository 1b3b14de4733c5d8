"""What a stage reports while it works: small frozen records that survive a trip through JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal


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


@dataclass(frozen=True)
class Metric:
    """Numbers measured at a step; the curves of a training are made of them.

    Attributes
    ----------
    step : int
        After how many steps.
    values : dict of str to float
        By name, e.g. `loss`, `learning_rate`, `validation_loss`, `seconds`; a name has one meaning in a run.
    """

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Preview:
    """A small file to look at while the work goes on.

    Attributes
    ----------
    step : int
        After how many steps it was made.
    path : str
        A .npy file: uint8 affinities (C, Z, Y, X), 255 = 1. Or a .npz file: reconstructions of a pre-training.
    box : str
        Where they lie in the volume, z0:z1,y0:y1,x0:x1 in voxels.
    """

    step: int
    path: str
    box: str


Event = Progress | Message | Metric | Preview

_TYPES: Final[dict[str, type[Event]]] = {kind.__name__: kind for kind in (Progress, Message, Metric, Preview)}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as a dict of plain values, its type under `event`."""
    return {"event": type(event).__name__, **asdict(event)}


def from_json(record: dict[str, Any]) -> Event | None:
    """Return the event that `to_json` made a dict of; None if it is none, or one of a newer version."""
    kind = _TYPES.get(record.get("event", ""))
    if kind is None:
        return None
    names = {field.name for field in fields(kind)}
    try:
        return kind(**{name: value for name, value in record.items() if name in names})
    except TypeError:  # something is missing
        return None
