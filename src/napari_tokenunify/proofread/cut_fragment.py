"""Dividing a fragment along a painted line: the only edit that adds fragments. Voxels on disk stay as they are.

The parts lie over the fragments as a small packed array, which is applied when voxels are read.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import ProofreadError, SegmentError, VolumeError
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread.edits import Contact, FragmentCut, ordered
from napari_tokenunify.segment.fragment_store import StoredFragments
from napari_tokenunify.segment.region_graph import block_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.constraints import Constraints
    from napari_tokenunify.proofread.fragment_graph import FragmentGraph
    from napari_tokenunify.segment.fragment_store import Index
    from napari_tokenunify.segment.segmentation import Segmentation

_MOST_PARTS: Final = 255


@dataclass(frozen=True, eq=False)
class _Place:
    """The box that a fragment lies in, with a rim of one voxel where the volume has one."""

    box: Box
    ids: NDArray[np.uint64]
    fragment: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self.ids == np.uint64(self.fragment)
        return mask


@dataclass(frozen=True, eq=False)
class Voxels:
    """What a line is drawn on.

    Attributes
    ----------
    segmentation : Segmentation
        Says where the affinities are.
    fragments : StoredFragments
        The voxels as they are now.
    graph : FragmentGraph
        The contacts as they are now; where there are no affinities any more, parts inherit from them.
    """

    segmentation: Segmentation
    fragments: StoredFragments
    graph: FragmentGraph


def cut_along(on: Voxels, line: NDArray[np.bool_], box: Box, *, fragment: int | None, free: int) -> FragmentCut:
    """Divide a fragment along a line: what hangs together without the line's voxels is a part.

    The line's own voxels go to the part that reaches them first, over high affinities if they can still be read
    (seeded watershed, scikit-image), else on the shortest way.

    Parameters
    ----------
    on : Voxels
        What is there.
    line : ndarray of bool, shape of the box
        What was painted.
    box : Box
        Where, in voxels of the segmentation.
    fragment : int or None
        Which to divide; None for the one that most of the line lies in.
    free : int
        The first id that a new part may have.

    Raises
    ------
    ProofreadError
        If the line lies outside or in no fragment, or does not divide the fragment.
    """
    painted, box = _inside(line, box, on.fragments.shape)
    under = on.fragments[box.slices][painted]
    fragment = fragment or _most(under)
    place = _around(on.fragments, box, fragment)
    drawn = np.zeros(place.ids.shape, bool)
    local = box.seen_from(place.box.start)  # the line's box, which may reach past the fragment's
    kept = local.clipped(place.box.shape)
    if kept is not None:
        drawn[kept.slices] = painted[kept.seen_from(local.start).slices]
    affinities, offsets = _affinities(on.segmentation, place.box)
    parts = _parts(place, drawn, affinities)
    ids = place.ids.copy()
    new = tuple(range(free, free + int(parts.max())))
    for number, part in enumerate(new, 1):
        ids[parts == number] = part
    return FragmentCut(
        fragment=fragment,
        start=place.box.start,
        shape=place.box.shape,
        parts=new,
        voxels=zlib.compress(parts.tobytes()),
        line=zlib.compress(np.packbits(drawn).tobytes()),
        sizes=tuple(int(n) for n in _sizes(place, parts)),
        contacts=_contacts(ids, affinities, offsets, (fragment, *new), on.graph),
    )


def line_of(division: FragmentCut) -> tuple[NDArray[np.bool_], Box]:
    """Return the line that divided a fragment, and the box that it was painted in."""
    size = int(np.prod(division.shape))
    bits = np.frombuffer(zlib.decompress(division.line), np.uint8)
    z, y, x = (a + n for a, n in zip(division.start, division.shape, strict=True))
    line = np.unpackbits(bits, count=size).reshape(division.shape).astype(bool)
    return line, Box(division.start, (z, y, x))


def demands_of_parts(division: FragmentCut, constraints: Constraints) -> dict[str, Any]:
    """Return what becomes of the demands on a fragment that was divided, and the demand that its parts be apart.

    A pair that must be one goes on with the part that touches the other fragment most; one that cannot be one, with
    all parts that touch it. If none does, the part that kept the id stands for the fragment.

    Returns
    -------
    dict
        `links`, `cuts` and `released` of Edit.
    """
    whole, parts = division.fragment, (division.fragment, *division.parts)
    touching: dict[int, list[tuple[float, int]]] = {}
    for contact in division.contacts:
        for part, other in ((contact.u, contact.v), (contact.v, contact.u)):
            if part in parts:
                touching.setdefault(other, []).append((contact.count, part))
    links: list[tuple[int, int]] = []
    cuts = [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]
    released = []
    for pairs, kept in ((constraints.must, links), (constraints.cannot, cuts)):
        for u, v in pairs[(pairs == np.uint64(whole)).any(axis=1)].tolist():
            other = v if u == whole else u
            near = [part for _, part in sorted(touching.get(other, []), reverse=True)] or [whole]
            kept += [(part, other) for part in (near[:1] if kept is links else near)]
            released.append((u, v))
    return {"links": ordered(links), "cuts": ordered(cuts), "released": ordered(released)}


def with_parts(table: NDArray[np.uint64], divided: Sequence[FragmentCut], nodes: int) -> NDArray[np.uint64]:
    """Return a table of whole fragments as one of `nodes` fragments, in which each part is where the whole was.

    Ids that are not in use are in segment 0.
    """
    if nodes == len(table) - 1:
        return table
    longer = np.zeros(nodes + 1, np.uint64)
    longer[: len(table)] = table
    for cut in divided:
        longer[list(cut.parts)] = longer[cut.fragment]
    return longer


class CutFragments(StoredFragments):
    """A lazy (z, y, x) array of fragments of which some are divided.

    Parameters
    ----------
    path : Path
        The store.
    nodes : int
        Number of fragments with all parts.
    divided : sequence of FragmentCut
        In the order of their making.
    """

    def __init__(self, path: Path, nodes: int, divided: Sequence[FragmentCut]) -> None:
        super().__init__(path, nodes)
        self.divided = tuple(divided)
        self._unpacked = lru_cache(8)(_unpacked)

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process as a path and what was divided."""
        return type(self), (self.path, self.nodes, self.divided)

    def read(self, index: Index, table: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
        """Read a part, of fragments or of what a table makes of them; as in StoredFragments."""
        whole: tuple[Any, ...] = _all_axes(index)
        axes = [np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, whole, strict=True)]
        near = [cut for cut in self.divided if _touches(cut, axes)]
        if not near:
            return super().read(index, table)
        ids = super().read(index)
        cube = np.array(ids).reshape([len(axis) for axis in axes])
        for cut in near:
            inside = [(axis >= a) & (axis < a + n) for axis, a, n in zip(axes, cut.start, cut.shape, strict=True)]
            target = np.ix_(*(np.flatnonzero(axis) for axis in inside))
            source = np.ix_(*(axis[kept] - a for axis, kept, a in zip(axes, inside, cut.start, strict=True)))
            parts = self._unpacked(cut)[source]
            names = np.array([cut.fragment, *cut.parts], np.uint64)
            now = cube[target]
            cube[target] = np.where((parts > 0) & (now == cut.fragment), names[parts], now)
        ids = cube.reshape(np.shape(ids))[()]
        return ids if table is None else table[ids]


