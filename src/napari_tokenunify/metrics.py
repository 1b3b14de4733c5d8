"""How well a segmentation agrees with ground truth: counts of shared voxels, and what is computed from them.

Everything starts from a `Contingency`: how many voxels each neuron shares with each segment. It is small, adds up
over blocks, and so a volume of any size is scored with the same result as if it were in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

_SLAB_VOXELS = 1 << 22
_PENDING_ROWS = 1_000_000


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many voxels each id of the ground truth shares with each segment; pairs that share none have no row.

    Attributes
    ----------
    truth, segments : ndarray of uint64, shape (N,)
        The pairs of ids, sorted by `truth`, then by `segments`; no pair twice.
    voxels : ndarray of int64, shape (N,)
        How many voxels each pair shares, never 0.
    """

    truth: NDArray[np.uint64]
    segments: NDArray[np.uint64]
    voxels: NDArray[np.int64]

    @classmethod
    def from_rows(
        cls, truth: NDArray[np.uint64], segments: NDArray[np.uint64], voxels: NDArray[np.int64]
    ) -> Contingency:
        """Make a table of rows in any order; those of the same pair add up."""
        if not len(voxels):
            return _EMPTY
        order = np.lexsort((segments, truth))
        truth, segments = truth[order], segments[order]
        begins = np.flatnonzero(np.r_[True, (truth[1:] != truth[:-1]) | (segments[1:] != segments[:-1])])
        return cls(truth[begins], segments[begins], np.add.reduceat(voxels[order], begins))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.voxels)

    @property
    def total(self) -> int:
        """Number of voxels that were counted."""
        return int(self.voxels.sum())

    def add(self, *others: Contingency) -> Contingency:
        """Return the counts of this table and others together, e.g. those of blocks."""
        tables = (self, *others)
        return Contingency.from_rows(
            np.concatenate([table.truth for table in tables]),
            np.concatenate([table.segments for table in tables]),
            np.concatenate([table.voxels for table in tables]),
        )

    def without(self, truth: Iterable[int] = (), segments: Iterable[int] = ()) -> Contingency:
        """Return the table without some ids of the ground truth and some segments."""
        kept = ~(np.isin(self.truth, _ids(truth)) | np.isin(self.segments, _ids(segments)))
        return Contingency(self.truth[kept], self.segments[kept], self.voxels[kept])

    def small(self, voxels: int) -> NDArray[np.uint64]:
        """Return the ids of the ground truth that have fewer voxels than this, ascending, as `without` takes them."""
        return (sums := self.margins()).truth[sums.truth_voxels < voxels]

    def margins(self) -> Margins:
        """Return the sums over segments and over neurons."""
        truth, rows = np.unique(self.truth, return_inverse=True)
        _, columns = np.unique(self.segments, return_inverse=True)
        shared = self.voxels.astype(np.float64)
        return Margins(truth, rows, _sums(rows, shared), columns, _sums(columns, shared), shared)

    def relabelled(self, table: NDArray[np.uint64]) -> Contingency:
        """Return the counts for the segments that a table makes of fragments, without reading a voxel.

        Parameters
        ----------
        table : ndarray of uint64, shape (nodes + 1,)
            The segment of each fragment; this Contingency counts fragments.

        Raises
        ------
        SegmentError
            If a fragment is not in the table.
        """
        return Contingency.from_rows(self.truth, _looked_up(table, self.segments), self.voxels)


