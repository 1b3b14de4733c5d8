"""Where something is known: an index of voxel pairs, a bounded number for each neuron and for borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.affinities import Offset, known_affinities, pair_slices
from napari_tokenunify.data.label_cells import label_runs
from napari_tokenunify.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations, LabelledBlock
    from napari_tokenunify.geometry import Triple

PER_NEURON = 64  # places kept of each neuron
BORDERS = 8192  # places kept of borders
MOST_PLACES = 1_000_000  # of all neurons together: with very many, fewer are kept of each

_PENDING_ROWS = 1_000_000
_SPARE = 4  # how many times too many candidates are drawn from a block, so that chance leaves enough


@dataclass(frozen=True, eq=False)
class Places:
    """Pairs of voxels of which it is known whether they belong together.

    Attributes
    ----------
    neurons : ndarray of uint64, shape (N,)
        The ids that take part in a known pair, ascending; without the boundary's.
    begins : ndarray of int64, shape (N + 1,)
        The pairs of neuron i are `pairs[begins[i]:begins[i + 1]]`.
    pairs : ndarray of int64, shape (P, 2, 3)
        A voxel of the neuron, and the other end of the pair, both (z, y, x).
    borders : ndarray of int64, shape (B, 2, 3)
        Pairs known to be apart: two neurons, or boundary.
    """

    neurons: NDArray[np.uint64]
    begins: NDArray[np.int64]
    pairs: NDArray[np.int64]
    borders: NDArray[np.int64]

    def draw(self, rng: np.random.Generator, border_share: float) -> NDArray[np.int64]:
        """Return the two ends of a random pair, shape (2, 3).

        With the chance `border_share` it is any border, else any pair of a neuron, each neuron equally likely.
        """
        wants_border = rng.random() < border_share
        if len(self.borders) and (wants_border or not len(self.neurons)):
            return np.asarray(self.borders[rng.integers(len(self.borders))])
        neuron = rng.integers(len(self.neurons))
        return np.asarray(self.pairs[rng.integers(self.begins[neuron], self.begins[neuron + 1])])


def find_places(annotations: Annotations, offsets: Sequence[Offset], seed: int = 0) -> Places:
    """Go through the labels once, block by block, and keep a random sample of known pairs.

    Each voxel that takes part in a known pair has the same chance among those of its id. The sample depends on
    labels, offsets and seed only, not on how the file is chunked. Memory is bounded.

    Raises
    ------
    AnnotationError
        If nothing is known.
    """
    neurons, borders = _Reservoir(PER_NEURON), _Reservoir(BORDERS)
    both_ways = [*offsets, *((-z, -y, -x) for z, y, x in offsets)]
    for block in annotations.labelled_blocks(both_ways):
        pairs = _BlockPairs.of(block, annotations, offsets)
        ids = block.ids
        is_neuron = ids != np.uint64(annotations.boundary_id or 0)
        neurons.add(pairs, np.where(pairs.ends(pairs.known) & is_neuron, ids, np.uint64(0)), pairs.known, seed)
        borders.add(pairs, pairs.ends(pairs.apart).astype(np.uint64), pairs.apart, seed)
    owners, found = neurons.result()
    if not len(found) and not len(borders.result()[1]):
        raise AnnotationError(
            f"{annotations.labels.uri}: nothing is known, as no two neighbouring voxels are labelled: paint at least "
            "two neurons that touch, in one section."
        )
    ids, begins = np.unique(owners, return_index=True)
    return Places(ids, np.append(begins, len(owners)).astype(np.int64), found, borders.result()[1])


@dataclass(frozen=True, eq=False)
class _BlockPairs:
    """The known pairs of which one end at least lies in a block."""

    block: LabelledBlock
    shape: Triple  # of the volume
    offsets: Sequence[Offset]
    known: NDArray[np.bool_]  # (C, *block.around.shape)
    apart: NDArray[np.bool_]

    @classmethod
    def of(cls, block: LabelledBlock, annotations: Annotations, offsets: Sequence[Offset]) -> _BlockPairs:
        target, known = known_affinities(block.around, offsets, annotations.boundary_id)
        return cls(block, annotations.shape, offsets, known, known & ~target)

    def ends(self, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the voxels of the block that are either end of such a pair."""
        ends = np.zeros(self.block.around.shape, bool)
        for channel, offset in zip(which, self.offsets, strict=True):
            here, there = pair_slices(ends.shape, offset)
            ends[here] |= channel[here]
            ends[there] |= channel[here]
        return ends[self.block.inner.slices]

    def flat(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn flat indices in the block into flat indices in the volume."""
        place = np.stack(np.unravel_index(places, self.block.box.shape)) + np.array(self.block.box.start)[:, None]
        return np.asarray(np.ravel_multi_index(tuple(place), self.shape))

    def partners(
        self, places: NDArray[np.int64], which: NDArray[np.bool_], chance: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Return for each flat index in the block one of its partners, as a step (z, y, x), shape (N, 3)."""
        here = np.stack(np.unravel_index(places, self.block.inner.shape), axis=1) + self.block.inner.start
        steps = np.array([*self.offsets, *((-z, -y, -x) for z, y, x in self.offsets)])
        possible = np.zeros((len(here), len(steps)), bool)
        for number, channel in enumerate(which):
            possible[:, number] = channel[tuple(here.T)]
            first = here - steps[number]
            inside = ((first >= 0) & (first < self.block.around.shape)).all(axis=1)
            possible[inside, number + len(which)] = channel[tuple(first[inside].T)]
        rank = (chance % possible.sum(axis=1).astype(np.uint64)).astype(np.int64)
        chosen = (possible.cumsum(axis=1) == rank[:, None] + 1).argmax(axis=1)
        return np.asarray(steps[chosen])


class _Reservoir:
    """Keeps for each owner the voxels with the lowest random keys: a uniform sample without replacement."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows = [_Rows.none()]

    def add(self, pairs: _BlockPairs, owners: NDArray[np.uint64], which: NDArray[np.bool_], seed: int) -> None:
        """Offer the voxels of a block: `owners` (Z, Y, X) says whose each is, 0 for nobody's."""
        start, owner, length = label_runs(owners)
        if not len(start):
            return
        _, number = np.unique(owner, return_inverse=True)
        counts = np.bincount(number, length)
        step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        places, flat = (np.repeat(begin, length) + step for begin in (start, pairs.flat(start)))
        keys = _random_bits(flat, seed)
        chance = np.minimum(_SPARE * self._limit / counts, 1.0)[number]
        few = keys >> np.uint64(11) <= np.repeat((chance * 2.0**53).astype(np.uint64), length)
        places, flat, keys = places[few], flat[few], keys[few]
        chosen = _lowest(owners.ravel()[places], keys, self._limit)
        places, flat, keys = places[chosen], flat[chosen], keys[chosen]
        here = np.stack(np.unravel_index(flat, pairs.shape), axis=1)
        steps = pairs.partners(places, which, keys >> np.uint64(8))
        self._rows.append(_Rows(owners.ravel()[places], keys, np.stack([here, here + steps], axis=1)))
        if sum(len(rows.owners) for rows in self._rows) > _PENDING_ROWS:
            self._merge()

    def result(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return owners (N,) ascending, and pairs (N, 2, 3)."""
        self._merge()
        return self._rows[0].owners, self._rows[0].pairs

    def _merge(self) -> None:
        rows = _Rows.joined(self._rows)
        chosen = _lowest(rows.owners, rows.keys, self._limit)
        while len(chosen) > MOST_PLACES and self._limit > 1:
            self._limit //= 2
            chosen = _lowest(rows.owners, rows.keys, self._limit)
        self._rows = [_Rows(rows.owners[chosen], rows.keys[chosen], rows.pairs[chosen])]


@dataclass(frozen=True, eq=False)
class _Rows:
    owners: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    pairs: NDArray[np.int64]

    @classmethod
    def none(cls) -> _Rows:
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty((0, 2, 3), np.int64))

    @classmethod
    def joined(cls, many: Sequence[_Rows]) -> _Rows:
        return cls(*(np.concatenate([getattr(rows, name) for rows in many]) for name in ("owners", "keys", "pairs")))


def _lowest(owners: NDArray[np.uint64], keys: NDArray[np.uint64], limit: int) -> NDArray[np.intp]:
    """Return the rows with the `limit` lowest keys of each owner, sorted by owner and key."""
    order = np.lexsort((keys, owners))
    owners = owners[order]
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    return order[rank < limit]


def _random_bits(numbers: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return 64 random bits for each number: SplitMix64 (Steele, Lea and Flood 2014)."""
    bits = numbers.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
