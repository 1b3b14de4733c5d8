"""Skeletons of all ids of a volume by TEASAR, block by block: paths through the middle of each neurite, and radii.

The library is bioimage-cpp; its parts for blocks make neighbours meet in the same voxels, so that joining the parts of
a neuron is exact. The method is that of Sato et al. 2000, with the penalties and radii of kimimaro.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bioimage_cpp.skeleton import distributed

from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.segment.blocks.grid import Block

BLOCK: Final = (128, 256, 256)  # 0.2 GB
# Around a path so much counts as reached: 1.5 radii and 300 nm, kimimaro's numbers; smaller ones give more side paths.
_SCALE: Final = 1.5
_REACH_NM: Final = 300.0
_REACH_VOXELS: Final = 20.0  # where the voxel size is unknown


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The skeleton of one id, or the part of it that lies in a block: trees, one for each piece of it.

    Attributes
    ----------
    nodes : ndarray of int64, shape (N, 3)
        Voxels (z, y, x).
    edges : ndarray of uint64, shape (E, 2)
        Rows of `nodes` at both ends; neighbours.
    radii : ndarray of float32, shape (N,)
        Distance to the surface in nm; in voxels where the voxel size is unknown.
    """

    nodes: NDArray[np.int64]
    edges: NDArray[np.uint64]
    radii: NDArray[np.float32]


def skeleton_blocks(shape: Triple) -> BlockGrid:
    """Return the blocks in which skeletons are made."""
    return BlockGrid(shape, BLOCK, (0, 0, 0))


def block_skeletons(
    read: Callable[[Box], NDArray[Any]], grid: BlockGrid, block: Block, voxel_size_nm: VoxelSize | None
) -> dict[int, Skeleton]:
    """Return the part of each skeleton that lies in a block.

    Parameters
    ----------
    read : callable
        Returns the ids in a box, an array (z, y, x) of integers; 0 is nothing.
    grid : BlockGrid
        All blocks, without a halo.
    block : Block
        The one to do.
    voxel_size_nm : tuple of float or None
        (z, y, x) in nm.

    Returns
    -------
    dict of int to Skeleton
        By id; nodes are voxels of the whole volume.
    """
    start = block.core.start
    z, y, x = (min(b + 1, n) for b, n in zip(block.core.stop, grid.shape, strict=True))  # with the plane that is shared
    ids = read(Box(start, (z, y, x)))
    faces = [(axis, "low") for axis in range(3) if start[axis] > 0]
    faces += [(axis, "high") for axis, stop in enumerate((z, y, x)) if stop > block.core.stop[axis]]
    spacing = voxel_size_nm or (1.0, 1.0, 1.0)
    targets = distributed.block_border_targets_labels(ids, faces, origin=start, spacing=spacing)
    parts = distributed.block_teasar_labels(
        ids,
        open_faces=faces,
        origin=start,
        required_targets=targets,
        spacing=spacing,
        scale=_SCALE,
        constant=_REACH_NM if voxel_size_nm else _REACH_VOXELS,
    )
    return {number: Skeleton(*part) for number, part in parts.items()}


def joined_skeleton(parts: Iterable[Skeleton], voxel_size_nm: VoxelSize | None) -> Skeleton:
    """Return the skeleton that parts from several blocks make, without cycles."""
    merged = distributed.merge_block_skeletons([(part.nodes, part.edges, part.radii) for part in parts])
    spacing = voxel_size_nm or (1.0, 1.0, 1.0)
    return Skeleton(*distributed.minimum_spanning_forest(merged, spacing=spacing))
