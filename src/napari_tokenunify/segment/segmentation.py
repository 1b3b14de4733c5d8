"""Segmentation: a folder of fragments, their graph, the merge tree and the table that says which segment each is in.

NAME/
  fragments.zarr   uint64 (z, y, x), written once
  graph/*.npy      the arrays of RegionGraph
  tree/*.npy       the arrays of MergeTree; only for methods that have one
  table.npy        segment of each fragment, as agglomerated
  tuning.csv       scores at each threshold that was tried, if labels were given
  spec.json        how it was made; written last, so a folder without it is not finished
"""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.geometry import Box
from napari_tokenunify.project import whole_file, whole_folder
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.fragment_boxes import kept_boxes
from napari_tokenunify.segment.fragment_store import (
    FRAGMENTS,
    SHARD,
    SegmentView,
    StoredFragments,
    create_fragments,
)
from napari_tokenunify.segment.merge_tree import MergeTree
from napari_tokenunify.segment.names import named
from napari_tokenunify.segment.region_graph import RegionGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize

KIND: Final = "segmentation"
FORMAT: Final = 1
SPEC: Final = "spec.json"
IDS: Final = "imported_ids.csv"  # of segments that were made elsewhere, what they were called there
CURVE: Final = "tuning.csv"
EDITS: Final = "edits.sqlite"
_GRAPH, _TREE, _TABLE = "graph", "tree", "table.npy"
_SPREAD: Final = "spread"  # the one array of a graph that need not be there
_ARRAYS: Final = tuple(field.name for field in fields(RegionGraph) if field.name not in {"nodes", _SPREAD})