def _unpacked(cut: FragmentCut) -> NDArray[np.uint8]:
    parts: NDArray[np.uint8] = np.frombuffer(zlib.decompress(cut.voxels), np.uint8).reshape(cut.shape)
    return parts


def _all_axes(index: Index) -> tuple[int | slice, ...]:
    """Return an index that says something of each of three axes."""
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    rest = parts[at + 1 :]
    return (*parts[:at], *[slice(None)] * (3 - at - len(rest)), *rest)


def _touches(cut: FragmentCut, axes: Sequence[NDArray[np.int64]]) -> bool:
    return all(
        len(axis) > 0 and axis.min() < a + n and axis.max() >= a
        for axis, a, n in zip(axes, cut.start, cut.shape, strict=True)
    )


def _inside(line: NDArray[np.bool_], box: Box, shape: Triple) -> tuple[NDArray[np.bool_], Box]:
    """Return the part of a line that lies in the volume."""
    if line.shape != box.shape:
        raise ProofreadError(f"The line has the shape {line.shape}, but its box {box} the shape {box.shape}.")
    kept = box.clipped(shape)
    painted = None if kept is None else np.asarray(line[kept.seen_from(box.start).slices], bool)
    if kept is None or painted is None or not painted.any():
        raise ProofreadError("Nothing is painted inside the segmentation: draw a line through the fragment.")
    return painted, kept


def _most(ids: NDArray[np.uint64]) -> int:
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    if not len(found):
        raise ProofreadError("The line lies where nothing was segmented: draw it through the fragment.")
    return int(found[np.argmax(counts)])


