"""What annotations hold in numbers, and what in them looks like a slip of the brush."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset, known_affinities
from napari_tokenunify.data.finding import Finding
from napari_tokenunify.data.label_cells import CellCounter, LabelCells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.geometry import Triple, VoxelSize

FAR_NM = 1000.0  # parts of one id that are further apart deserve a look
FAR_VOXELS = 100  # the same where the voxel size is unknown
MOST_JOINED = 0.995  # share of known pairs within one neuron above which there is nothing to learn of borders
TINY_VOXELS = 10  # an id with fewer was hardly meant

_LISTED = 10  # ids named in one message


@dataclass(frozen=True, eq=False)
class AnnotationSummary:
    """How much is labelled, and what is known of it.

    Attributes
    ----------
    shape : tuple of int
        Of the volume, (z, y, x).
    offsets : tuple of (int, int, int)
        One (z, y, x) a channel.
    sections : tuple of int
        The z indices that hold a label.
    neurons : ndarray of uint64, shape (N,)
        All ids but the boundary's, ascending.
    sizes : ndarray of int64, shape (N,)
        Voxels of each.
    parts : tuple of ndarray of int64, each of shape (P, 3)
        For each neuron the first voxel (z, y, x) of each of its parts that lie far from each other.
    boundary_id : int or None
        The id that stands for membrane or outside.
    boundary_voxels : int
        Voxels of it.
    known_pairs, joined_pairs : tuple of int, one a channel
        Pairs of which it is known whether they lie in one neuron, and those of them that do.
    """

    shape: Triple
    offsets: tuple[Offset, ...]
    sections: tuple[int, ...]
    neurons: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    parts: tuple[NDArray[np.int64], ...]
    boundary_id: int | None
    boundary_voxels: int
    known_pairs: tuple[int, ...]
    joined_pairs: tuple[int, ...]

    @property
    def labelled_voxels(self) -> int:
        """Voxels of neurons and boundary."""
        return int(self.sizes.sum()) + self.boundary_voxels

    @property
    def labelled_share(self) -> float:
        """Labelled voxels among all, 0..1."""
        return self.labelled_voxels / float(np.prod(self.shape, dtype=np.float64))

    @property
    def joined_shares(self) -> tuple[float | None, ...]:
        """Pairs within one neuron among known pairs, 0..1, one a channel; None where nothing is known."""
        return tuple(j / k if k else None for j, k in zip(self.joined_pairs, self.known_pairs, strict=True))

    def __str__(self) -> str:
        """Return two sentences for people."""
        boundary = f", {self.boundary_voxels:,} of them boundary" if self.boundary_voxels else ""
        channels = [
            f"{_direction(offset)} {known:,}" + ("" if share is None else f" ({share:.1%} joined)")
            for offset, known, share in zip(self.offsets, self.known_pairs, self.joined_shares, strict=True)
        ]
        return (
            f"{_counted(len(self.neurons), 'neuron')} in {len(self.sections):,} of "
            f"{_counted(self.shape[0], 'section')}: {self.labelled_voxels:,} labelled voxels "
            f"({self.labelled_share:.2%}){boundary}. Known pairs along {', '.join(channels)}."
        )


def summarise(annotations: Annotations, offsets: Sequence[Offset] = DEFAULT_OFFSETS) -> AnnotationSummary:
    """Count labels and known pairs in one pass over the labels; memory does not grow with the volume.

    Parameters
    ----------
    annotations : Annotations
        The labels.
    offsets : sequence of (int, int, int)
        Which pairs to count, one (z, y, x) a channel.

    Raises
    ------
    AnnotationError
        If there is a negative id.
    VolumeError
        If the labels' file is damaged.
    """
    counter = CellCounter(annotations.shape, _far(annotations.voxel_size_nm))
    sections = np.zeros(annotations.shape[0], bool)
    known, joined = np.zeros((2, len(offsets)), np.int64)
    for block in annotations.labelled_blocks(offsets):
        counter.add(block.ids, block.box)
        sections[block.box.start[0] : block.box.stop[0]] |= block.ids.any(axis=(1, 2))
        target, mask = known_affinities(block.around, offsets, annotations.boundary_id)
        for channel in range(len(offsets)):
            joined[channel] += np.count_nonzero(target[channel][block.inner.slices])
            known[channel] += np.count_nonzero(mask[channel][block.inner.slices])
    cells = counter.result()
    boundary = cells.ids == np.uint64(annotations.boundary_id or 0)
    neurons, sizes, parts = _by_neuron(cells.where(~boundary), annotations.shape)
    return AnnotationSummary(
        shape=annotations.shape,
        offsets=tuple(offsets),
        sections=tuple(np.flatnonzero(sections).tolist()),
        neurons=neurons,
        sizes=sizes,
        parts=parts,
        boundary_id=annotations.boundary_id,
        boundary_voxels=int(cells.voxels[boundary].sum()),
        known_pairs=tuple(known.tolist()),
        joined_pairs=tuple(joined.tolist()),
    )


def check_annotations(annotations: Annotations, summary: AnnotationSummary | None = None) -> list[Finding]:
    """Say what is labelled, and what in it deserves a look before a network learns from it.

    Parameters
    ----------
    annotations : Annotations
        The labels.
    summary : AnnotationSummary, optional
        What `summarise` returned for them, to save a second pass; it says which offsets count.

    Returns
    -------
    list of Finding
        "nothing-labelled" or "nothing-known" (errors: training cannot start), "coverage" (the summary as text),
        "direction-unknown", "no-border", "no-neuron", "boundary-absent", "tiny-id", "far-parts".

    Notes
    -----
    Parts of one id are far from each other if more than `FAR_NM` (`FAR_VOXELS` where the voxel size is unknown)
    lie between them. Along z only annotated sections count, so that labels in every tenth section are no parts.
    A neuron may well be in two places: the finding only asks for a look.
    """
    summary = summary or summarise(annotations)
    if not summary.labelled_voxels:
        message = "No voxel is labelled: paint at least two neurons that touch, in one section."
        return [Finding("nothing-labelled", "error", message)]
    findings = [Finding("coverage", "info", str(summary), summary.sections)]
    if not any(summary.known_pairs):
        message = "No two neighbouring voxels are labelled, so nothing is known: paint areas, not single voxels."
        return [*findings, Finding("nothing-known", "error", message, summary.sections)]
    return [*findings, *_pair_findings(summary), *_id_findings(summary, annotations.voxel_size_nm)]


def _pair_findings(summary: AnnotationSummary) -> Iterator[Finding]:
    unknown = [_direction(o) for o, known in zip(summary.offsets, summary.known_pairs, strict=True) if not known]
    if unknown:
        yield Finding(
            "direction-unknown",
            "warning",
            f"Nothing is known along {', '.join(unknown)}, so the network cannot learn it: label neighbouring sections "
            "too, at least in a small area.",
        )
    shares = zip(summary.offsets, summary.joined_shares, strict=True)
    borderless = [_direction(offset) for offset, share in shares if share is not None and share > MOST_JOINED]
    if borderless:
        hint = (
            "" if summary.boundary_id else "; if 0 means membrane in dense labels, choose that it is read as boundary"
        )
        yield Finding(
            "no-border",
            "warning",
            f"Hardly any border is known along {', '.join(borderless)} ({MOST_JOINED:.1%} or more of the known pairs "
            f"lie in one neuron): paint neighbours until they touch, or the membrane between them{hint}.",
        )
    if not any(summary.joined_pairs):
        message = "No two voxels are known to lie in one neuron: paint the inside of neurons too."
        yield Finding("no-neuron", "warning", message)
    if summary.boundary_id and not summary.boundary_voxels:
        message = f"The boundary id {summary.boundary_id} is nowhere painted: check the number."
        yield Finding("boundary-absent", "warning", message)


def _id_findings(summary: AnnotationSummary, voxel_size_nm: VoxelSize | None) -> Iterator[Finding]:
    tiny = np.flatnonzero(summary.sizes < TINY_VOXELS)
    if tiny.size:
        message = (
            f"{_listing(summary.neurons[tiny])} fewer than {TINY_VOXELS} voxels: a slip of the brush? Erase or enlarge."
        )
        yield _finding("tiny-id", message, [summary.parts[place][0] for place in tiny])
    apart = [place for place, parts in enumerate(summary.parts) if len(parts) > 1]
    if apart:
        distance = f"{FAR_NM / 1000:g} micrometre" if voxel_size_nm else f"{FAR_VOXELS} voxels"
        message = (
            f"{_listing(summary.neurons[apart])} parts more than {distance} apart: check that they are one neuron and "
            "no number was used twice."
        )
        yield _finding("far-parts", message, [voxel for place in apart for voxel in summary.parts[place]])


def _finding(kind: str, message: str, places: list[NDArray[np.int64]]) -> Finding:
    listed = tuple((int(z), int(y), int(x)) for z, y, x in places[: 2 * _LISTED])
    return Finding(kind, "warning", message, tuple(sorted({place[0] for place in listed})), listed)


def _listing(ids: NDArray[np.uint64]) -> str:
    """Return `The id 7 has` or `3 ids (7, 8, 9) have`, with an end in sight."""
    if len(ids) == 1:
        return f"The id {ids[0]} has"
    return f"{len(ids):,} ids ({', '.join(map(str, ids[:_LISTED]))}{', ...' if len(ids) > _LISTED else ''}) have"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _direction(offset: Offset) -> str:
    """Return `z` for a step to the neighbour along z, and the numbers for anything longer."""
    axes = [axis for axis, step in zip("zyx", offset, strict=True) if step]
    return axes[0] if sum(map(abs, offset)) == 1 else "({},{},{})".format(*offset)


def _far(voxel_size_nm: VoxelSize | None) -> Triple:
    if voxel_size_nm is None:
        return FAR_VOXELS, FAR_VOXELS, FAR_VOXELS
    z, y, x = (max(1, round(FAR_NM / size)) for size in voxel_size_nm)
    return z, y, x


def _by_neuron(
    cells: LabelCells, shape: Triple
) -> tuple[NDArray[np.uint64], NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Return ids, sizes, and the first voxel of each part of each id."""
    if not len(cells.ids):
        return cells.ids, cells.voxels, ()
    neurons, begins = np.unique(cells.ids, return_index=True)
    parts = cells.parts()
    order = np.lexsort((cells.first, parts))
    heads = order[np.flatnonzero(np.r_[True, np.diff(parts[order]) != 0])]
    heads = heads[np.lexsort((cells.first[heads], cells.ids[heads]))]
    places = np.stack(np.unravel_index(cells.first[heads], shape), axis=1)
    ends = np.searchsorted(cells.ids[heads], neurons[1:])
    return neurons, np.add.reduceat(cells.voxels, begins), tuple(np.split(places, ends))
