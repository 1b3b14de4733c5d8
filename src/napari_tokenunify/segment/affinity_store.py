"""AffinityStore: affinities on disk, ours or other people's, read box by box; a part that is not there is said."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.data.source import Location
from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.errors import SegmentError, VolumeError
from napari_tokenunify.geometry import Box
from napari_tokenunify.project import whole_folder
from napari_tokenunify.segment.affinity_writer import (
    DTYPES,
    KEY,
    UNCERTAINTY,
    WORK,
    AffinityLayout,
    AffinityWriter,
    chunk_path,
    decode,
    encode,
    read_done,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.volume import Level
    from napari_tokenunify.geometry import Triple, VoxelSize

_TOLERANCE = 1e-3  # what rounding to half precision may add


@dataclass(frozen=True, eq=False)
class AffinityStore:
    """Affinities on disk, open for reading; may be read by several threads at once, and crosses to other processes.

    Attributes
    ----------
    path : str
        The address it was opened from.
    shape : tuple of int
        (z, y, x) voxels.
    offsets : tuple of tuple of int
        One (z, y, x) a channel: channel c at voxel p links p and p + offset.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm; None if unknown.
    origin : tuple of int
        The voxel (z, y, x) of the volume that the first voxel here is: not 0, 0, 0 where a box was predicted.
    origin_nm : tuple of float
        Corner (z, y, x) in nm of the volume's first voxel.
    complete : bool
        Whether all of it is there, as it was when the store was opened.
    failed : tuple of Box
        What could not be predicted, in voxels of the store.
    settings : dict
        What the affinities were made of and how; empty if they are not ours.
    has_spread : bool
        Whether it was kept how much the answers to several orientations of a tile differ.
    """

    path: str
    shape: Triple
    offsets: tuple[Offset, ...]
    voxel_size_nm: VoxelSize | None
    origin: Triple = (0, 0, 0)
    origin_nm: VoxelSize = (0.0, 0.0, 0.0)
    complete: bool = True
    failed: tuple[Box, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    has_spread: bool = False
    _level: Level | None = field(default=None, repr=False)
    _folder: Path | None = field(default=None, repr=False)  # of a store that is ours

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in which they are stored: uint8 (times 255) or a float."""
        return self._opened().source.dtype

    def read(self, box: Box) -> NDArray[np.float32]:
        """Read a box.

        Parameters
        ----------
        box : Box
            What to read, in voxels of the store; must lie inside.

        Returns
        -------
        ndarray of float32, shape (C, Z, Y, X) of the box
            Affinities in 0..1; larger: the pair (p, p + offset) lies in one neuron.

        Raises
        ------
        SegmentError
            If the box reaches outside, blocks of it are missing or damaged, or values are no affinities.
        """
        if box.clipped(self.shape) != box:
            size = ", ".join(map(str, self.shape))
            raise SegmentError(f"{self.path}: the box {box} reaches outside the affinities of {size} voxels (z, y, x).")
        missing = self.missing(box)
        if missing:
            raise SegmentError(self._say_missing(box, missing))
        level = self._opened()
        by_axis = {"c": slice(None), **dict(zip("zyx", box.slices, strict=True))}
        stored = tuple(by_axis[axis] if axis in by_axis else level.selection[axis] for axis in level.axes)
        kept = [axis for axis in level.axes if axis in by_axis]
        try:
            block = np.asarray(level.source[stored])
        except Exception as error:
            raise SegmentError(
                f"{self.path}: the box {box} cannot be read, the file seems damaged there; predict or copy it again."
            ) from error
        affinities = decode(block.transpose([kept.index(axis) for axis in "czyx"]))
        if block.dtype != np.uint8:
            self._check_range(affinities, box)
        return affinities

    def read_spread(self, box: Box) -> NDArray[np.float32]:
        """Read how much the answers to several orientations differ in a box; only where `has_spread`.

        Parameters
        ----------
        box : Box
            What to read, in voxels of the store; must lie inside.

        Returns
        -------
        ndarray of float32, shape (Z, Y, X) of the box
            Twice the standard deviation of the affinities at a voxel, the largest of the channels: 0..1.

        Raises
        ------
        SegmentError
            If it is damaged.
        """
        try:
            return decode(open_volume(f"{self._folder}::{UNCERTAINTY}").read(box))
        except VolumeError as error:
            raise SegmentError(f"{self.path}: {error.problem}") from error

    def missing(self, box: Box | None = None) -> tuple[Box, ...]:
        """Return the blocks that are not there, of the store or of the part of it that `box` touches.

        Parameters
        ----------
        box : Box, optional
            In voxels of the store.

        Returns
        -------
        tuple of Box
            Whole blocks; none for a store that is not ours, where that cannot be known.
        """
        if self._folder is None:
            return ()
        done = None if self.complete else set(read_done(self._folder / WORK))
        if done is not None and not (self._folder / WORK).exists():
            done = None  # it has become complete since
        gone = []
        for cell, block in self._cells(box or Box.whole(self.shape)):
            if (done is not None and cell not in done) or not chunk_path(self._folder, "0", cell).is_file():
                gone.append(block)
        return tuple(gone)

    def _say_missing(self, box: Box, missing: tuple[Box, ...]) -> str:
        blocks = sum(1 for _ in self._cells(box))
        what = f"{self.path}: {len(missing)} of the {blocks} blocks in the box {box} are missing, {missing[0]} first"
        if self.complete:
            return f"{what}: files were lost; copy the store again, or predict with --overwrite."
        failed = " (some have failed)" if self.failed else ""
        return f"{what}{failed}: they are not predicted yet; run the same predict command again, it does the rest."

    def _check_range(self, affinities: NDArray[np.float32], box: Box) -> None:
        low, high = float(affinities.min()), float(affinities.max())  # NaN if there is one
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise SegmentError(
                f"{self.path}: the box {box} holds values from {low:g} to {high:g}, but affinities lie in 0..1: divide "
                "them by their maximum, or take the sigmoid if they are logits."
                if low == low and high == high
                else f"{self.path}: the box {box} holds NaN, which is no affinity: predict it again."
            )
        np.clip(affinities, 0, 1, out=affinities)

    def _cells(self, box: Box) -> Iterator[tuple[Triple, Box]]:
        return _cells(self.shape, self._opened().chunks or self.shape, box)

    def _opened(self) -> Level:
        if self._level is None:
            raise SegmentError(f"{self.path}: was not opened with open_affinities.")
        return self._level

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process as an address."""
        return open_affinities, (self.path, self.offsets)


def open_affinities(path: str | Path, offsets: Sequence[Offset] | None = None) -> AffinityStore:
    """Open affinities that `predict` or `write_affinities` made, or other people's.

    Parameters
    ----------
    path : str or Path
        `PATH.zarr`, or the URI of any array (c, z, y, x) that `open_volume` knows the format of, e.g.
        `their.h5::affinities`: uint8 (affinity times 255) or float in 0..1.
    offsets : sequence of (int, int, int), optional
        What the channels stand for, where the store does not say; by default z, y, x if there are three.

    Raises
    ------
    SegmentError
        If there is no such store, it is no array of affinities, or the offsets do not fit it.
    """
    address = str(path)
    facts, folder = _own_facts(address)
    try:
        volume = open_volume(f"{address}::c=0" if folder is None else f"{folder}::0::c=0")
    except VolumeError as error:
        raise SegmentError(f"{address}: {error.problem}") from error
    level = volume.levels[0]
    if level.source.dtype != np.uint8 and level.source.dtype.kind != "f":
        raise SegmentError(
            f"{address}: has the data type {level.dtype}, but affinities are uint8 (times 255) or floats in 0..1."
        )
    channels = level.source.shape[level.axes.index("c")]
    known = _offsets(address, channels, offsets, facts.get("offsets"))
    if folder is None:
        return AffinityStore(
            address, volume.shape, known, volume.voxel_size_nm, origin_nm=volume.origin_nm, _level=level
        )
    size, first = facts["voxel_size_nm"], facts.get("origin_nm", (0.0, 0.0, 0.0))
    return AffinityStore(
        address,
        volume.shape,
        known,
        None if size is None else (size[0], size[1], size[2]),
        (facts["origin"][0], facts["origin"][1], facts["origin"][2]),
        (first[0], first[1], first[2]),
        facts["complete"],
        tuple(map(Box.parse, facts["failed"])),
        facts["settings"],
        (folder / UNCERTAINTY).is_dir(),
        level,
        folder,
    )


def write_affinities(
    path: str | Path,
    array: NDArray[Any],
    offsets: Sequence[Offset] = DEFAULT_OFFSETS,
    voxel_size_nm: VoxelSize | None = None,
    dtype: str = "uint8",
) -> Path:
    """Write affinities that are in memory; all of them or nothing.

    Parameters
    ----------
    path : str or Path
        What to create, by custom `NAME.zarr`.
    array : ndarray, shape (C, Z, Y, X)
        Floats in 0..1, or uint8 (affinity times 255).
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel.
    voxel_size_nm : tuple of float, optional
        (z, y, x) in nm.
    dtype : {"uint8", "float16"}
        How to store them; uint8 takes half the room and rounds to 1/255.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    SegmentError
        If something is there already, the array is none of affinities, or it cannot be written.
    """
    path = Path(path).expanduser()
    if array.ndim != 4 or min(array.shape) < 1 or dtype not in DTYPES:
        raise SegmentError(
            f"{path}: is not written: affinities have the axes c, z, y, x and are stored as uint8 or float16, not "
            f"with the shape {array.shape} as {dtype}."
        )
    known = _offsets(str(path), array.shape[0], offsets, None)
    # `not (a <= b)` is also true of NaN
    if array.dtype != np.uint8 and not (array.min() >= -_TOLERANCE and array.max() <= 1 + _TOLERANCE):
        raise SegmentError(f"{path}: is not written: affinities lie in 0..1, but these have NaN or other values.")
    layout = AffinityLayout((array.shape[1], array.shape[2], array.shape[3]), known, dtype, voxel_size_nm)
    with whole_folder(path, SegmentError) as part:
        writer = AffinityWriter.create(part, layout)
        for cell, block in _cells(layout.shape, layout.cell, Box.whole(layout.shape)):
            values = array[(slice(None), *block.slices)]
            whole = values if values.dtype == dtype else encode(np.clip(decode(values), 0, 1), dtype)
            writer.write(cell, whole)
        writer.finish()
    return path


def _own_facts(address: str) -> tuple[dict[str, Any], Path | None]:
    """Return what we wrote about a store and its folder; nothing if it is not ours."""
    location = Location.parse(address)
    if location.is_remote or location.inner not in {"", "0"}:
        return {}, None
    try:
        text = (location.path / "zarr.json").read_text(encoding="utf-8")
        facts = json.loads(text)["attributes"][KEY]
    except (OSError, ValueError, LookupError, TypeError):
        return {}, None
    return (facts, location.path) if facts.get("kind") == "affinities" else ({}, None)


def _offsets(
    address: str, channels: int, given: Sequence[Offset] | None, stored: list[list[int]] | None
) -> tuple[Offset, ...]:
    known = None if stored is None else tuple((z, y, x) for z, y, x in stored)
    wanted = None if given is None else tuple((int(z), int(y), int(x)) for z, y, x in given)
    if known is not None and wanted is not None and wanted != known:
        raise SegmentError(f"{address}: has the offsets {list(known)}, not {list(wanted)}; leave out --offsets.")
    offsets = wanted or known or (DEFAULT_OFFSETS if channels == len(DEFAULT_OFFSETS) else ())
    if len(offsets) != channels:
        raise SegmentError(
            f"{address}: has {channels} channels, but {len(offsets) or 'no'} offsets are known: give one z,y,x for "
            "each channel."
        )
    return offsets


def _cells(shape: Triple, size: Triple, box: Box) -> Iterator[tuple[Triple, Box]]:
    """Yield the cells of a size that a box touches, and the voxels of each."""
    spans = [range(a // s, -(-b // s)) for a, b, s in zip(box.start, box.stop, size, strict=True)]
    for z, y, x in itertools.product(*spans):
        start = (z * size[0], y * size[1], x * size[2])
        stop = tuple(min(a + s, n) for a, s, n in zip(start, size, shape, strict=True))
        yield (z, y, x), Box(start, (stop[0], stop[1], stop[2]))