@dataclass(frozen=True, eq=False)
class Margins:
    """What the rows of a Contingency sum up to; float64, which is exact up to 2**53 voxels.

    Attributes
    ----------
    truth : ndarray of uint64, shape (T,)
        The ids of the ground truth, ascending.
    truth_index, segment_index : ndarray of int64, shape (N,)
        For each row of the table where its sums stand in the arrays below.
    truth_voxels, segment_voxels : ndarray of float64, shapes (T,) and (S,)
        Voxels of each id of the ground truth, and of each segment.
    shared : ndarray of float64, shape (N,)
        Voxels of each row.
    """

    truth: NDArray[np.uint64]
    truth_index: NDArray[np.int64]
    truth_voxels: NDArray[np.float64]
    segment_index: NDArray[np.int64]
    segment_voxels: NDArray[np.float64]
    shared: NDArray[np.float64]

    def entropies(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each neuron adds to H(segmentation | truth) and to H(truth | segmentation), bits, shape (T,)."""
        share = self.shared / self.shared.sum()
        split = share * np.log2(self.truth_voxels[self.truth_index] / self.shared)
        merge = share * np.log2(self.segment_voxels[self.segment_index] / self.shared)
        return _sums(self.truth_index, split), _sums(self.truth_index, merge)


class ContingencySum:
    """Adds up the tables of many blocks; memory and time are those of the sum and of one block."""

    def __init__(self) -> None:
        self._sum = _EMPTY
        self._pending: list[Contingency] = []
        self._rows = 0

    def add(self, table: Contingency) -> None:
        """Count a table in."""
        self._pending.append(table)
        self._rows += len(table)
        if self._rows > max(len(self._sum), _PENDING_ROWS):  # so that the sum is not sorted again for each block
            self.result()

    def result(self) -> Contingency:
        """Return the sum of what was added so far."""
        self._sum = self._sum.add(*self._pending)
        self._pending, self._rows = [], 0
        return self._sum


def contingency(
    truth: ArrayLike, segmentation: ArrayLike, ignore: Iterable[int] = (0,), ignore_segments: Iterable[int] = ()
) -> Contingency:
    """Count the voxels that each id of the ground truth shares with each segment.

    Parameters
    ----------
    truth, segmentation : array-like of int, the same shape, any number of axes
        Ids from 0 to 2**64 - 1. May be lazy (zarr, dask): a few million voxels are read at a time.
    ignore : iterable of int
        Ids of `truth` whose voxels do not count; 0 is what nobody has labelled.
    ignore_segments : iterable of int
        Ids of `segmentation` whose voxels do not count, e.g. 0 where it left gaps. scikit-image ignores none.

    Returns
    -------
    Contingency

    Raises
    ------
    SegmentError
        If the shapes differ, or ids are negative or no integers.
    """
    first, second = _array(truth), _array(segmentation)
    _check(first, second)
    ignored, left_out = _ids(ignore), _ids(ignore_segments)
    step = max(1, _SLAB_VOXELS // max(1, math.prod(first.shape[1:])))
    counts = ContingencySum()
    for start in range(0, first.shape[0], step):
        slab = slice(start, start + step)
        _, ids, segments, voxels = pair_runs(np.asarray(first[slab]), np.asarray(second[slab]))
        counts.add(Contingency.from_rows(ids, segments, voxels).without(ignored, left_out))
    return counts.result()


def pair_runs(
    truth: NDArray[Any], segmentation: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return start (flat index), both ids and length of each run along the last axis in which neither id changes.

    Raises
    ------
    SegmentError
        If the shapes differ, or ids are negative or no integers.
    """
    _check(truth, segmentation)
    change = np.ones(truth.shape, bool)
    np.not_equal(truth[..., 1:], truth[..., :-1], out=change[..., 1:])
    change[..., 1:] |= segmentation[..., 1:] != segmentation[..., :-1]
    start = np.flatnonzero(change)
    ids, segments = as_ids(truth.ravel()[start], "labels"), as_ids(segmentation.ravel()[start], "segmentation")
    return start, ids, segments, np.diff(start, append=truth.size)


def variation_of_information(
    truth: Contingency | ArrayLike, segmentation: ArrayLike | None = None, ignore: Iterable[int] = (0,)
) -> tuple[float, float]:
    """Return the two parts of the variation of information (Meila 2007), in bits; 0 is perfect.

    The same numbers as `skimage.metrics.variation_of_information(truth, segmentation, ignore_labels=ignore)`. Only
    ids of the ground truth are ignored; segment 0 is a segment like any other.

    Parameters
    ----------
    truth : Contingency or array-like of int
        The counts, or the ground truth.
    segmentation : array-like of int, optional
        The segmentation, where `truth` is an array.
    ignore : iterable of int
        Ids of the ground truth whose voxels do not count.

    Returns
    -------
    split : float
        H(segmentation | truth): what neurons in several pieces cost.
    merge : float
        H(truth | segmentation): what segments with several neurons cost.

    Raises
    ------
    SegmentError
        If no voxel is left to count, or the arrays do not fit.
    """
    split, merge = _table(truth, segmentation, ignore).margins().entropies()
    return float(split.sum()), float(merge.sum())


def adapted_rand_error(
    truth: Contingency | ArrayLike, segmentation: ArrayLike | None = None, ignore: Iterable[int] = (0,)
) -> tuple[float, float, float]:
    """Return the adapted Rand error of SNEMI3D (Arganda-Carreras et al. 2015), with its two parts, each 0..1.

    The error is that of `skimage.metrics.adapted_rand_error(truth, segmentation, ignore_labels=ignore)`. Precision and
    recall are what the field and scikit-image's own text mean by them; its code exchanges the two (its issue 6485).

    Parameters
    ----------
    truth, segmentation, ignore
        As for `variation_of_information`.

    Returns
    -------
    error : float
        1 - 2 shared / (true + segmented); 0 is perfect.
    precision : float
        shared / segmented: of the voxel pairs of a segment, those that belong together; merges lower it.
    recall : float
        shared / true: of the voxel pairs of a neuron, those in one segment; splits lower it. A share of no pairs is 1.

    Raises
    ------
    SegmentError
        If no voxel is left to count, or the arrays do not fit.
    """
    margins = _table(truth, segmentation, ignore).margins()
    shared, true, segmented = (
        float(np.sum(voxels * (voxels - 1.0)))
        for voxels in (margins.shared, margins.truth_voxels, margins.segment_voxels)
    )
    error = 1 - _share(shared, 0.5 * (true + segmented))
    return error, _share(shared, segmented), _share(shared, true)


@dataclass(frozen=True)
class Edits:
    """Numbers of `cuts` and `merges` that a person has to make."""

    cuts: int
    merges: int


def edits_needed(fragments: Contingency, table: NDArray[np.uint64]) -> Edits:
    """Count the edits on the fragment graph that lead from a segmentation to the ground truth.

    Each fragment belongs to the neuron of which it holds most voxels (of several the lowest id); fragments without
    ground truth do not count. Then a segment with k neurons takes k - 1 cuts, and a neuron that is in k pieces after
    all cuts takes k - 1 merges. What is wrong inside a fragment no edit can mend, and none is counted.

    Parameters
    ----------
    fragments : Contingency
        Voxels that each neuron shares with each fragment (0 is none), without what is to be ignored.
    table : ndarray of uint64, shape (nodes + 1,)
        The segment of each fragment.

    Returns
    -------
    Edits

    Raises
    ------
    SegmentError
        If a fragment is not in the table.
    """
    fragments = fragments.without(segments=(0,))
    order = np.lexsort((fragments.truth, -fragments.voxels, fragments.segments))
    ids, first = np.unique(fragments.segments[order], return_index=True)
    neurons = fragments.truth[order][first]
    pieces = Contingency.from_rows(neurons, _looked_up(table, ids), np.ones(len(ids), np.int64))
    cuts = len(pieces) - len(np.unique(pieces.segments))
    return Edits(cuts, merges=len(pieces) - len(np.unique(pieces.truth)))


def _table(truth: Contingency | ArrayLike, segmentation: ArrayLike | None, ignore: Iterable[int]) -> Contingency:
    if not isinstance(truth, Contingency):
        if segmentation is None:
            raise SegmentError("There is nothing to compare the ground truth with: give a segmentation too.")
        table = contingency(truth, segmentation, ignore)
    else:
        table = truth.without(ignore)
    if not len(table):
        raise SegmentError("No labelled voxel is left to compare: the ids that are ignored cover everything.")
    return table


def _sums(index: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[Any] = np.bincount(index, values)
    return sums.astype(np.float64, copy=False)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _looked_up(table: NDArray[np.uint64], fragments: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if len(fragments) and int(fragments.max()) >= len(table):
        raise SegmentError(
            f"There is a fragment {int(fragments.max())}, but the table ends at {len(table) - 1}: fragments and table "
            "are not of the same segmentation."
        )
    return np.asarray(table, np.uint64)[fragments]


def _array(ids: Any) -> Any:
    return ids if hasattr(ids, "dtype") and hasattr(ids, "shape") else np.asarray(ids)


def _ids(ids: Iterable[int]) -> NDArray[np.uint64]:
    if isinstance(ids, np.ndarray):
        return as_ids(ids, "ids to ignore")
    values = list(ids)
    if any(not 0 <= value < 2**64 for value in values):
        raise SegmentError(f"The ids to ignore {values} cannot be used: ids are 0 or positive, and below 2**64.")
    return np.array(values, np.uint64)


def _check(truth: Any, segmentation: Any) -> None:
    if truth.shape != segmentation.shape or not truth.shape:
        raise SegmentError(
            f"The labels have the shape {truth.shape} and the segmentation {segmentation.shape}: give both for the "
            "same voxels."
        )
    _check_type(truth.dtype, "labels")
    _check_type(segmentation.dtype, "segmentation")


def _check_type(dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind not in "uib":
        raise SegmentError(f"There are values of type {dtype} in the {name}, not ids: give whole numbers.")


def as_ids(ids: NDArray[Any], name: str) -> NDArray[np.uint64]:
    """Return ids as uint64.

    Parameters
    ----------
    ids : ndarray of int
        Ids.
    name : str
        What an error calls them.

    Raises
    ------
    SegmentError
        If they are no integers, or one is negative.
    """
    _check_type(ids.dtype, name)
    if ids.dtype.kind == "i" and ids.size and int(ids.min()) < 0:
        raise SegmentError(f"There is the negative id {int(ids.min())} in the {name}: ids are 0 or positive.")
    return ids.astype(np.uint64)


_EMPTY = Contingency(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
