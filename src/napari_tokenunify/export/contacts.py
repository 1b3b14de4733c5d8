"""CSV: a row for each pair of segments that touch, with how sure it is that they are two."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.events import Progress
from napari_tokenunify.export.each_segment import whole_segments

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content
    from napari_tokenunify.segment.region_graph import RegionGraph

COLUMNS: Final = ("segment", "neighbour", "voxel_pairs", "mean_affinity", "largest_affinity", "uncertainty")


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write a row for each pair of segments that touch.

    `voxel_pairs` counts the pairs of neighbouring voxels over which they do, `mean_affinity` and `largest_affinity` are
    those of these pairs, and `uncertainty` is that of `uncertainty`.

    Parameters
    ----------
    content : Content
        Whole segments.
    path : Path
        The file.

    Raises
    ------
    ExportError
        If it is an array, or a part of a segmentation.
    OSError
        If it cannot be written.
    """
    segments = whole_segments(content)
    yield Progress(0, 1, "adding up contacts")
    graph = segments.segmentation.graph
    pairs = np.sort(segments.table[graph.edges], axis=1)
    apart = (pairs[:, 0] != pairs[:, 1]) & (pairs[:, 0] > 0)
    found, group = np.unique(pairs[apart], axis=0, return_inverse=True)
    group, count = group.ravel(), graph.count[apart]
    voxel_pairs = np.bincount(group, count, len(found))
    mean = np.bincount(group, count * graph.mean[apart], len(found)) / voxel_pairs
    unsure = np.bincount(group, count * uncertainty(graph)[apart], len(found)) / voxel_pairs
    largest = np.zeros(len(found), np.float32)
    np.maximum.at(largest, group, graph.largest[apart])
    segments.written[segments.table] = True
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for pair, *numbers in zip(found.tolist(), voxel_pairs, mean, largest, unsure, strict=True):
            rows.writerow([*pair, f"{numbers[0]:.0f}", *(f"{number:.4f}" for number in numbers[1:])])
    yield Progress(1, 1, "adding up contacts")


def is_ours(path: Path) -> bool:
    """Whether a file is one that `write` made."""
    return begins_with(path, COLUMNS)


def begins_with(path: Path, columns: Sequence[str]) -> bool:
    """Whether the first line of a file names these columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return file.readline().strip() == ",".join(columns)


def uncertainty(graph: RegionGraph) -> NDArray[np.float64]:
    """Return how unsure each contact of fragments is, from 0 (mean affinity 0 or 1) to 1 (0.5).

    Parameters
    ----------
    graph : RegionGraph
        E contacts.

    Returns
    -------
    ndarray of float64, shape (E,)
    """
    return 1 - np.abs(2.0 * np.clip(graph.mean.astype(np.float64), 0, 1) - 1)


def segment_uncertainty(graph: RegionGraph, table: NDArray[np.uint64], ids: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the mean uncertainty of all contacts that fragments of a segment have, weighted by their voxel pairs.

    Contacts inside the segment count like those with others: both are decisions that could have been taken otherwise.

    Parameters
    ----------
    graph : RegionGraph
        The contacts.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment.
    ids : ndarray of uint64, shape (n,)
        Segments, in ascending order.

    Returns
    -------
    ndarray of float64, shape (n,)
        0..1; NaN for a segment without contacts.
    """
    pairs = table[graph.edges]
    weights, unsure = graph.count, graph.count * uncertainty(graph)
    total, added = np.zeros(len(ids)), np.zeros(len(ids))
    for side in range(2):
        counts = np.ones(len(pairs), bool) if side == 0 else pairs[:, 0] != pairs[:, 1]  # once if it lies inside
        row = np.searchsorted(ids, pairs[:, side]).clip(max=max(len(ids) - 1, 0))
        counts &= ids[row] == pairs[:, side] if len(ids) else False
        total += np.bincount(row[counts], weights[counts], len(ids))
        added += np.bincount(row[counts], unsure[counts], len(ids))
    with np.errstate(invalid="ignore"):
        return added / total
