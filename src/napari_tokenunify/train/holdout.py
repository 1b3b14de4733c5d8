"""Hold-out: a few boxes of the annotations that are kept for validation and hidden from training, with a margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.affinities import Offset, known_affinities, offset_reach
from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.geometry import Box, Triple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import LabelledBlock

SHARE: Final = 0.2
LEAST: Final = 32  # pairs of each kind, below which a score says nothing
MOST_BOXES: Final = 8

_SCALES: Final = (1.0, 0.5, 0.25, 0.125)  # of a crop: the largest boxes that fit are taken
_FLAT: Final = 8  # sections of a crop that has no depth to spare: its boxes get smaller in y and x first
_CELLS: Final = 4  # along each axis of a crop
_MOST_CELLS: Final = 1 << 20  # with known pairs, so that memory is bounded
_TRIES: Final = 48  # places that are looked at closely for each size
_MARGIN: Final = 8  # the margin is this part of a box


@dataclass(frozen=True)
class PairCounts:
    """Known pairs of voxels.

    Attributes
    ----------
    joined, apart : int
        How many lie in one neuron, and how many do not.
    """

    joined: int = 0
    apart: int = 0

    @property
    def known(self) -> int:
        """Both together."""
        return self.joined + self.apart

    def __add__(self, other: PairCounts) -> PairCounts:
        """Return the pairs here and there."""
        return PairCounts(self.joined + other.joined, self.apart + other.apart)

    def __sub__(self, other: PairCounts) -> PairCounts:
        """Return the pairs here without those there."""
        return PairCounts(self.joined - other.joined, self.apart - other.apart)

    def reaches(self, joined: float, apart: float) -> bool:
        """Return whether there are as many pairs of each kind."""
        return self.joined >= joined and self.apart >= apart


@dataclass(frozen=True, eq=False)
class HiddenAnnotations(Annotations):
    """Annotations of which some boxes are unlabelled, whatever is stored there; as lazy as those.

    Attributes
    ----------
    hidden : tuple of Box
        Where every voxel reads as 0, unlabelled.
    """

    hidden: tuple[Box, ...] = ()

    def read(self, box: Box) -> NDArray[np.uint64]:
        """Read the ids in a box that lies inside, as `Annotations.read` does, and hide what is to be hidden."""
        ids = super().read(box)
        back = (-box.start[0], -box.start[1], -box.start[2])
        for hidden in self.hidden:
            part = hidden.shifted(back).clipped(box.shape)
            if part is not None:
                ids[part.slices] = 0
        return ids


@dataclass(frozen=True, eq=False)
class HoldOut:
    """What is kept for validation, and what is left for training.

    Attributes
    ----------
    boxes : tuple of Box
        At most `MOST_BOXES`, none overlapping; each holds known pairs of both kinds.
    training : HiddenAnnotations
        The annotations without the boxes and a margin around them. A pair of which either end lies in a box is not
        known here.
    held : PairCounts
        The known pairs (p, p + offset) with p in a box.
    left : PairCounts
        The known pairs of `training`.
    """

    boxes: tuple[Box, ...]
    training: HiddenAnnotations
    held: PairCounts
    left: PairCounts


def hold_out(
    annotations: Annotations, offsets: Sequence[Offset], crop: Triple, share: float = SHARE, seed: int = 0
) -> tuple[HoldOut | None, str]:
    """Choose boxes of the annotations for validation.

    Places where more is known, of both kinds of pairs, are more likely. The boxes have the size of a crop if that
    leaves enough for training, else half of it or a quarter. Labels are read once, block by block, and then a few
    boxes; memory is bounded.

    Parameters
    ----------
    annotations : Annotations
        Dense, sections or scribbles.
    offsets : sequence of (int, int, int)
        Which pairs count, (z, y, x) each.
    crop : tuple of int
        The largest box, (z, y, x) in voxels.
    share : float
        How much training loses at most, boxes and margins together, of the pairs of either kind, 0..1.
    seed : int
        Not negative; another one chooses other boxes.

    Returns
    -------
    HoldOut or None
        None if too little is annotated: fewer than `LEAST` pairs of a kind would be held out, or left.
    str
        A sentence for the user that says which.

    Raises
    ------
    AnnotationError, VolumeError
        If the labels cannot be read.
    """
    z, y, x = (-(-size // _CELLS) for size in crop)
    cells = _Cells.of(annotations, offsets, (z, y, x))
    total = PairCounts(*cells.counts.sum(axis=0).tolist())
    if not total.reaches(2 * LEAST, 2 * LEAST):
        return None, (
            f"Too little is annotated to hold any of it out for validation ({total.joined:,} pairs of voxels are known "
            f"to be joined, {total.apart:,} to be apart): all of it is trained on."
        )
    search = _Search(annotations, offsets, total, share)
    best: HoldOut | None = None
    for size in _sizes(crop, annotations.shape):
        found = search.choose(_proposals(cells, size, seed))
        if found is not None and (best is None or found.held.known > best.held.known):
            best = found
        if best is not None and best.held.known >= total.known * share / 2:
            break
    if best is None:
        return None, (
            f"The annotations lie too close together to hold out a part of at most {share:.0%} for validation: all of "
            "them are trained on; annotate a few more places to have the training checked."
        )
    many = "1 place" if len(best.boxes) == 1 else f"{len(best.boxes)} places"
    return best, (
        f"Kept for validation: {many} with {best.held.known:,} of {total.known:,} known pairs ({best.held.apart:,} of "
        f"{total.apart:,} apart); {best.left.known:,} are trained on."
    )


@dataclass(frozen=True, eq=False)
class _Search:
    annotations: Annotations
    offsets: Sequence[Offset]
    total: PairCounts
    share: float

    def choose(self, proposals: Iterator[Box]) -> HoldOut | None:
        """Take boxes in the order they are proposed, until the share is used up."""
        source = self.annotations
        hidden = HiddenAnnotations(source.labels, source.boundary_id, source.zero_is_boundary)
        boxes: list[Box] = []
        held, left, tries = PairCounts(), self.total, 0
        for box in proposals:
            around = box.grown(self._margin(box)).clipped(source.shape) or box
            if any(around.overlap(other) for other in hidden.hidden):
                continue
            tries += 1
            inside = self._count(source, box)
            more = replace(hidden, hidden=(*hidden.hidden, around))
            rest = left - self._lost(hidden, more, around)
            if inside.reaches(1, 1) and rest.reaches(*self._least_left):
                boxes.append(box)
                hidden, held, left = more, held + inside, rest
            if tries == _TRIES or len(boxes) == MOST_BOXES:
                break
        return HoldOut(tuple(boxes), hidden, held, left) if held.reaches(LEAST, LEAST) else None

    @property
    def _least_left(self) -> tuple[float, float]:
        kept = 1 - self.share
        return max(LEAST, kept * self.total.joined), max(LEAST, kept * self.total.apart)

    def _margin(self, box: Box) -> Triple:
        """Return a part of the box, and at least so much that no pair with an end in it is known outside."""
        z, y, x = (max(1, size // _MARGIN, reach) for size, reach in zip(box.shape, self._reach, strict=True))
        return z, y, x

    @property
    def _reach(self) -> Triple:
        down, up = offset_reach(self.offsets)
        return max(up[0], -down[0]), max(up[1], -down[1]), max(up[2], -down[2])

    def _lost(self, before: HiddenAnnotations, after: HiddenAnnotations, hidden: Box) -> PairCounts:
        region = hidden.grown(self._reach).clipped(before.shape) or hidden
        return self._count(before, region) - self._count(after, region)

    def _count(self, annotations: Annotations, box: Box) -> PairCounts:
        target, mask = annotations.known(self.offsets, box)
        joined = int(np.count_nonzero(target))
        return PairCounts(joined, int(np.count_nonzero(mask)) - joined)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Known pairs, counted in those cells of a grid that hold any.

    Attributes
    ----------
    shape, cell : tuple of int
        Of the volume and of a cell in voxels, (z, y, x).
    keys : ndarray of int64, shape (N,)
        Flat index of each cell in the grid, ascending.
    counts : ndarray of int64, shape (N, 2)
        Joined and apart pairs (p, p + offset) with p in the cell.
    """

    shape: Triple
    cell: Triple
    keys: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, annotations: Annotations, offsets: Sequence[Offset], cell: Triple) -> _Cells:
        """Count in one pass over the labels; with very many cells, larger ones are taken."""
        cells = cls(annotations.shape, cell, np.empty(0, np.int64), np.empty((0, 2), np.int64))
        for block in annotations.labelled_blocks(offsets):
            cells = cells.with_block(block, *known_affinities(block.around, offsets, annotations.boundary_id))
            while len(cells.keys) > _MOST_CELLS:
                cells = cells.coarser()
        return cells

    @property
    def grid(self) -> Triple:
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.cell, strict=True))
        return z, y, x

    @property
    def places(self) -> NDArray[np.int64]:
        """Where each cell lies in the grid, shape (N, 3)."""
        return np.stack(np.unravel_index(self.keys, self.grid), axis=1).astype(np.int64)

    def with_block(self, block: LabelledBlock, target: NDArray[np.bool_], mask: NDArray[np.bool_]) -> _Cells:
        both = []
        for pairs in (target, mask & ~target):
            sums = pairs[:, *block.inner.slices].sum(axis=0, dtype=np.int64)
            for axis, (start, width) in enumerate(zip(block.box.start, self.cell, strict=True)):
                cuts = np.arange(start // width * width - start, sums.shape[axis], width).clip(min=0)
                sums = np.add.reduceat(sums, cuts, axis=axis)
            both.append(sums)
        counts = np.stack(both, axis=-1)
        found = counts.any(axis=-1)
        places = np.argwhere(found) + np.array(block.box.start) // np.array(self.cell)
        return self._merged(places, counts[found])

    def coarser(self) -> _Cells:
        """Return the same in cells twice as large along each axis."""
        z, y, x = self.cell
        none = _Cells(self.shape, (2 * z, 2 * y, 2 * x), self.keys[:0], self.counts[:0])
        return none._merged(self.places // 2, self.counts)

    def windows(self, width: Triple) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for a window of cells around each cell its first place, shape (N, 3), and its sums, (N, 2)."""
        first = (self.places - (np.array(width) - 1) // 2).clip(0, np.array(self.grid) - width)
        sums = np.zeros_like(self.counts)
        for step in product(*map(range, width)):
            wanted = np.ravel_multi_index(tuple((first + step).T), self.grid)
            row = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
            sums += np.where((self.keys[row] == wanted)[:, None], self.counts[row], 0)
        return first, sums

    def _merged(self, places: NDArray[np.int64], counts: NDArray[np.int64]) -> _Cells:
        keys = np.append(self.keys, np.ravel_multi_index(tuple(places.T), self.grid))
        keys, owner = np.unique(keys, return_inverse=True)
        total = np.zeros((len(keys), 2), np.int64)
        np.add.at(total, owner, np.concatenate([self.counts, counts]))
        return replace(self, keys=keys, counts=total)


def _sizes(crop: Triple, shape: Triple) -> list[Triple]:
    """Return what boxes may measure, large to small; of a flat crop first those that keep its depth."""
    sizes = []
    for scale in _SCALES:
        for depth in (1.0, scale) if crop[0] <= _FLAT else (scale,):
            scaled = zip(crop, (depth, scale, scale), shape, strict=True)
            z, y, x = (min(n, max(1, round(size * by))) for size, by, n in scaled)
            sizes.append((z, y, x))
    return list(dict.fromkeys(sizes))


def _proposals(cells: _Cells, size: Triple, seed: int) -> Iterator[Box]:
    """Yield boxes inside the volume in random order, each as likely as its rarer kind of pair is frequent."""
    width = tuple(min(n, -(-s // c)) for n, s, c in zip(cells.grid, size, cells.cell, strict=True))
    first, sums = cells.windows((width[0], width[1], width[2]))
    first, index = np.unique(first, axis=0, return_index=True)
    weight = sums[index].min(axis=1)
    first, weight = first[weight > 0], weight[weight > 0]
    # Efraimidis and Spirakis (2006): the highest u^(1 / w) first
    keys = np.log1p(-np.random.default_rng(seed).random(len(first))) / weight
    middle = (first + np.array(width) / 2) * cells.cell
    start = np.floor(middle - np.array(size) / 2).astype(int).clip(0, np.array(cells.shape) - size)
    for z, y, x in start[np.argsort(-keys)].tolist():
        yield Box.whole(size).shifted((z, y, x))
