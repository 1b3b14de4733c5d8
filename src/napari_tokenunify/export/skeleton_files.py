"""Skeletons of segments, an SWC file each, by TEASAR block by block.

Places are nm in the order x, y, z, counted as the volume's file does, and radii are nm; all are voxels where the voxel
size is unknown, and 0 is the middle of the first one. Parts wait on the disk until all blocks are done.
"""

from __future__ import annotations

import io
import shutil
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from napari_tokenunify.events import Progress
from napari_tokenunify.export.each_segment import is_made_of, segments_of, write_provenance
from napari_tokenunify.export.resume import Finished
from napari_tokenunify.segment.skeletons import Skeleton, block_skeletons, joined_skeleton, skeleton_blocks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content, Segments
    from napari_tokenunify.geometry import Box

_PARTS: Final = ".parts"
_JOINED: Final = "joined"  # of what is finished, after all blocks
_UNDEFINED: Final = 0  # type of a node, of SWC
_NODE: Final = np.dtype([("segment", "<u8"), ("nodes", "<i8", 3), ("radii", "<f4")])
_EDGE: Final = np.dtype([("segment", "<u8"), ("edges", "<u8", 2)])


def write(content: Content, path: Path) -> Generator[Event, None, None]:
    """Write `ID.swc` for each segment.

    Parameters
    ----------
    content : Content
        Segments.
    path : Path
        The folder.

    Raises
    ------
    ExportError
        If it is an array.
    OSError
        If it cannot be written.
    """
    segments = segments_of(content)
    write_provenance(segments, path, "skeletons")
    parts, finished = path / _PARTS, Finished(path)
    if _JOINED not in finished:  # else a kill has only left some of the parts behind
        parts.mkdir(exist_ok=True)
        yield from _make_parts(segments, path, finished)
        yield from _join_parts(segments, path)
        finished.add(_JOINED)
    for file in path.glob("*.swc"):
        segments.written[int(file.stem)] = True
    if parts.exists():
        shutil.rmtree(parts)
    yield Progress(1, 1, "writing skeletons")


def is_ours(path: Path) -> bool:
    """Whether a folder is one that `write` made."""
    return is_made_of(path, "skeletons")


def _make_parts(content: Segments, path: Path, finished: Finished) -> Generator[Event, None, None]:
    """Make the part of each skeleton in each block, a folder a block."""
    grid, parts = skeleton_blocks(content.shape), path / _PARTS

    def read(box: Box) -> NDArray[np.uint64]:
        ids: NDArray[np.uint64] = content.read(box)
        return ids

    for block in grid:
        yield Progress(block.index, len(grid), "making skeletons")
        name = str(block.index)
        if name in finished:
            continue
        _save(parts / name, block_skeletons(read, grid, block, content.voxel_size_nm))
        finished.add(name)


def _join_parts(segments: Segments, path: Path) -> Generator[Event, None, None]:
    """Write a file for each segment."""
    where, parts = _blocks_by_segment(path / _PARTS), _Parts()
    for number, (segment, folders) in enumerate(sorted(where.items())):
        yield Progress(number, len(where), "writing skeletons")
        skeleton = joined_skeleton([parts.load(folder, segment) for folder in folders], segments.voxel_size_nm)
        (path / f"{segment}.swc").write_bytes(_swc(skeleton, segments, segment))


def _save(folder: Path, skeletons: dict[int, Skeleton]) -> None:
    """Write the parts in a block one behind the other, each row with its segment."""
    ids = sorted(skeletons)
    folder.mkdir(exist_ok=True)
    for name, kind in (("nodes", _NODE), ("edges", _EDGE)):
        counts = [len(getattr(skeletons[segment], name)) for segment in ids]
        rows = np.zeros(sum(counts), kind)
        rows["segment"] = np.repeat(np.array(ids, np.uint64), counts)
        for field in (kind.names or ())[1:]:  # as the attributes of a Skeleton are called
            rows[field] = np.concatenate([getattr(skeletons[segment], field) for segment in ids]) if ids else 0
        np.save(folder / f"{name}.npy", rows, allow_pickle=False)


def _blocks_by_segment(parts: Path) -> dict[int, list[Path]]:
    where: dict[int, list[Path]] = {}
    for folder in sorted(parts.iterdir()):
        for segment in np.unique(np.load(folder / "nodes.npy", allow_pickle=False)["segment"]).tolist():
            where.setdefault(segment, []).append(folder)
    return where


class _Parts:
    """The parts in all blocks; the files that were used last stay mapped."""

    def __init__(self) -> None:
        self._mapped = lru_cache(256)(_map)

    def load(self, folder: Path, segment: int) -> Skeleton:
        """Return the part of a segment in the block of a folder."""
        nodes, edges = (
            rows[slice(*np.searchsorted(rows["segment"], np.array([segment, segment + 1], np.uint64)))]
            for rows in (self._mapped(folder / "nodes.npy"), self._mapped(folder / "edges.npy"))
        )
        return Skeleton(np.array(nodes["nodes"]), np.array(edges["edges"]), np.array(nodes["radii"]))


def _map(path: Path) -> NDArray[Any]:
    rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows


def _swc(skeleton: Skeleton, content: Segments, segment: int) -> bytes:
    """Return the text: parents before their children, each tree from an end of it."""
    size = content.voxel_size_nm
    half = 0.5 if size else 0.0
    places = (np.array(content.start) + (skeleton.nodes + half) * (size or (1.0, 1.0, 1.0)))[:, ::-1]
    order, parents = _rooted(len(skeleton.nodes), skeleton.edges.astype(np.int64))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    above = np.where(parents >= 0, number[parents], -1)
    columns = (number, np.full(len(order), _UNDEFINED), places, skeleton.radii, above)
    text = io.StringIO()
    text.write(f"# segment {segment}\n# unit: {'nm' if size else 'voxel'}\n# number type x y z radius parent\n")
    np.savetxt(text, np.column_stack(columns)[order], "%d %d %.9g %.9g %.9g %.6g %d")
    return text.getvalue().encode()


def _rooted(nodes: int, edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an order in which each node follows its parent, and the parent of each node, -1 for a root."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(nodes, nodes)).tocsr()
    trees, tree = connected_components(graph, directed=False)
    degree = np.bincount(ends[:, 0], minlength=nodes)
    by_tree = np.lexsort((degree != 1, tree))
    roots = by_tree[np.searchsorted(tree[by_tree], np.arange(trees))]
    orders, parents = [], np.full(nodes, -1, np.int64)
    for root in roots.tolist():
        order, before = breadth_first_order(graph, root, directed=False)
        orders.append(order)
        parents[order[1:]] = before[order[1:]]
    return np.concatenate(orders), parents
