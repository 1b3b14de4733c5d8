"""Intensity: one range a volume, measured once from a sample, that maps its voxels to floats in 0..1."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import VolumeError
from napari_tokenunify.geometry import Box, Triple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume

_PERCENTILES = (0.5, 99.5)
_SAMPLE_VOXELS = 3_000_000
_BLOCKS = 256  # informative blocks wanted
_TRIES = 1024  # blocks looked at in a volume that is mostly blank
_FEWEST_BLOCKS = 8  # looked at however large a chunk is
_DECODED_BYTES = 512 << 20  # chunks are decoded whole: what all blocks together may cost
_BLOCK_VOXELS = 1 << 18  # held in memory of one chunk
_UNCHUNKED_BLOCK: Triple = (8, 64, 64)
_SIMILAR = 0.25  # of the training's range: by how much the ends may differ from it


@dataclass(frozen=True)
class IntensityRange:
    """What becomes 0 and what becomes 1 when a volume is normalised.

    Attributes
    ----------
    low, high : float
        Robust minimum and maximum, in the volume's own values.
    """

    low: float
    high: float

    def normalise(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Map voxels to 0..1, clipped.

        Parameters
        ----------
        array : ndarray, any shape, integer or float
            Voxels in the volume's own values; not changed.

        Returns
        -------
        ndarray of float32, same shape
            In 0..1. NaN becomes 0, so that one bad voxel cannot spoil a training step; all is 0 where `high` is
            not above `low`.
        """
        if not self.high > self.low:
            return np.zeros(array.shape, np.float32)
        # float64 may hold an offset so large that float32 would lose the differences
        wide = array.dtype.kind == "f" or array.dtype.itemsize > 2
        scaled: NDArray[Any] = np.subtract(array, self.low, dtype=np.float64 if wide else np.float32)
        scaled /= self.high - self.low
        np.clip(scaled, 0, 1, out=scaled)
        if array.dtype.kind == "f":
            np.nan_to_num(scaled, copy=False)
        return scaled.astype(np.float32, copy=False)


def intensity_range(volume: Volume, store: Path | None = None, seed: int = 0) -> IntensityRange:
    """Measure the 0.5 and 99.5 percentile of a volume from a bounded sample, or take what was stored.

    About 3 million voxels are read in blocks spread over the whole volume, at full resolution (coarser levels
    are averages and have a narrower range). Blank sections and padding do not count.

    Parameters
    ----------
    volume : Volume
        An image: uint8, uint16, int16 or float.
    store : Path, optional
        A JSON file that keeps the ranges of any number of volumes; made if missing, replaced if damaged. A
        volume whose file has changed is measured again. Arrays in memory are not kept.
    seed : int
        Which blocks are taken; a stored range is used whatever the seed.

    Raises
    ------
    VolumeError
        If the voxels are labels, are not finite, or have one value everywhere.
    """
    if volume.dtype.kind in "iu" and volume.dtype.itemsize > 2:
        raise VolumeError(
            volume.uri,
            f"has the data type {volume.dtype}, as labels have: give the image, or convert it to uint8 or uint16.",
        )
    key = _fingerprint(volume) if store is not None else None
    if store is None or key is None:
        return _measure(volume, seed)
    known = _stored(store, key)
    if known is None:
        known = _measure(volume, seed)
        _keep(store, key, known)
    return known


def choose_intensity(volume: Volume, trained: IntensityRange | None) -> tuple[IntensityRange, str]:
    """Return what grey values become 0 and 1 for a network, and a sentence on where that comes from.

    Parameters
    ----------
    volume : Volume
        The image; its range is measured.
    trained : IntensityRange or None
        What a network was trained on. It is taken if the volume's is much the same: then the same grey means the
        same as in training.

    Raises
    ------
    VolumeError
        If no range can be measured.
    """
    measured = intensity_range(volume)
    text = f"Grey values {measured.low:g} to {measured.high:g} become 0 to 1, as measured in the volume"
    if trained is None:
        return measured, f"{text}; those of the network's training are unknown."
    room = _SIMILAR * (trained.high - trained.low)
    if max(abs(measured.low - trained.low), abs(measured.high - trained.high)) > room:
        return measured, f"{text}, because the network was trained on values from {trained.low:g} to {trained.high:g}."
    return trained, f"Grey values {trained.low:g} to {trained.high:g} become 0 to 1, as in the network's training."


def tissue(array: NDArray[Any]) -> NDArray[Any]:
    """Return the voxels that are not blank, nor padding around the tissue.

    Parameters
    ----------
    array : ndarray, any shape
        In each line along its longest axis, a stretch of one value at either end does not count.

    Returns
    -------
    ndarray, one axis
        The other voxels, line by line.
    """
    longest = max(range(array.ndim), key=lambda axis: (array.shape[axis], axis))
    if array.shape[longest] < 2:
        return array.ravel()
    lines = np.moveaxis(array, longest, -1)
    blank = np.zeros(lines.shape, bool)
    for way in (slice(None), slice(None, None, -1)):
        line, out = lines[..., way], blank[..., way]
        same = np.logical_and.accumulate(line[..., 1:] == line[..., :-1], axis=-1)
        out[..., 1:] |= same
        out[..., :1] |= same[..., :1]
    values: NDArray[Any] = lines[~blank]
    return values


