"""Finding: one thing a check has to say about a volume or its annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple


@dataclass(frozen=True)
class Finding:
    """What a check found, where, and what to do about it.

    Attributes
    ----------
    kind : str
        A short name for programs, e.g. "tiny-id"; the same for every finding of its sort.
    severity : {"info", "warning", "error"}
        "error": work on this data cannot go on; "warning": have a look; "info": good to know.
    message : str
        For people: what was found and what to do, in one or two sentences.
    sections : tuple of int
        The z indices concerned; empty if it concerns the whole volume.
    places : tuple of (int, int, int)
        Voxels (z, y, x) to look at.
    """

    kind: str
    severity: Literal["info", "warning", "error"]
    message: str
    sections: tuple[int, ...] = ()
    places: tuple[Triple, ...] = ()