def _around(fragments: StoredFragments, box: Box, fragment: int) -> _Place:
    """Find the box of a fragment, from a part of it on, and read it with a rim of one voxel."""
    from scipy import ndimage  # here, as a window that only offers to cut should not wait for it

    box = box.grown((1, 1, 1)).clipped(fragments.shape) or box
    while True:
        ids = fragments[box.slices]
        mask = ids == np.uint64(fragment)
        extent = ndimage.find_objects(mask.astype(np.uint8))
        if not extent or extent[0] is None:
            raise ProofreadError(f"The line does not touch fragment {fragment}: draw it through the fragment.")
        start, stop = list(box.start), list(box.stop)
        for axis, span in enumerate(extent[0]):
            reach = box.shape[axis]
            start[axis] -= reach if span.start == 0 else 0
            stop[axis] += reach if span.stop == box.shape[axis] else 0
        grown = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).clipped(fragments.shape) or box
        if grown == box:
            break
        box = grown
    (z0, z1), (y0, y1), (x0, x1) = ((int(span.start), int(span.stop)) for span in extent[0])
    tight = Box((z0, y0, x0), (z1, y1, x1))
    kept = tight.grown((1, 1, 1)).clipped(box.shape) or tight
    return _Place(kept.shifted(box.start), ids[kept.slices], fragment)


def _affinities(segmentation: Segmentation, box: Box) -> tuple[NDArray[np.float32] | None, tuple[Offset, ...]]:
    """Read the affinities of a box, if they can still be read."""
    from napari_tokenunify.segment.affinity_store import open_affinities  # here, as it loads zarr

    spec = segmentation.spec
    source = (spec.get("sources") or {}).get("affinities")
    if not source:
        return None, DEFAULT_OFFSETS
    try:
        store = open_affinities(source, spec.get("offsets"))
        z, y, x = (a - b for a, b in zip(segmentation.origin, store.origin, strict=True))
        return store.read(box.shifted((z, y, x))), store.offsets
    except (SegmentError, VolumeError):
        return None, DEFAULT_OFFSETS


def _parts(place: _Place, line: NDArray[np.bool_], affinities: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """Return the part of each voxel: 0 for the largest one and outside the fragment, then 1, 2, ..."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    mask = place.mask
    pieces, count = ndimage.label(mask & ~line)
    if count < 2:
        raise ProofreadError(
            f"The line does not divide fragment {place.fragment}: draw it from edge to edge, through all its sections."
        )
    if count > _MOST_PARTS:
        raise ProofreadError(f"The line divides fragment {place.fragment} into {count} parts: draw a simpler one.")
    boundary = np.zeros(mask.shape, np.float32) if affinities is None else 1 - affinities.mean(axis=0)
    flooded = watershed(boundary, pieces, mask=mask)  # type: ignore[no-untyped-call]
    voxels = np.bincount(flooded.ravel(), minlength=count + 1)[1:]
    number = np.zeros(count + 1, np.uint8)
    number[1 + np.argsort(-voxels, kind="stable")] = np.arange(count, dtype=np.uint8)
    parts: NDArray[np.uint8] = number[flooded]
    return parts


def _sizes(place: _Place, parts: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(parts[place.mask])


def _contacts(
    ids: NDArray[np.uint64],
    affinities: NDArray[np.float32] | None,
    offsets: tuple[Offset, ...],
    parts: tuple[int, ...],
    graph: FragmentGraph,
) -> tuple[Contact, ...]:
    """Measure the contacts of the parts; without affinities they inherit the mean of those of the whole."""
    measured = affinities is not None
    values = affinities if affinities is not None else np.zeros((len(offsets), *ids.shape), np.float32)
    names, rows = np.unique(ids, return_inverse=True)
    found = block_statistics(rows.reshape(ids.shape).astype(np.uint64) + np.uint64(1), values, offsets)
    pairs = names[found.edges - np.uint64(1)]
    before = {} if measured else {other: mean for other, _, mean in graph.contacts_of(parts[0])}
    contacts = []
    for (u, v), (count, mean, _) in zip(pairs.tolist(), found.statistics.tolist(), strict=True):
        if u == 0 or v == 0 or not {u, v} & set(parts):
            continue
        low, high = min(u, v), max(u, v)
        other = low if high in parts else high
        contacts.append(Contact(u=low, v=high, count=count, mean=mean if measured else before.get(other, 0.0)))
    return tuple(contacts)
