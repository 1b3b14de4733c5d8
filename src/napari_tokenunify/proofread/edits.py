"""Edit: one step of proofreading, what the user meant by it and what it demands of the fragments."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_tokenunify.errors import ProofreadError

Kind = Literal["merge", "split", "detach", "cut", "delete", "lock", "unlock", "comment"]
KINDS: Final = ("merge", "split", "detach", "cut", "delete", "lock", "unlock", "comment")

Fragment = Annotated[int, Field(ge=1, lt=2**32)]
Point = tuple[int, int, int]
Place = Fragment | Point
"""What a user points at: a voxel (z, y, x) of the segmentation, or a fragment by its id."""
Pair = tuple[Fragment, Fragment]


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class Contact(_Record):
    """Voxels of two fragments that touch, counted anew after one of them was divided."""

    u: Fragment
    """The smaller id."""
    v: Fragment
    """The larger id."""
    count: float
    """Pairs of neighbouring voxels."""
    mean: float
    """Mean of their affinities, 0..1."""


class FragmentCut(_Record):
    """A fragment that was divided by a painted line: the only edit that adds fragments."""

    fragment: Fragment
    """What was divided; the part that keeps this id is part 0."""
    start: Point
    """First voxel (z, y, x) of the box that the fragment lies in."""
    shape: Point
    """Extent (z, y, x) of the box."""
    parts: tuple[Fragment, ...]
    """Ids of part 1, 2, ...: new ones."""
    voxels: bytes
    """Part of each voxel of the box, 0 also where the fragment is not; uint8 in C order, packed with zlib."""
    line: bytes
    """What was painted: 1 bit a voxel of the box, packed with zlib."""
    sizes: tuple[int, ...]
    """Voxels of part 0, 1, ..."""
    contacts: tuple[Contact, ...]
    """Contacts of the parts with each other and with other fragments, in place of those of the whole."""


class Edit(_Record):
    """One record of the history. Its intent is kept as well as its effect, so that it can be done again elsewhere."""

    uuid: str
    """Its name, which no other edit anywhere has."""
    parent: str | None = None
    """The edit before it; None for a first one."""
    kind: Kind
    """What was done."""
    author: str
    """Who did it."""
    time: AwareDatetime
    """When, in UTC."""
    places: tuple[tuple[Place, ...], ...] = ()
    """What the user pointed at; for a split a group of places for each side, else one group."""
    text: str = ""
    """What a comment says."""
    links: tuple[Pair, ...] = ()
    """Pairs u < v of fragments that must be in one segment."""
    cuts: tuple[Pair, ...] = ()
    """Pairs u < v of fragments that must never be in one segment."""
    released: tuple[Pair, ...] = ()
    """Pairs u < v of which nothing is demanded any more; links and cuts of this edit come after."""
    locked: tuple[Fragment, ...] = ()
    """All fragments of a segment that was marked correct."""
    unlocked: tuple[Fragment, ...] = ()
    """Fragments that may be changed again."""
    deleted: tuple[Fragment, ...] = ()
    """Fragments that belong to no segment."""
    division: FragmentCut | None = None
    """How a fragment was divided."""
    taken_from: str | None = None
    """The other person's edit that this one repeats."""

    @field_validator("links", "cuts", "released")
    @classmethod
    def _are_ordered(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        if any(u >= v for u, v in pairs):
            raise ValueError("pairs of fragments are written as u < v")
        return pairs


def new_edit(kind: Kind, author: str, parent: str | None, **content: Any) -> Edit:
    """Return an edit made now.

    Parameters
    ----------
    kind : str
        One of KINDS.
    author : str
        Who does it.
    parent : str or None
        The edit before it.
    **content
        Further fields of Edit.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    return Edit(uuid=uuid4().hex, parent=parent, kind=kind, author=author, time=now, **content)


def read_edit(text: str | bytes, where: object) -> Edit:
    """Return an edit that was written as JSON.

    Raises
    ------
    ProofreadError
        If it is none, or one of a newer version.
    """
    try:
        return Edit.model_validate_json(text)
    except ValidationError as error:
        raise ProofreadError(f"{where}: holds an edit that cannot be read; was it made by a newer version?") from error


def ordered(pairs: Iterable[tuple[int, int]]) -> tuple[Pair, ...]:
    """Return pairs as u < v, each once, sorted."""
    return tuple(sorted({(min(u, v), max(u, v)) for u, v in pairs}))


def as_place(place: Place) -> Place:
    """Return a place in plain numbers, whichever NumPy or others it came from."""
    if not isinstance(place, Iterable):
        return int(place)
    z, y, x = (int(number) for number in place)
    return z, y, x


def account_name() -> str:
    """Return the name of the account, as the author of edits."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in containers
        return "unknown"