def _measure(volume: Volume, seed: int) -> IntensityRange:
    sample = _sample(volume, seed, tissue)
    if not (sample != sample[:1]).any():  # perhaps a drawing, which without noise is stretches of one value
        sample = _sample(volume, seed, np.ravel)
    if not (sample != sample[:1]).any():
        raise VolumeError(
            volume.uri, f"seems blank: all sampled voxels are {sample[0]}; check that it is the right dataset."
        )
    if not np.isfinite(sample).all():
        raise VolumeError(
            volume.uri,
            "holds values that are not finite (NaN or infinity): replace them, e.g. by 0, and save it again.",
        )
    low, high = (float(value) for value in np.percentile(sample, _PERCENTILES))
    if not high > low:  # almost everything has one value
        low, high = float(sample.min()), float(sample.max())
    return IntensityRange(low, high)


def _sample(volume: Volume, seed: int, pick: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Return voxels from blocks spread over the volume: a part of what `pick` leaves of each."""
    rng = np.random.default_rng(seed)
    chunk = _chunk(volume)
    grid = _grid(volume.shape, chunk)
    affordable = max(_FEWEST_BLOCKS, _DECODED_BYTES // (math.prod(chunk) * volume.dtype.itemsize))
    wanted = min(_BLOCKS, affordable, math.prod(grid))
    share = -(-_SAMPLE_VOXELS // wanted)
    parts: list[NDArray[Any]] = []
    middle = (volume.shape[0] // 2 // chunk[0], volume.shape[1] // 2 // chunk[1], volume.shape[2] // 2 // chunk[2])
    for cell in _cells(grid, middle, min(_TRIES, affordable), rng):
        values = pick(volume.read(_block(cell, chunk, volume.shape, rng)))
        if not values.size:
            continue
        parts.append(values if values.size <= share else values[rng.integers(0, values.size, share)])
        if len(parts) == wanted:
            break
    sample = np.concatenate(parts) if parts else np.empty(0, volume.dtype)
    return sample.astype(np.float64) if volume.dtype.kind == "f" else sample


def _chunk(volume: Volume) -> Triple:
    z, y, x = (min(c, n) for c, n in zip(volume.chunks or _UNCHUNKED_BLOCK, volume.shape, strict=True))
    return z, y, x


def _grid(shape: Triple, chunk: Triple) -> Triple:
    z, y, x = (-(-n // c) for n, c in zip(shape, chunk, strict=True))
    return z, y, x


def _cells(grid: Triple, middle: Triple, tries: int, rng: np.random.Generator) -> Iterator[Triple]:
    """Yield different cells of a grid: all if there are few, else the middle one and a Latin hypercube of them."""
    if math.prod(grid) <= tries:
        for index in rng.permutation(math.prod(grid)):
            z, y, x = np.unravel_index(index, grid)
            yield int(z), int(y), int(x)
        return
    axes = [((rng.permutation(tries) + rng.random(tries)) / tries * n).astype(int).tolist() for n in grid]
    yield from dict.fromkeys([middle, *zip(*axes, strict=True)])  # tissue is in the middle, if anywhere


def _block(cell: Triple, chunk: Triple, shape: Triple, rng: np.random.Generator) -> Box:
    """Return a random box inside one chunk, small enough to hold."""
    low = [i * c for i, c in zip(cell, chunk, strict=True)]
    size = [min(c, n - a) for c, n, a in zip(chunk, shape, low, strict=True)]
    room = list(size)
    while math.prod(size) > _BLOCK_VOXELS:
        longest = size.index(max(size))
        size[longest] = -(-size[longest] // 2)
    z, y, x = (int(a + rng.integers(0, r - s + 1)) for a, r, s in zip(low, room, size, strict=True))
    return Box((z, y, x), (z + size[0], y + size[1], x + size[2]))


def _fingerprint(volume: Volume) -> str | None:
    """Return a text that changes when the file does; None for an array that is in no file."""
    facts = volume.provenance
    where = Location.parse(volume.uri)
    if "file_bytes" not in facts and not where.is_remote:
        return None
    address = where.where if where.is_remote else str(where.path.resolve())
    # The time of a folder says little of the files deep inside: a few voxels tell more.
    few = volume.checksum(volume.centre_box((1, 64, 64)))
    parts = [facts.get(name) for name in ("inner", "selection", "file_bytes", "file_modified")]
    text = json.dumps([address, *parts, volume.shape, volume.dtype, few], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_store(store: Path) -> dict[str, Any]:
    try:
        entries = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _stored(store: Path, key: str) -> IntensityRange | None:
    entry = _read_store(store).get(key)
    try:
        known = IntensityRange(float(entry["low"]), float(entry["high"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    return known if -math.inf < known.low < known.high < math.inf else None


def _keep(store: Path, key: str, measured: IntensityRange) -> None:
    entries = {**_read_store(store), key: asdict(measured)}
    # The range can be measured again: a full or read-only disk is no reason to stop here.
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=store.parent, prefix=f".{store.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=1)
            Path(name).replace(store)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
