"""Annotations: sparse labels on a volume, what is known of them, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset, known_affinities, offset_reach
from napari_tokenunify.data.annotation_files import drawing_files, read_drawing
from napari_tokenunify.data.drawn_labels import DEFAULT_PEN, DrawnLabels, Pen
from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.source import Location
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import AnnotationError, VolumeError
from napari_tokenunify.geometry import Box, Triple, VoxelSize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

# Larger than any id that segmentation tools hand out, and it still fits into int64.
BACKGROUND_ID = 2**63 - 1

_SAME_VOXEL_SIZE = 0.01  # relative: files round


@dataclass(frozen=True, eq=False)
class Annotations:
    """Lazy (z, y, x) ids: 0 is unlabelled, `boundary_id` is membrane or outside, any other number one neuron.

    Attributes
    ----------
    labels : Volume
        Where the ids are read from; of any integer type.
    boundary_id : int or None
        The id that is linked to nothing. With `zero_is_boundary` and none given, it is `BACKGROUND_ID`.
    zero_is_boundary : bool
        Read 0 as `boundary_id`: dense ground truth in which 0 means background and nothing is unlabelled.

    Raises
    ------
    AnnotationError
        If the labels are no integers, or the boundary id is not positive.
    """

    labels: Volume
    boundary_id: int | None = None
    zero_is_boundary: bool = False

    def __post_init__(self) -> None:
        """Check the labels' type, and fill in what was left out."""
        if self.labels.dtype.kind not in "ui":
            raise AnnotationError(
                f"{self.labels.uri}: labels are whole numbers, but these have the type {self.labels.dtype}: "
                "convert them to an integer type, e.g. uint32, and save them again."
            )
        if self.boundary_id is not None and self.boundary_id <= 0:
            raise AnnotationError(
                f"The boundary id {self.boundary_id} cannot be used: 0 means unlabelled and ids are positive. Where 0 "
                "is background, choose that 0 is read as boundary (zero_is_boundary)."
            )
        if self.zero_is_boundary and self.boundary_id is None:
            object.__setattr__(self, "boundary_id", BACKGROUND_ID)

    @classmethod
    def from_array(
        cls,
        labels: ArrayLike,
        voxel_size_nm: VoxelSize | None = None,
        boundary_id: int | None = None,
        zero_is_boundary: bool = False,
    ) -> Annotations:
        """Make Annotations of an array that is already open (NumPy, dask, zarr), axes z, y, x; kept, not copied.

        Raises
        ------
        AnnotationError
            If it has not three axes, or no integer type.
        """
        try:
            volume = Volume.from_array(labels, voxel_size_nm, "labels")
        except VolumeError as error:
            raise AnnotationError(str(error)) from error
        return cls(volume, boundary_id, zero_is_boundary)

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        return self.labels.shape

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """(z, y, x) in nm; None if unknown."""
        return self.labels.voxel_size_nm

    def read(self, box: Box) -> NDArray[np.uint64]:
        """Read the ids in a box that lies inside.

        Returns
        -------
        ndarray of uint64, shape box.shape

        Raises
        ------
        AnnotationError
            If there is a negative id.
        VolumeError
            If the box reaches outside, or the file is damaged there.
        """
        block = self.labels.read(box)
        if block.dtype.kind == "i" and block.size and int(block.min()) < 0:
            raise AnnotationError(
                f"{self.labels.uri}: there is the negative id {int(block.min())} in the box {box}: ids are positive; "
                "set such voxels to 0 (unlabelled) or to the boundary id first."
            )
        ids = block.astype(np.uint64)
        if self.zero_is_boundary:
            ids[ids == 0] = np.uint64(self.boundary_id or 0)
        return ids

    def known(
        self, offsets: Sequence[Offset] = DEFAULT_OFFSETS, box: Box | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return target and mask of `affinities.known_affinities` for a box (default: everything).

        A pair that crosses the border of the box counts as long as both voxels are inside the volume.

        Parameters
        ----------
        offsets : sequence of (int, int, int)
            One (z, y, x) a channel.
        box : Box, optional
            Where p of a pair (p, p + offset) lies.

        Returns
        -------
        target, mask : ndarray of bool, shape (C, Z, Y, X), the last three those of the box
            Whether the pair lies in one neuron, and whether that is known.
        """
        box = box or Box.whole(self.shape)
        ids, inner = self.read_around(box, offsets)
        target, mask = known_affinities(ids, offsets, self.boundary_id)
        return target[:, *inner.slices], mask[:, *inner.slices]

    def read_around(self, box: Box, offsets: Sequence[Offset]) -> tuple[NDArray[np.uint64], Box]:
        """Read a box with all partners of its pairs that are inside the volume.

        Returns
        -------
        ids : ndarray of uint64
            The box and what is around it.
        inner : Box
            Where the box lies in `ids`.
        """
        down, up = offset_reach(offsets)
        start = tuple(max(0, a + d) for a, d in zip(box.start, down, strict=True))
        stop = tuple(min(n, b + u) for b, u, n in zip(box.stop, up, self.shape, strict=True))
        around = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return self.read(around), box.seen_from(around.start)

    def labelled_blocks(self, offsets: Sequence[Offset] = DEFAULT_OFFSETS) -> Iterator[LabelledBlock]:
        """Go through all labels in blocks of a few million voxels, and leave out what is empty.

        Each known pair (p, p + offset) has its p in exactly one block.
        """
        down, up = offset_reach(offsets)
        reach = (max(up[0], -down[0]), max(up[1], -down[1]), max(up[2], -down[2]))
        for box in label_blocks(self.labels, reach, with_empty=self.zero_is_boundary):
            around, inner = self.read_around(box, offsets)
            labelled = _extent(around)
            if labelled is None:
                continue
            # What is left of the block: where labels are, and what has a partner there.
            to_inner = (-inner.start[0], -inner.start[1], -inner.start[2])
            part = labelled.grown(reach).shifted(to_inner).clipped(inner.shape)
            if part is None:
                continue
            wide = part.shifted(inner.start).grown(reach).clipped(around.shape) or inner
            place = part.shifted(inner.start).seen_from(wide.start)
            yield LabelledBlock(part.shifted(box.start), around[wide.slices], place)


@dataclass(frozen=True, eq=False)
class LabelledBlock:
    """A part of the labels that was read.

    Attributes
    ----------
    box : Box
        Where it lies in the volume.
    around : ndarray of uint64, shape (Z, Y, X)
        Its ids, and the neighbourhood in which the partners of its voxels lie, cut at the volume's faces.
    inner : Box
        Where the block lies in `around`.
    """

    box: Box
    around: NDArray[np.uint64]
    inner: Box

    @property
    def ids(self) -> NDArray[np.uint64]:
        """The ids of the block alone."""
        return self.around[self.inner.slices]

    @property
    def is_dense(self) -> bool:
        """Whether half of it or more is labelled, so that segments can be compared with its labels."""
        return 2 * int(np.count_nonzero(self.ids)) >= self.ids.size


def open_annotations(
    uri: str | Path,
    volume: Volume,
    boundary_id: int | None = None,
    zero_is_boundary: bool = False,
    pen: Pen = DEFAULT_PEN,
) -> Annotations:
    """Open the annotations of a volume: a label volume of any format, a CSV or SWC file, or a folder of SWC files.

    What is drawn from points and skeletons says little, but nothing wrong: voxels next to each other in one line
    are known to belong together, and lines of two neurons are known to be apart only where they touch. Nothing is
    known between the line and what is around it. `read_drawing` lists the forms of CSV.

    Parameters
    ----------
    uri : str or Path
        The labels; lazy, never written to.
    volume : Volume
        What they were made on.
    boundary_id : int, optional
        The id that stands for membrane or outside.
    zero_is_boundary : bool
        Read 0 as `boundary_id` (`BACKGROUND_ID` if none is given): for dense ground truth in which 0 is background.
    pen : Pen
        Unit and thickness of what is drawn from CSV and SWC; ignored for a label volume.

    Returns
    -------
    Annotations

    Raises
    ------
    AnnotationError
        If shape or voxel size are not the volume's, the labels are no integers, a CSV or SWC file is damaged, or
        points lie outside the volume.
    VolumeError
        If a label volume cannot be opened.
    """
    location = Location.parse(uri)
    files = () if location.is_remote or location.inner else drawing_files(location.path)
    if files:
        if zero_is_boundary:
            raise AnnotationError(f"{uri}: 0 cannot be read as boundary in a drawing: what is not drawn is not known.")
        return _draw(str(uri), files, volume, boundary_id, pen)
    labels = open_volume(uri)
    _check_fit(labels, volume)
    if labels.voxel_size_nm is None and volume.voxel_size_nm is not None:
        labels = open_volume(uri, volume.voxel_size_nm)
    return Annotations(labels, boundary_id, zero_is_boundary)


def _draw(name: str, files: tuple[Path, ...], volume: Volume, boundary_id: int | None, pen: Pen) -> Annotations:
    ball = pen.ball(volume.voxel_size_nm)
    drawing = read_drawing(files, volume, pen.unit)
    drawing.check_inside(volume.shape, name)
    labels = DrawnLabels(drawing, volume.shape, ball)
    lazy: Any = labels
    return Annotations(Volume.from_array(lazy, volume.voxel_size_nm, name), boundary_id)


def _check_fit(labels: Volume, volume: Volume) -> None:
    if labels.shape != volume.shape:
        raise AnnotationError(
            f"{labels.uri}: the labels have {_triple(labels.shape)} voxels (z, y, x), but the volume {volume.uri} has "
            f"{_triple(volume.shape)}: give the labels that were made on this volume."
        )
    ours, theirs = labels.voxel_size_nm, volume.voxel_size_nm
    if ours and theirs and not np.allclose(ours, theirs, rtol=_SAME_VOXEL_SIZE, atol=0):
        raise AnnotationError(
            f"{labels.uri}: the labels have a voxel size of {_triple(ours)} nm (z, y, x), but the volume {volume.uri} "
            f"has {_triple(theirs)} nm: give the labels that were made on this volume, or correct the wrong voxel size."
        )


def _triple(numbers: tuple[float, float, float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _extent(ids: NDArray[np.uint64]) -> Box | None:
    """Return the smallest box that holds everything but 0; None if there is nothing."""
    labelled = ids != 0
    lines = labelled.any(axis=2)
    if not lines.any():
        return None
    z, y = np.flatnonzero(lines.any(axis=1)), np.flatnonzero(lines.any(axis=0))
    x = np.flatnonzero(labelled.any(axis=(0, 1)))
    return Box((int(z[0]), int(y[0]), int(x[0])), (int(z[-1]) + 1, int(y[-1]) + 1, int(x[-1]) + 1))
