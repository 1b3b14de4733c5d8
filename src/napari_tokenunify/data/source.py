"""What stands between an address and a Volume: Location (where) and Source (what a format module found there)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from napari_tokenunify.errors import Candidate, DatasetChoiceError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from napari_tokenunify.geometry import VoxelSize

_SELECTION = re.compile(r"[a-z]=\d+(,[a-z]=\d+)*")
_STORE_IN_PATH = re.compile(r"(?P<store>.+?\.(?:zarr(?:\.zip)?|ozx|n5|h5|hdf5|hdf))[/\\](?P<inner>.+)", re.IGNORECASE)


class LazyArray(Protocol):
    """An N-dimensional array that reads from disk only what is indexed with a tuple of slices and integers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def __getitem__(self, index: tuple[slice | int, ...], /) -> Any:
        """Read a part; the result is anything `numpy.asarray` accepts."""


@dataclass(frozen=True)
class Location:
    """A parsed URI: `where`, optionally `::inner`, optionally `::c=1,t=0`.

    Attributes
    ----------
    uri : str
        The address as the user gave it, for messages.
    where : str
        A path on this machine, or an `http(s)://`, `s3://` or `gs://` address.
    inner : str
        Path of a dataset inside the file or store, without slashes at its ends; "" if none was named.
    selection : mapping of str to int
        The index to take on a channel or time axis, by the axis' letter.
    """

    uri: str
    where: str
    inner: str = ""
    selection: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, uri: str | Path) -> Location:
        """Split a URI into its parts.

        `store.zarr/volumes/raw` means the same as `store.zarr::volumes/raw`.

        Raises
        ------
        VolumeError
            If the text is empty or has too many `::` parts.
        """
        text = str(uri).strip()
        where, *parts = text.split("::")
        selection: dict[str, int] = {}
        if parts and _SELECTION.fullmatch(parts[-1]):
            selection = {item[0]: int(item[2:]) for item in parts.pop().split(",")}
        if not where or len(parts) > 1:
            raise VolumeError(text or "''", "is no address: write path, path::inner or path::inner::c=0.")
        inner = parts[0].strip("/") if parts else ""
        match = _STORE_IN_PATH.fullmatch(where)
        if not inner and match is not None:
            where, inner = match["store"], match["inner"].replace("\\", "/").strip("/")
        return cls(text, where, inner, selection)

    @property
    def is_remote(self) -> bool:
        """Whether `where` is an address on a network."""
        return "://" in self.where

    @property
    def path(self) -> Path:
        """`where` as a path on this machine."""
        return Path(self.where).expanduser()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the name in lower case, e.g. (".ome", ".tif")."""
        return tuple(suffix.lower() for suffix in Path(self.where.rstrip("/")).suffixes)


@dataclass(frozen=True)
class SourceLevel:
    """One resolution of what was found, with all its stored axes.

    Attributes
    ----------
    array : LazyArray
        The data, axes as stored.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm of this level; None if the file does not say.
    chunks : tuple of int or None
        What the file reads at once, along the stored axes; None if it can be read anywhere at equal cost.
    """

    array: LazyArray
    voxel_size_nm: VoxelSize | None = None
    chunks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """What a format module found at a Location, before a channel is chosen or an axis moved.

    Attributes
    ----------
    format : str
        Name for people, e.g. "OME-Zarr 0.5".
    axes : str
        One letter a stored axis: z, y, x, and c (channel), t (time) where there are more.
    levels : tuple of SourceLevel
        Finest first.
    inner : str
        The dataset that was opened, when there was a choice inside the file.
    origin_nm : tuple of float
        (z, y, x) in nm of the first voxel's corner, where the file says so.
    voxel_size_source : str
        Where the voxel size was read, e.g. "attribute resolution"; "" if nowhere.
    others : tuple of str
        Inner paths of what belongs to the dataset that was opened, e.g. the label images of an OME-Zarr image.
    """

    format: str
    axes: str
    levels: tuple[SourceLevel, ...]
    inner: str = ""
    origin_nm: VoxelSize = (0.0, 0.0, 0.0)
    voxel_size_source: str = ""
    others: tuple[str, ...] = ()


def default_axes(ndim: int) -> str:
    """Return the axes of an array whose file does not name them: 3 are zyx, a fourth before is c, a fifth t."""
    return "tczyx"[-ndim:] if 0 < ndim <= 5 else "?" * ndim


def as_voxel_size(value: object, nm_per_unit: float = 1.0) -> VoxelSize | None:
    """Return three positive finite numbers (z, y, x) as a voxel size in nm; None for anything else.

    Parameters
    ----------
    value : object
        What a file holds where a voxel size is expected: a list, tuple or array.
    nm_per_unit : float
        Nanometres in one unit of `value`.
    """
    try:
        z, y, x = (float(number) * nm_per_unit for number in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return None
    return (z, y, x) if all(0 < number < math.inf for number in (z, y, x)) else None


def choose_dataset(location: Location, candidates: Sequence[Candidate]) -> str:
    """Return the inner path to open: the one named, or the only volume there is.

    Parameters
    ----------
    location : Location
        What was asked for; its `inner` may be empty.
    candidates : sequence of Candidate
        Every array in the file; its `inner` without slashes at the ends.

    Raises
    ------
    DatasetChoiceError
        If `inner` is not among them, or is empty and several arrays have three axes or more.
    VolumeError
        If no array has three axes or more.
    """
    if location.inner:
        if any(candidate.inner == location.inner for candidate in candidates):
            return location.inner
        problem = f"has no dataset '{location.inner}' inside; "
    else:
        problem = "holds several datasets; "
    volumes = tuple(candidate for candidate in candidates if len(candidate.shape) >= 3)
    if not volumes:
        raise VolumeError(location.uri, "holds no array of three axes or more: name a file with an image stack.")
    if len(volumes) == 1 and not location.inner:
        return volumes[0].inner
    example = f"{location.where}::{volumes[0].inner}"
    listing = ", ".join(map(str, volumes[:12])) + (", ..." if len(volumes) > 12 else "")
    raise DatasetChoiceError(location.uri, f"{problem}name one, e.g. {example}. There are: {listing}.", volumes)
