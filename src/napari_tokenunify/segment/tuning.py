"""Threshold or beta from annotations: only counts of voxels are compared, so a try costs no look at the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.metrics import (
    Contingency,
    ContingencySum,
    adapted_rand_error,
    contingency,
    variation_of_information,
)
from napari_tokenunify.segment.agglomeration import BETA_METHODS, TREE_METHODS, agglomerate

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from numpy.typing import NDArray

    from napari_tokenunify.config import AgglomerateConfig
    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.segment.region_graph import RegionGraph
    from napari_tokenunify.segment.segmentation import Segmentation

_FINE, _COARSE = 99, 19  # values tried between 0 and 1: with a merge tree, and where each means solving anew
_DIGITS = 9  # errors that differ by less are the same


class TuningPoint(NamedTuple):
    """The error at one threshold or beta; VOI in bits."""

    value: float
    voi_split: float
    voi_merge: float
    adapted_rand_error: float


@dataclass(frozen=True)
class Tuning:
    """How the error depends on the threshold or beta.

    Attributes
    ----------
    method : str
        One of METHODS.
    curve : tuple of TuningPoint
        In the order of their values.
    value : float
        The one with the least VOI split + merge; of several in a row the one in their middle.
    """

    method: str
    curve: tuple[TuningPoint, ...]
    value: float


def tune(graph: RegionGraph, fragments: NDArray[np.uint64], labels: NDArray[Any], config: AgglomerateConfig) -> Tuning:
    """Try thresholds (or betas) on annotations and return the errors and the best.

    Parameters
    ----------
    graph : RegionGraph
        Of the whole volume.
    fragments : ndarray of uint64, shape (Z, Y, X)
        The fragments where there are annotations; 0 = none, does not count.
    labels : ndarray of int, shape (Z, Y, X)
        Annotations of the same voxels; 0 = not known, does not count.
    config : AgglomerateConfig
        The method.

    Returns
    -------
    Tuning
        The curve and the chosen value.

    Raises
    ------
    SegmentError
        If no fragment is labelled, or the shapes differ.
    """
    return tune_counts(graph, contingency(labels, fragments), config)


def tune_counts(graph: RegionGraph, counts: Contingency, config: AgglomerateConfig) -> Tuning:
    """Do what `tune` does from the voxels that each label shares with each fragment, e.g. added up over blocks.

    Parameters
    ----------
    graph : RegionGraph
        Of the whole volume.
    counts : Contingency
        Of labels and fragments; 0 does not count in either.
    config : AgglomerateConfig
        The method.

    Returns
    -------
    Tuning

    Raises
    ------
    SegmentError
        If no fragment is labelled.
    """
    counts = counts.without((0,), (0,))
    if not len(counts):
        raise SegmentError("No labelled voxel lies in a fragment: label some neurons inside the volume first.")
    return _tuning(config.method, counts, _tables(graph, config))


def tune_segmentation(segmentation: Segmentation, annotations: Annotations) -> Generator[None, None, Tuning]:
    """Try the thresholds of a segmentation that is there on annotations; only labelled blocks are read.

    A generator, so that it can be ended after any block.

    Parameters
    ----------
    segmentation : Segmentation
        Made by a method whose threshold can be moved.
    annotations : Annotations
        Of the volume that it was made of; boundary does not count.

    Returns
    -------
    Tuning
        The thresholds are those of `Segmentation.at`.

    Raises
    ------
    SegmentError
        If the method has no threshold, or fewer than two neurons are labelled in what was segmented.
    """
    tree = segmentation.tree
    if tree is None:
        raise SegmentError(f"The method {segmentation.spec['method']} has no threshold that could be fitted to labels.")
    counts = ContingencySum()
    for block in annotations.labelled_blocks():
        yield
        box = block.box.overlap(segmentation.covered)
        if box is not None:
            labels, fragments = (box.seen_from(start) for start in (block.box.start, segmentation.origin))
            counts.add(contingency(block.ids[labels.slices], segmentation.fragments[fragments.slices]))
    found = counts.result().without((0, annotations.boundary_id or 0), (0,))
    if len(np.unique(found.truth)) < 2:
        raise SegmentError(
            "Fewer than two neurons are labelled in what was segmented: label two that touch, so that it shows where "
            "too much is joined."
        )
    return _tuning(segmentation.spec["method"], found, ((value, tree.table(value)) for value in _values(_FINE)))


def _tuning(method: str, counts: Contingency, tables: Iterable[tuple[float, NDArray[np.uint64]]]) -> Tuning:
    curve = []
    for value, table in tables:
        scored = counts.relabelled(table)
        split, merge = variation_of_information(scored)
        curve.append(TuningPoint(value, split, merge, adapted_rand_error(scored)[0]))
    return Tuning(method, tuple(curve), _best(curve))


def _values(tries: int) -> list[float]:
    return [step / (tries + 1) for step in range(1, tries + 1)]


def _tables(graph: RegionGraph, config: AgglomerateConfig) -> Iterator[tuple[float, NDArray[np.uint64]]]:
    """Yield values in rising order, each with its table."""
    values = _values(_FINE if config.method in TREE_METHODS else _COARSE)
    tree = agglomerate(graph, config).tree if config.method in TREE_METHODS else None
    field = "beta" if config.method in BETA_METHODS else "threshold"
    for value in values:
        yield value, agglomerate(graph, config.replace(**{field: value})).table if tree is None else tree.table(value)


def _best(curve: list[TuningPoint]) -> float:
    errors = np.round([point.voi_split + point.voi_merge for point in curve], _DIGITS)
    first = int(errors.argmin())
    last = first
    while last + 1 < len(curve) and errors[last + 1] == errors[first]:
        last += 1
    return curve[(first + last) // 2].value
