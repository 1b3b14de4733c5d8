"""The expected run length of a segmentation: skeletons read from files or made of the labels, and what lies at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.data.annotation_files import drawing_files, read_drawing
from napari_tokenunify.data.drawn_labels import nearest_voxels
from napari_tokenunify.data.source import Location
from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.events import Progress
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.run_length import expected_run_length
from napari_tokenunify.segment.skeletons import block_skeletons, joined_skeleton, skeleton_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from napari_tokenunify.data.drawn_labels import Unit
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Box, VoxelSize
    from napari_tokenunify.segment.skeletons import Skeleton

    Read = Callable[[Box], NDArray[Any]]

_BLOCK = (64, 256, 256)


@dataclass(frozen=True, eq=False)
class Traced:
    """Skeletons of neurons.

    Attributes
    ----------
    nodes : ndarray of float64, shape (N, 3)
        Places (z, y, x) in voxels of the volume.
    edges : ndarray of int64, shape (E, 2)
        Rows of `nodes` at both ends.
    neurons : ndarray of uint64, shape (N,)
        The neuron of each node.
    """

    nodes: NDArray[np.float64]
    edges: NDArray[np.int64]
    neurons: NDArray[np.uint64]

    def inside(self, box: Box) -> Traced:
        """Return the nodes in a box, and the edges between them."""
        voxels = nearest_voxels(self.nodes)
        kept: NDArray[np.bool_] = np.all((voxels >= box.start) & (voxels < box.stop), axis=1)
        place = np.cumsum(kept) - 1
        return Traced(self.nodes[kept], place[self.edges[kept[self.edges].all(axis=1)]], self.neurons[kept])


def read_skeletons(uri: str, volume: Volume, unit: Unit | None = None) -> Traced:
    """Read skeletons that were made on a volume.

    Parameters
    ----------
    uri : str
        An SWC file, a folder of SWC files, or a CSV file of paths, as `data.annotation_files.read_drawing` has it.
    volume : Volume
        Gives the voxel size and origin for coordinates that are not voxels.
    unit : {"voxel", "nm", "um"}, optional
        What the coordinates count; SWC needs it.

    Raises
    ------
    AnnotationError
        If a file is damaged, its unit is not known, or points lie outside the volume.
    ConfigError
        If there is no such file.
    """
    location = Location.parse(uri)
    files = () if location.is_remote or location.inner or not location.path.exists() else drawing_files(location.path)
    if not files:
        raise ConfigError(
            f"{uri}: holds no skeletons: give an SWC file, a folder of SWC files, or a CSV file of paths."
        )
    drawing = read_drawing(files, volume, unit)
    drawing.check_inside(volume.shape, uri)
    owners = np.repeat(drawing.neurons, 2)
    rows = np.column_stack([drawing.lines.reshape(-1, 3), np.unique(owners, return_inverse=True)[1]])
    _, first, places = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    edges = places.reshape(-1, 2)
    return Traced(rows[first, :3], edges[edges[:, 0] != edges[:, 1]], owners[first])


def made_skeletons(read: Read, box: Box, voxel_size_nm: VoxelSize | None) -> Generator[Event, None, Traced]:
    """Make skeletons of labels by TEASAR, block by block; what is kept of a neuron is its skeleton alone.

    Parameters
    ----------
    read : callable
        Returns the ids in a box, an array (z, y, x) of integers; 0 is nothing.
    box : Box
        Where, in voxels of the volume.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm.

    Raises
    ------
    SegmentError
        If there is no label.
    """
    grid = skeleton_blocks(box.shape)
    parts: dict[int, list[Skeleton]] = {}
    for block in grid:
        yield Progress(block.index, len(grid), "making skeletons")
        found = block_skeletons(lambda part: read(part.shifted(box.start)), grid, block, voxel_size_nm)
        for neuron, part in found.items():
            parts.setdefault(neuron, []).append(part)
    if not parts:
        raise SegmentError(f"No label is left in the box {box} to make a skeleton of: ignore fewer ids.")
    whole = {neuron: joined_skeleton(pieces, voxel_size_nm) for neuron, pieces in parts.items()}
    counts = [len(skeleton.nodes) for skeleton in whole.values()]
    before = np.repeat(np.cumsum([0, *counts[:-1]]), [len(skeleton.edges) for skeleton in whole.values()])
    edges = np.concatenate([skeleton.edges for skeleton in whole.values()]).astype(np.int64) + before[:, None]
    nodes = np.concatenate([skeleton.nodes for skeleton in whole.values()]) + np.array(box.start, float)
    return Traced(nodes, edges, np.repeat(np.array(list(whole), np.uint64), counts))


def run_length_scores(
    traced: Traced, read: Read, box: Box, voxel_size_nm: VoxelSize, merge_nodes: int = 0
) -> Generator[Event, None, dict[str, Any]]:
    """Return the expected run length, and the one of a perfect segmentation.

    Parameters
    ----------
    traced : Traced
        Skeletons of true neurons.
    read : callable
        Returns the segments in a box, an array (z, y, x) of integers; 0 is none.
    box : Box
        Where to measure; an edge that leaves it does not count.
    voxel_size_nm : tuple of float
        (z, y, x) in nm.
    merge_nodes : int
        How many nodes of a second skeleton a segment may hold without being a merge.

    Returns
    -------
    dict
        `expected_run_length_um`, `expected_run_length_of_um` (the best possible), `skeletons` (their number).

    Raises
    ------
    SegmentError
        If the skeletons have no length in the box.
    """
    traced = traced.inside(box)
    voxels = nearest_voxels(traced.nodes) - box.start
    segments = np.zeros(len(voxels), np.uint64)
    grid = BlockGrid(box.shape, _BLOCK, (0, 0, 0))
    block_of = np.ravel_multi_index(tuple((voxels // _BLOCK).T), grid.counts)
    for block in grid:
        yield Progress(block.index, len(grid), "following skeletons")
        here = np.flatnonzero(block_of == block.index)
        if len(here):
            ids = read(block.core.shifted(box.start))
            segments[here] = ids[tuple((voxels[here] - block.core.start).T)]
    positions = traced.nodes * np.array(voxel_size_nm)
    length, best = expected_run_length(positions, traced.edges, traced.neurons, segments, merge_nodes)
    return {
        "expected_run_length_um": length / 1000,
        "expected_run_length_of_um": best / 1000,
        "skeletons": len(np.unique(traced.neurons)),
    }
