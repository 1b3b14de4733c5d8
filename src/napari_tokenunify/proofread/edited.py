"""A segmentation as it was edited: whoever reads segments reads them so, and needs to know nothing of edits."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_tokenunify.proofread.correction import corrected
from napari_tokenunify.proofread.cut_fragment import with_parts
from napari_tokenunify.proofread.proofreading import Proofreading
from napari_tokenunify.segment.segmentation import EDITS, Segmentation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.proofread.constraints import Constraints
    from napari_tokenunify.proofread.edits import FragmentCut
    from napari_tokenunify.proofread.fragment_graph import FragmentGraph
    from napari_tokenunify.segment.fragment_store import StoredFragments
    from napari_tokenunify.segment.region_graph import RegionGraph


def open_edited(folder: str | Path) -> Segmentation:
    """Open a segmentation with the edits that are in force; one that has none, as it is.

    Parameters
    ----------
    folder : str or Path
        What `segment` has made.

    Returns
    -------
    Segmentation
        Its `table`, `at` and `view` obey the edits, and divided fragments are divided. It stays as it is now, whatever
        is edited later.

    Raises
    ------
    SegmentError
        If there is no segmentation.
    ProofreadError
        If its edits are of other fragments, locked or damaged.
    """
    segmentation = Segmentation.open(folder)
    if not (segmentation.folder / EDITS).exists():
        return segmentation
    with Proofreading.open(segmentation, read_only=True) as proofreading:
        return EditedSegmentation.of(proofreading)


class EditedSegmentation(Segmentation):
    """A segmentation seen through the edits that were in force when it was made.

    Attributes
    ----------
    spec : dict
        As of the segmentation, with the parts of divided fragments counted; `edits` says how many edits are in force
        and names the last.
    """

    _whole: Segmentation
    _graph: FragmentGraph
    _constraints: Constraints
    _divided: tuple[FragmentCut, ...]
    _fragments: StoredFragments

    @classmethod
    def of(cls, proofreading: Proofreading) -> Self:
        """Take what is shown now."""
        whole, in_force = proofreading.segmentation, proofreading.in_force
        edits: dict[str, Any] = {"in_force": len(in_force), "last": in_force[-1] if in_force else None}
        edited = cls(whole.folder, {**whole.spec, "edits": edits, "fragments": proofreading.graph.nodes})
        edited._whole, edited._graph, edited._constraints = whole, proofreading.graph, proofreading.constraints
        edited._divided, edited._fragments = proofreading.divided, proofreading.fragments
        return edited

    @cached_property
    def fragments(self) -> StoredFragments:
        """The voxels, with fragments divided; a lazy array of uint64 (z, y, x)."""
        return self._fragments

    @cached_property
    def graph(self) -> RegionGraph:
        """Contacts between fragments, those of divided ones measured anew."""
        graph, now = self._whole.graph, self._graph
        if now.nodes == graph.nodes:
            return graph
        # the largest affinity of a new contact is not known; its mean is no larger
        parts: dict[str, Any] = {
            "edges": now.edges,
            "count": now.count,
            "mean": now.mean,
            "largest": now.mean,
            "sizes": now.sizes,
            "spread": now.spread,
        }
        return replace(graph, nodes=now.nodes, **parts)

    @cached_property
    def table(self) -> NDArray[np.uint64]:
        """Segment of each fragment as agglomerated and edited."""
        return self._edited(self._whole.table)

    def at(self, threshold: float) -> NDArray[np.uint64]:
        """Return the table for a threshold, with the edits."""
        return self._edited(self._whole.at(threshold))

    @cached_property
    def boxes(self) -> NDArray[np.int32]:
        """Where each fragment lies, int32 (nodes + 1, 6); of a part, where the whole fragment lies."""
        whole = self._whole.boxes
        boxes = np.zeros((self.nodes + 1, 6), np.int32)
        boxes[: len(whole)] = whole
        for cut in self._divided:
            boxes[list(cut.parts)] = boxes[cut.fragment]
        return boxes

    def _edited(self, table: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return corrected(self._graph, with_parts(table, self._divided, self.nodes), self._constraints).table
