"""FragmentShapes: which voxels each fragment occupies, kept, so that a segment that was edited is not read again."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.geometry import Box, as_triple
from napari_tokenunify.network.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.segmentation import Segmentation

_BLOCK: Final = (64, 256, 256)
_MOST_BYTES: Final = 256_000_000

Key = tuple[int, tuple[bytes, ...]]
"""A fragment, and the cuts that gave it its present form."""


@dataclass(eq=False)
class _Shape:
    """A fragment's voxels, in pieces as they were read."""

    step: Triple
    pieces: list[tuple[Triple, Triple, NDArray[np.uint8]]] = field(default_factory=list)  # first cell, cells, bits

    @property
    def n_bytes(self) -> int:
        return 200 + sum(200 + bits.nbytes for _, _, bits in self.pieces)

    def add(self, first: Triple, mask: NDArray[np.bool_]) -> None:
        self.pieces.append((first, mask.shape, np.packbits(mask)))

    def seen_at(self, step: Triple) -> Iterator[tuple[Triple, NDArray[np.bool_]]]:
        """Yield the pieces with larger cells: the first cell (z, y, x), and which are occupied."""
        times = np.floor_divide(step, self.step)
        for first, shape, bits in self.pieces:
            mask = np.unpackbits(bits, count=math.prod(shape)).view(bool).reshape(shape)
            if (times == 1).all():
                yield first, mask
            else:
                low = first // times
                coarse = np.zeros((np.add(first, shape) - 1) // times - low + 1, bool)
                coarse[tuple(((np.argwhere(mask) + first) // times - low).T)] = True
                yield as_triple(low), coarse


class FragmentShapes:
    """Keeps which coarse voxels the fragments of one segmentation occupy.

    A surface over several fragments is made of what they occupy together, so it has no walls inside and no creases.
    After an edit only fragments that were not seen yet are read. May be used from several threads.

    Parameters
    ----------
    most_bytes : int
        What may be kept, a bit a coarse voxel; what was used longest ago is let go first.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Key, _Shape] = OrderedDict()
        self._lock = Lock()

    def occupied(
        self, segmentation: Segmentation, members: Iterable[int], step: Triple
    ) -> Iterator[tuple[Triple, NDArray[np.bool_]]]:
        """Yield where fragments are, piece by piece; pieces may overlap.

        Parameters
        ----------
        segmentation : Segmentation
            Always the same one; fragments may have been divided since.
        members : iterable of int
            The fragments.
        step : tuple of int
            (z, y, x) voxels of a cell. Cells are counted from the first voxel of the segmentation.

        Yields
        ------
        first : tuple of int
            (z, y, x) of the piece's first cell.
        mask : ndarray of bool
            Which cells hold a voxel of the fragment.

        Raises
        ------
        SegmentError
            If a file is damaged.
        """
        forms = _forms(segmentation)
        lacking: dict[int, Key] = {}
        for fragment in members:
            key = (int(fragment), tuple(forms.get(int(fragment), ())))
            with self._lock:
                shape = self._kept.get(key)
                if shape is not None:
                    self._kept.move_to_end(key)
            if shape is None or any(a % b for a, b in zip(step, shape.step, strict=True)):
                lacking[key[0]] = key
            else:
                yield from shape.seen_at(step)
        if not lacking:
            return
        made = {fragment: _Shape(step) for fragment in lacking}
        for fragment, first, mask in _read(segmentation, list(lacking), step):
            made[fragment].add(first, mask)
            yield first, mask
        self._keep({key: made[fragment] for fragment, key in lacking.items()})

    def _keep(self, made: dict[Key, _Shape]) -> None:
        with self._lock:
            for key, shape in made.items():
                old = self._kept.pop(key, None)
                self._kept[key] = shape
                self._bytes += shape.n_bytes - (old.n_bytes if old else 0)
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].n_bytes


def _forms(segmentation: Segmentation) -> dict[int, list[bytes]]:
    """Return the cuts that each divided fragment was formed by, in order; a part keeps its id when a cut is undone."""
    forms: dict[int, list[bytes]] = {}
    for cut in getattr(segmentation.fragments, "divided", ()):
        for part in (cut.fragment, *cut.parts):
            forms.setdefault(part, []).append(cut.voxels)
    return forms


def _read(
    segmentation: Segmentation, fragments: list[int], step: Triple
) -> Iterator[tuple[int, Triple, NDArray[np.bool_]]]:
    """Yield for each fragment and each block that it lies in: the fragment, its first cell there, its cells."""
    boxes = segmentation.boxes
    block = as_triple([-(-n // s) * s for n, s in zip(_BLOCK, step, strict=True)])
    numbers = np.zeros(segmentation.nodes + 1, np.uint64)
    there: dict[Triple, list[int]] = {}
    for fragment in fragments:
        for place in _places(boxes[fragment], block):
            there.setdefault(place, []).append(fragment)
    for place, inside in sorted(there.items()):
        start = np.multiply(place, block)
        lows = np.maximum(boxes[inside, :3] // step * step, start)
        highs = np.minimum(boxes[inside, 3:], start + block)
        read = Box(as_triple(lows.min(axis=0)), as_triple(highs.max(axis=0)))
        numbers[inside] = np.arange(1, len(inside) + 1)
        voxels = segmentation.fragments.read(read.slices, numbers)
        numbers[inside] = 0
        cells = -(-highs // step) - lows // step
        ends = np.cumsum(cells.prod(axis=1))
        flat = np.zeros(ends[-1], bool)
        _fill(flat, voxels, np.array([read.start, step]), lows // step, cells, ends)
        for fragment, first, shape, mask in zip(inside, lows // step, cells, np.split(flat, ends[:-1]), strict=True):
            if mask.any():
                yield fragment, as_triple(first), mask.reshape(shape)


@compiled
def _fill(flat, voxels, grid, first, cells, ends):  # type: ignore[no-untyped-def]
    """Note in the flat cells of each number, which end at `ends`, where it has voxels."""
    start, step = grid
    for z in range(voxels.shape[0]):
        a = (z + start[0]) // step[0]
        for y in range(voxels.shape[1]):
            b = (y + start[1]) // step[1]
            for x in range(voxels.shape[2]):
                k = np.int64(voxels[z, y, x]) - 1
                if k >= 0:
                    row = (a - first[k, 0]) * cells[k, 1] + b - first[k, 1]
                    cell = row * cells[k, 2] + (x + start[2]) // step[2] - first[k, 2]
                    flat[ends[k] - cells[k, 0] * cells[k, 1] * cells[k, 2] + cell] = True


def _places(box: NDArray[np.int32], block: Triple) -> Iterator[Triple]:
    """Yield the blocks (z, y, x) that a box touches."""
    spans = [range(int(a) // n, (int(b) - 1) // n + 1) for a, b, n in zip(box[:3], box[3:], block, strict=True)]
    z, y, x = spans
    yield from product(z, y, x)
