"""Where to annotate next: the places at which a prediction is least sure and nothing is labelled yet."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.data.source import Location
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import affinity_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.segment.affinity_store import AffinityStore

MOST_BLOCKS: Final = 200  # of a store's blocks that are read: a gigabyte of affinities, some seconds
LABELLED_SHARE: Final = 0.25  # of a place, from which on it counts as annotated

_EXTENT_NM: Final = (160.0, 640.0, 640.0)  # of a place: some neurites across, and sections that can be painted
_LEAST: Final = (3, 32, 32)
_MOST: Final = (32, 256, 256)
_UNKNOWN: Final = (16, 64, 64)


@dataclass(frozen=True)
class SuggestedPlace:
    """A place that is worth annotating.

    Attributes
    ----------
    box : Box
        Where, in voxels of the volume.
    uncertainty : float
        Mean of `1 - |2 a - 1|` over its affinities: 0 where all are 0 or 1, 1 where all are 0.5.
    """

    box: Box
    uncertainty: float


@dataclass(frozen=True)
class Suggestions:
    """The places found, and how much of the prediction was looked at.

    Attributes
    ----------
    places : tuple of SuggestedPlace
        The least sure one first.
    seen, blocks : int
        Blocks of the store that were read, and those that are predicted: with more than `MOST_BLOCKS`, a random
        sample is read.
    """

    places: tuple[SuggestedPlace, ...]
    seen: int
    blocks: int


def suggest_places(
    affinities: AffinityStore, annotations: Annotations | None = None, most: int = 10, seed: int = 0
) -> Suggestions:
    """Find where a network is least sure and nothing is labelled: labels there teach it most.

    This is uncertainty sampling (Lewis and Gale 1994, A sequential algorithm for training text classifiers): ask for
    the answers that are nearest to 0.5. What is predicted is split into places of about 160 x 640 x 640 nm. Memory and
    time do not grow with the volume.

    Parameters
    ----------
    affinities : AffinityStore
        The prediction; blocks that are not there yet are left out.
    annotations : Annotations, optional
        Labels on the volume. A place of which they cover `LABELLED_SHARE` or more is left out.
    most : int
        How many places at most. No two of them touch.
    seed : int
        Another seed reads other blocks, where not all are read.

    Raises
    ------
    SegmentError
        If the affinities are damaged.
    AnnotationError, VolumeError
        If the labels are.
    """
    chosen, blocks = _some_blocks(affinities, seed)
    shape = _place_shape(affinities.voxel_size_nm)
    found = [place for block in chosen for place in _places_in(affinities, block, shape)]
    found.sort(key=lambda place: (-place.uncertainty, place.box.start))
    places = _apart(found, most, lambda place: not _is_labelled(place, annotations))
    return Suggestions(places, len(chosen), blocks)


def _place_shape(voxel_size_nm: VoxelSize | None) -> Triple:
    """Return how many voxels (z, y, x) a place has."""
    if voxel_size_nm is None:
        return _UNKNOWN
    shape = np.rint(np.array(_EXTENT_NM) / voxel_size_nm).clip(_LEAST, _MOST).astype(int)
    return int(shape[0]), int(shape[1]), int(shape[2])


def _some_blocks(affinities: AffinityStore, seed: int) -> tuple[list[Box], int]:
    """Return `MOST_BLOCKS` at most of the blocks that are predicted, in voxels of the store, and how many there are."""
    size = np.minimum(affinity_writer.CELL, affinities.shape)
    grid = -(-np.array(affinities.shape) // size)
    work = Location.parse(affinities.path).path / affinity_writer.WORK
    done = None if affinities.complete or not work.exists() else np.array(affinity_writer.read_done(work))
    blocks = int(grid.prod(dtype=np.int64)) if done is None else len(done)
    numbers = np.random.default_rng(seed).choice(blocks, min(blocks, MOST_BLOCKS), replace=False) if blocks else ()
    cells = [np.unravel_index(number, grid) if done is None else done[number] for number in numbers]
    starts = [(np.array(cell) * size).tolist() for cell in cells]
    whole = Box.whole((int(size[0]), int(size[1]), int(size[2])))
    boxes = [whole.shifted((z, y, x)).clipped(affinities.shape) for z, y, x in starts]
    return [box for box in boxes if box is not None], blocks


def _places_in(affinities: AffinityStore, block: Box, shape: Triple) -> Iterator[SuggestedPlace]:
    """Yield the places of a block: even parts of about `shape` voxels."""
    doubt, known = _doubt(affinities, block)
    spans = [
        list(itertools.pairwise(np.linspace(0, n, max(1, round(n / s)) + 1).astype(int).tolist()))
        for n, s in zip(block.shape, shape, strict=True)
    ]
    for z, y, x in itertools.product(*spans):
        part = Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
        pairs = int(known[part.slices].sum())
        if pairs:
            box = part.shifted(block.start).shifted(affinities.origin)
            yield SuggestedPlace(box, float(doubt[part.slices].sum(dtype=np.float64)) / pairs)


def _doubt(affinities: AffinityStore, block: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the sum of `1 - |2 a - 1|` over the channels at each voxel, and over how many it goes.

    A pair that reaches outside of the store does not count: nothing can be known of it.
    """
    read = affinities.read(block)
    doubt, known = np.zeros(block.shape, np.float32), np.zeros(block.shape, np.uint8)
    for channel, offset in zip(read, affinities.offsets, strict=True):
        partners = block.shifted(offset).clipped(affinities.shape)
        if partners is None:
            continue
        here = partners.shifted(_negative(offset)).shifted(_negative(block.start)).slices
        doubt[here] += 1 - np.abs(2 * channel[here] - 1)
        known[here] += 1
    return doubt, known


def _is_labelled(place: SuggestedPlace, annotations: Annotations | None) -> bool:
    inside = place.box.clipped(annotations.shape) if annotations is not None else None
    if annotations is None or inside is None:
        return False
    ids = annotations.read(inside)
    return bool(np.count_nonzero(ids) >= LABELLED_SHARE * ids.size)


def _apart(
    ordered: list[SuggestedPlace], most: int, wanted: Callable[[SuggestedPlace], bool]
) -> tuple[SuggestedPlace, ...]:
    """Return the first places that are wanted and do not touch each other."""
    taken: list[SuggestedPlace] = []
    for place in ordered:
        if len(taken) >= most:
            break
        if not any(_touch(place.box, other.box) for other in taken) and wanted(place):
            taken.append(place)
    return tuple(taken)


def _touch(one: Box, other: Box) -> bool:
    return all(a <= d and c <= b for a, b, c, d in zip(one.start, one.stop, other.start, other.stop, strict=True))


def _negative(step: Triple) -> Triple:
    return -step[0], -step[1], -step[2]
