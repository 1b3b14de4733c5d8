"""Edits as training data: labels in which everything that the user has vouched for carries its corrected segment.

Known are the fragments at both ends of a merge or a cut, and all fragments of segments that were marked correct. The
rest is 0, unlabelled. The user's own annotations win where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import zarr

from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.labelled_zarr import create_labels
from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.events import Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.project import whole_folder
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.proofread.proofreading import Proofreading

BOUNDARY: Final = 2**32 - 1
"""The id of the boundary where annotations have none, because 0 is it."""
_BLOCK: Final = (32, 256, 256)


def vouched_table(proofreading: Proofreading, threshold: float | None = None) -> NDArray[np.uint64]:
    """Return the corrected segment of each fragment that the user has vouched for, 0 for the others.

    Parameters
    ----------
    proofreading : Proofreading
        The edits in force.
    threshold : float, optional
        Of the segments; by default as agglomerated.

    Returns
    -------
    ndarray of uint64, shape (nodes + 1,)
    """
    demands, table = proofreading.constraints, proofreading.table(threshold)
    known = np.zeros(len(table), bool)
    known[np.concatenate([demands.must.ravel(), demands.cannot.ravel(), demands.locked[:, 1]])] = True
    return np.where(known, table, np.uint64(0))


@dataclass(frozen=True, eq=False)
class TrainingLabels:
    """A lazy (z, y, x) array of labels over the whole volume; made with `of`.

    Attributes
    ----------
    shape, chunks : tuple of int
        (z, y, x) voxels of the volume, and of what is read at once.
    dtype : numpy.dtype
        uint32.
    """

    proofreading: Proofreading
    table: NDArray[np.uint32]
    annotations: Annotations | None
    covered: Box
    shape: Triple

    dtype: ClassVar[np.dtype[np.uint32]] = np.dtype(np.uint32)
    ndim: ClassVar[int] = 3
    chunks: ClassVar[Triple] = _BLOCK

    @classmethod
    def of(
        cls,
        proofreading: Proofreading,
        volume: Volume,
        annotations: Annotations | None = None,
        *,
        threshold: float | None = None,
    ) -> TrainingLabels:
        """Make the labels of a volume.

        A segment that overlaps with one neuron of the annotations gets its id; one that overlaps with several is left
        out, as the two contradict each other. All others get ids that the annotations do not use.

        Parameters
        ----------
        proofreading : Proofreading
            The edits in force.
        volume : Volume
            What the network will learn from; the segmentation may be one of a part of it.
        annotations : Annotations, optional
            The user's own, on the same volume.
        threshold : float, optional
            At which the user has seen the segments; by default as agglomerated.

        Raises
        ------
        ProofreadError
            If volume, annotations and segmentation do not lie over each other, or nothing is known yet.
        """
        covered = proofreading.segmentation.covered
        if covered.clipped(volume.shape) != covered or (annotations and annotations.shape != volume.shape):
            raise ProofreadError(
                f"{volume.uri}: has {volume.shape} voxels (z, y, x), which does not fit the segmentation, {covered}, "
                "and its annotations: give the volume that all were made on."
            )
        table = vouched_table(proofreading, threshold)
        if not table.any():
            raise ProofreadError("There are no labels to learn from yet: merge, split or mark segments correct first.")
        made = cls(proofreading, np.zeros(len(table), np.uint32), annotations, covered, volume.shape)
        return cls(proofreading, made._numbered(table), annotations, covered, volume.shape)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint32]:
        """Read a box; `index` is three slices without steps."""
        spans = [part.indices(n) for part, n in zip(index, self.shape, strict=True)]
        (z0, z1, _), (y0, y1, _), (x0, x1, _) = spans
        return self.read(Box((z0, y0, x0), (z1, y1, x1)))

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Read a box of the volume.

        Returns
        -------
        ndarray of uint32, shape box.shape
            0 = unlabelled.
        """
        out = np.zeros(box.shape, np.uint32)
        inside = box.overlap(self.covered)
        if inside is not None:
            out[inside.seen_from(box.start).slices] = self.table[self._fragments(inside)]
        if self.annotations is not None:
            own = self.annotations.read(box)
            out = np.where(own > 0, own.astype(np.uint32), out)
        return out

    def _fragments(self, box: Box) -> NDArray[np.uint64]:
        return self.proofreading.fragments[box.seen_from(self.covered.start).slices]

    def _numbered(self, table: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return the label of each fragment: ids that agree with the annotations."""
        segments = np.unique(table[table > 0])
        largest, overlaps = self._overlaps(table)
        label = np.zeros(len(segments), np.int64)
        for row, segment in enumerate(segments.tolist()):
            own = overlaps.get(segment, set())
            if not own:
                largest += 1
                label[row] = largest
            elif len(own) == 1:
                label[row] = own.pop()
        if label.max(initial=0) >= BOUNDARY:
            raise ProofreadError("The annotations use ids of 2**32 - 1 or more: number them anew, from 1.")
        numbers = np.zeros(len(table), np.uint32)
        known = table > 0
        numbers[known] = label[np.searchsorted(segments, table[known])]
        return numbers

    def _overlaps(self, table: NDArray[np.uint64]) -> tuple[int, dict[int, set[int]]]:
        """Return the largest id of the annotations, and for each segment the neurons that it shares voxels with."""
        overlaps: dict[int, set[int]] = {}
        largest = 0
        if self.annotations is None:
            return largest, overlaps
        for block in label_blocks(self.annotations.labels, (0, 0, 0), with_empty=self.annotations.zero_is_boundary):
            own = self.annotations.read(block)
            largest = max(largest, int(own[own != BOUNDARY].max(initial=0)))
            part = block.overlap(self.covered)
            if part is None:
                continue
            ids, segments = own[part.seen_from(block.start).slices], table[self._fragments(part)]
            both = (ids > 0) & (segments > 0) & (ids != (self.annotations.boundary_id or 0))
            for segment, neuron in np.unique(np.stack([segments[both], ids[both]], axis=1), axis=0).tolist():
                overlaps.setdefault(segment, set()).add(neuron)
        return largest, overlaps


def write_training_labels(labels: TrainingLabels, volume: Volume, out: Path) -> Generator[Event, None, int]:
    """Write labels as an OME-Zarr that `finetune --annotations` takes; all of it or nothing.

    Parameters
    ----------
    labels : TrainingLabels
        What to write.
    volume : Volume
        Says the voxel size.
    out : Path
        The folder to make.

    Returns
    -------
    int
        How many voxels are labelled.

    Raises
    ------
    ProofreadError
        If something is there already, or it cannot be written.
    """
    grid = BlockGrid(labels.shape, _BLOCK, (0, 0, 0))
    labelled = 0
    with whole_folder(out, ProofreadError) as part:
        create_labels(part, labels.shape, volume.voxel_size_nm)
        store: Any = zarr.open_array(part / "0", mode="r+")
        for block in grid:
            yield Progress(block.index, len(grid), "writing labels")
            ids = labels.read(block.core)
            if ids.any():
                store[block.core.slices] = ids
                labelled += int(np.count_nonzero(ids))
    yield Progress(len(grid), len(grid), "writing labels")
    return labelled