class Segmentation:
    """A finished segmentation, open for reading; nothing is loaded before it is asked for.

    Attributes
    ----------
    folder : Path
        Where it lies.
    spec : dict
        How it was made: `method`, `value` (threshold or beta), `shape`, `voxel_size_nm`, `origin` (the voxel of the
        volume that the first one here is), `origin_nm`, `offsets`, `sources`, `settings`, `versions`, `fragments`
        (their number), `fragments_hash` and more, all plain values.
    """

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.spec = folder, spec

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a segmentation.

        Raises
        ------
        SegmentError
            If there is none, it is not finished, or it was made by a newer version.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise SegmentError(f"{folder}: there is no such folder; give the one that segment has made.")
        spec = read_spec(folder)
        if spec is None and (folder / WORK).is_dir():
            raise SegmentError(f"{folder}: is not finished; run the same segment command again, it does the rest.")
        if spec is None:
            raise SegmentError(
                f"{folder}: is no segmentation, as it has no {SPEC}; give the one that segment has made."
            )
        segmentation = cls(folder, spec)
        if segmentation.fragments.shape != segmentation.shape:
            raise SegmentError(f"{folder}: {FRAGMENTS} and {SPEC} differ in their shape; copy the folder again.")
        return segmentation

    @classmethod
    def create(
        cls,
        folder: str | Path,
        fragments: NDArray[np.uint64],
        graph: RegionGraph,
        table: NDArray[np.uint64],
        *,
        tree: MergeTree | None = None,
        spec: dict[str, Any] | None = None,
    ) -> Self:
        """Write what is in memory as a segmentation, all of it or nothing, and open it.

        Parameters
        ----------
        folder : str or Path
            What to make.
        fragments : ndarray of uint64, shape (Z, Y, X)
            Ids 1..n, 0 = no fragment.
        graph : RegionGraph
            Of these fragments.
        table : ndarray of uint64, shape (n + 1,)
            Segment of each fragment.
        tree : MergeTree, optional
            For other thresholds.
        spec : dict, optional
            Plain values to keep with it: `method`, `value`, `voxel_size_nm`, `origin`, `origin_nm`, ...

        Raises
        ------
        SegmentError
            If something is there already, the parts do not fit each other, or it cannot be written.
        """
        folder = Path(folder).expanduser()
        if fragments.ndim != 3 or fragments.max(initial=0) > graph.nodes or len(table) != graph.nodes + 1:
            raise SegmentError(f"{folder}: is not written: fragments, graph and table are not of the same volume.")
        z, y, x = fragments.shape
        about: dict[str, Any] = {"method": None, "value": None, "voxel_size_nm": None}
        about |= {"origin": (0, 0, 0), "origin_nm": (0.0, 0.0, 0.0)}
        about |= {**(spec or {}), "shape": (z, y, x), "fragments": graph.nodes}
        with whole_folder(folder, SegmentError) as part:
            part.mkdir()
            place = about["voxel_size_nm"], about["origin"], about["origin_nm"]
            store = create_fragments(part / FRAGMENTS, (z, y, x), SHARD, *place)
            store[:] = fragments
            write_parts(part, graph, table, tree)
            write_spec(part, about)
        return cls.open(folder)

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        z, y, x = self.spec["shape"]
        return z, y, x

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """(z, y, x) in nm; None if unknown."""
        size = self.spec["voxel_size_nm"]
        return None if size is None else (size[0], size[1], size[2])

    @property
    def origin(self) -> Triple:
        """The voxel (z, y, x) of the volume that the first one here is."""
        z, y, x = self.spec.get("origin", (0, 0, 0))
        return int(z), int(y), int(x)

    @property
    def covered(self) -> Box:
        """The part of the volume that it is of."""
        return Box.whole(self.shape).shifted(self.origin)

    @property
    def origin_nm(self) -> VoxelSize:
        """Corner (z, y, x) in nm of the first voxel of the volume that it was made of; `origin` counts from there."""
        first = self.spec.get("origin_nm", (0.0, 0.0, 0.0))
        return first[0], first[1], first[2]

    @property
    def nodes(self) -> int:
        """Number of fragments; their ids are 1..nodes."""
        return int(self.spec["fragments"])

    @cached_property
    def fragments(self) -> StoredFragments:
        """The voxels, a lazy array of uint64 (z, y, x); nothing changes them."""
        return StoredFragments(self.folder / FRAGMENTS, self.nodes)

    @cached_property
    def graph(self) -> RegionGraph:
        """Contacts between fragments, mapped from the disk."""
        has_spread = (self.folder / _GRAPH / f"{_SPREAD}.npy").exists()
        names = (*_ARRAYS, _SPREAD) if has_spread else _ARRAYS
        arrays = {name: self._load(f"{_GRAPH}/{name}.npy") for name in names}
        if len(arrays["sizes"]) != self.nodes + 1:
            raise SegmentError(f"{self.folder}: the graph is one of other fragments; copy the folder again.")
        return RegionGraph(nodes=self.nodes, **arrays)

    @cached_property
    def boxes(self) -> NDArray[np.int32]:
        """Where each fragment lies, int32 (nodes + 1, 6): first voxel (z, y, x) and the one past the last.

        Zeros for an id without voxels. The first time, all voxels are read; then it is kept beside the graph, and goes
        when the fragments go.
        """
        return kept_boxes(self.folder / _GRAPH / "boxes.npy", self.fragments, self.nodes)

    @cached_property
    def tree(self) -> MergeTree | None:
        """All merges, cheapest first; None for a method that solves once for one threshold or beta."""
        if not self.spec["has_tree"]:
            return None
        pairs, scores = (np.array(self._load(f"{_TREE}/{name}.npy")) for name in ("pairs", "scores"))
        if pairs.shape != (len(scores), 2) or pairs.max(initial=0) > self.nodes:
            raise SegmentError(f"{self.folder}: the merge tree is one of other fragments; copy the folder again.")
        return MergeTree(self.nodes, pairs, scores)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Voxels of each fragment, int64 (nodes + 1,); entry 0 is 0."""
        return np.array(self.graph.sizes)

    @cached_property
    def table(self) -> NDArray[np.uint64]:
        """Segment of each fragment as agglomerated, uint64 (nodes + 1,), called by its largest; entry 0 is 0."""
        table = np.array(self._load(_TABLE))
        if table.shape != (self.nodes + 1,) or table.dtype != np.uint64:
            raise SegmentError(f"{self.folder}: {_TABLE} is one of other fragments; copy the folder again.")
        return table

    def at(self, threshold: float) -> NDArray[np.uint64]:
        """Return the table for a threshold; no voxel is touched.

        Parameters
        ----------
        threshold : float
            0..1; larger joins more.

        Returns
        -------
        ndarray of uint64, shape (nodes + 1,)
            Segment of each fragment, called by its largest, so that a segment keeps its name while it grows; entry 0
            is 0.

        Raises
        ------
        SegmentError
            If the method has no threshold that can be moved afterwards.
        """
        if self.tree is None:
            raise SegmentError(
                f"{self.folder}: was made by {self.spec['method']}, which has no threshold to move; segment again with "
                "another value, or with the method waterz or mean."
            )
        return named(self.tree.table(threshold), self.sizes)

    def view(self, threshold: float | None = None) -> SegmentView:
        """Return the segments as a lazy array (z, y, x) of uint64.

        Parameters
        ----------
        threshold : float, optional
            By default the table as agglomerated.
        """
        return SegmentView(self.fragments, self.table if threshold is None else self.at(threshold))

    def _load(self, name: str) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SegmentError(f"{self.folder}: {name} is missing or damaged; copy the folder again.") from error
        return array.view(np.ndarray)


def read_spec(folder: Path) -> dict[str, Any] | None:
    """Return how a segmentation was made; None if the folder holds no finished one.

    Raises
    ------
    SegmentError
        If it is damaged, or of a newer version.
    """
    try:
        text = (folder / SPEC).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SegmentError(f"{folder}: {SPEC} cannot be read; copy the folder again.") from error
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise SegmentError(f"{folder}: {SPEC} is damaged; copy the folder again.") from error
    if not isinstance(spec, dict) or spec.get("kind") != KIND:
        raise SegmentError(f"{folder}: {SPEC} describes no segmentation; give the folder that segment has made.")
    if spec.get("format") != FORMAT:
        raise SegmentError(f"{folder}: was made by a newer version; update napari-tokenunify.")
    missing = {"shape", "fragments", "voxel_size_nm", "has_tree", "method"} - set(spec)
    if missing:
        raise SegmentError(f"{folder}: {SPEC} does not say {', '.join(sorted(missing))}; copy the folder again.")
    return spec


def discard(folder: Path) -> None:
    """Delete a segmentation, finished or not; other files in its folder stay.

    Raises
    ------
    SegmentError
        If it holds edits, or cannot be deleted.
    """
    if (folder / EDITS).exists():
        raise SegmentError(f"{folder}: holds edits, and is not overwritten; choose another name or delete it yourself.")
    try:
        for name in (SPEC, _TABLE, CURVE, IDS):  # the spec first: what is left is not taken for whole
            (folder / name).unlink(missing_ok=True)
        for name in (_GRAPH, _TREE, WORK, FRAGMENTS):  # which says that it is one, should this be killed
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        raise SegmentError(f"{folder}: cannot be overwritten ({error.strerror}); choose another name.") from error


def write_parts(folder: Path, graph: RegionGraph, table: NDArray[np.uint64], tree: MergeTree | None) -> None:
    """Write graph, table and tree into a folder that is being made; the spec follows when all else is there.

    Raises
    ------
    SegmentError
        If they cannot be written.
    """
    parts: dict[str, NDArray[Any]] = {f"{_GRAPH}/{name}.npy": getattr(graph, name) for name in _ARRAYS}
    if graph.spread is not None:
        parts[f"{_GRAPH}/{_SPREAD}.npy"] = graph.spread
    parts[_TABLE] = named(table, graph.sizes)
    if tree is not None:
        parts |= {f"{_TREE}/pairs.npy": tree.pairs, f"{_TREE}/scores.npy": tree.scores}
    for name, array in parts.items():
        with whole_file(folder / name, SegmentError) as part, part.open("wb") as file:
            np.save(file, array, allow_pickle=False)


def write_spec(folder: Path, spec: dict[str, Any]) -> None:
    """Write the spec, which makes the folder a finished segmentation.

    Raises
    ------
    SegmentError
        If it cannot be written.
    """
    about = {"kind": KIND, "format": FORMAT, "has_tree": (folder / _TREE).is_dir(), **spec}
    with whole_file(folder / SPEC, SegmentError) as part:
        part.write_text(json.dumps(about, indent=1), encoding="utf-8")


def get_ready() -> None:
    """Load and compile what `Segmentation.at` needs: it takes a second, once a process; for a thread that has time."""
    tree = MergeTree(1, np.empty((0, 2), np.uint64), np.empty(0, np.float32))
    named(tree.table(0.0), np.zeros(2, np.int64))
