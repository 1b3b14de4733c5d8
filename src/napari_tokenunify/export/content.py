"""Content: what is written, block by block, wherever it comes from: voxels, where they lie, how they were made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import ConfigError, ExportError
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment.blocks.grid import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.segment.fragment_store import Index
    from napari_tokenunify.segment.segmentation import Segmentation

KEY: Final = "tokenunify"  # the attribute in which an export says how it was made
_BLOCK: Final = (32, 512, 512)
_SPEC: Final = ("method", "fragments", "fragments_hash", "edits", "offsets", "sources", "settings", "versions")


@dataclass(frozen=True, eq=False)
class Content:
    """A lazy array (z, y, x), and what a file should say about it.

    Attributes
    ----------
    volume : Volume
        The voxels.
    is_labels : bool
        Whether they are ids; else intensities.
    box : Box
        The part that is written, in voxels of the volume.
    dtype : numpy.dtype
        As what they are written; holds every value.
    name : str
        For people.
    origin : tuple of int
        Where the first voxel of `volume` lies, (z, y, x) in voxels, beside what `volume.origin_nm` says.
    facts : dict
        How it was made, plain values.
    """

    volume: Volume
    is_labels: bool
    box: Box
    dtype: np.dtype[Any]
    name: str
    origin: Triple = (0, 0, 0)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_array(
        cls, array: ArrayLike, *, is_labels: bool, voxel_size_nm: VoxelSize | None = None, name: str = "array"
    ) -> Content:
        """Make one of any array with the axes z, y, x: NumPy, dask, zarr, a SegmentView.

        Parameters
        ----------
        array : array-like, shape (Z, Y, X)
            Read block by block.
        is_labels : bool
            Whether it holds ids.
        voxel_size_nm : tuple of float, optional
            (z, y, x) in nm.
        name : str
            For people.

        Raises
        ------
        VolumeError
            If it has not three axes, or a data type that is no intensity and no label.
        """
        volume = Volume.from_array(array, voxel_size_nm, name)
        return cls(volume, is_labels, Box.whole(volume.shape), volume.dtype, name)

    @property
    def shape(self) -> Triple:
        """Extent in voxels, (z, y, x)."""
        return self.box.shape

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """(z, y, x) in nm; None if unknown."""
        return self.volume.voxel_size_nm

    @property
    def start(self) -> VoxelSize:
        """Corner of the first voxel that is written, (z, y, x): in nm, or in voxels if the voxel size is unknown."""
        size = self.voxel_size_nm or (1.0, 1.0, 1.0)
        first = self.volume.origin_nm if self.voxel_size_nm else (0.0, 0.0, 0.0)
        z, y, x = (f + (a + b) * s for f, a, b, s in zip(first, self.origin, self.box.start, size, strict=True))
        return z, y, x

    @property
    def provenance(self) -> dict[str, Any]:
        """What the file says of how it was made."""
        z, y, x = self.box.start
        return {
            **provenance_of("labels" if self.is_labels else "image", self.name, self.voxel_size_nm),
            "first_voxel": [a + b for a, b in zip(self.origin, (z, y, x), strict=True)],
            **self.facts,
        }

    def grid(self) -> BlockGrid:
        """Return the blocks in which it is read; one takes 64 MB at most."""
        return BlockGrid(self.shape, _BLOCK, (0, 0, 0))

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box, in voxels of what is written, as `dtype`.

        Raises
        ------
        SegmentError, VolumeError
            If what it comes from is damaged there.
        """
        return self.volume.read(box.shifted(self.box.start)).astype(self.dtype, copy=False)

    def fingerprint(self) -> str | None:
        """Return a text that is another one if what is written is; None where that cannot be known."""
        return None

    def as_type(self, dtype: np.dtype[Any]) -> Content:
        """Return the same, written as another type."""
        return replace(self, dtype=dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Segments(Content):
    """The segments of a Segmentation.

    Attributes
    ----------
    segmentation : Segmentation
        What they are segments of.
    table : ndarray of uint64, shape (nodes + 1,)
        Segment of each fragment.
    written : ndarray of bool
        By id: whether the segment was met while reading.
    """

    segmentation: Segmentation
    table: NDArray[np.uint64]
    written: NDArray[np.bool_]

    @classmethod
    def of(cls, segmentation: Segmentation, threshold: float | None = None, box: Box | None = None) -> Segments:
        """Take the segments at a threshold, all of them or those in a box.

        Parameters
        ----------
        segmentation : Segmentation
            Its fragments are read block by block.
        threshold : float, optional
            0..1; by default the segments as they were agglomerated.
        box : Box, optional
            In voxels of the segmentation.

        Raises
        ------
        SegmentError
            If the method has no threshold that can be moved.
        ConfigError
            If the box reaches outside.
        """
        box = box or Box.whole(segmentation.shape)
        if box.clipped(segmentation.shape) != box:
            raise ConfigError(f"The box {box} reaches outside the segmentation, {Box.whole(segmentation.shape)}.")
        table = segmentation.table if threshold is None else segmentation.at(threshold)
        largest = int(table.max())
        written = np.zeros(largest + 1, bool)
        volume = _volume_of(segmentation, table, written)
        spec = segmentation.spec
        facts: dict[str, Any] = {
            "segmentation": str(segmentation.folder.absolute()),
            "threshold": spec.get("value") if threshold is None else threshold,
            **{name: spec[name] for name in _SPEC if name in spec},
        }
        return cls(
            volume,
            True,
            box,
            np.dtype(np.uint32 if largest < 2**32 else np.uint64),  # smaller ones are taken for images elsewhere
            "segments",
            segmentation.origin,
            facts,
            segmentation=segmentation,
            table=table,
            written=written,
        )

    def only(self, ids: Sequence[int]) -> Segments:
        """Return the same with these segments alone; all else is 0.

        Raises
        ------
        ExportError
            If one of them is not there.
        """
        wanted = np.unique(np.array(ids, np.uint64))
        missing = np.setdiff1d(wanted, self.table)
        if len(missing) or 0 in wanted:
            raise ExportError(
                f"There is no segment {missing[0] if len(missing) else 0} at this threshold: name those that are there."
            )
        table = np.where(np.isin(self.table, wanted), self.table, np.uint64(0))
        return self._seen_through(table, {"segments": wanted.tolist()})

    def fragments(self) -> Segments:
        """Return the fragments of the segments that are written, each as a segment of its own."""
        table = np.where(self.table > 0, np.arange(len(self.table), dtype=np.uint64), np.uint64(0))
        return self._seen_through(table, {"voxels": "fragments"})

    def _seen_through(self, table: NDArray[np.uint64], facts: dict[str, Any]) -> Segments:
        largest = int(table.max())
        written = np.zeros(largest + 1, bool)
        return replace(
            self,
            volume=_volume_of(self.segmentation, table, written),
            dtype=np.dtype(np.uint32 if largest < 2**32 else np.uint64),
            table=table,
            written=written,
            facts={**self.facts, **facts},
        )

    def fingerprint(self) -> str | None:
        """Return a text that is another one if anything is that decides what is written."""
        about = {**self.provenance, "written_at": None, "box": str(self.box), "dtype": str(self.dtype)}
        text = json.dumps(about, sort_keys=True, default=str).encode()
        return hashlib.sha256(text + np.ascontiguousarray(self.table).tobytes()).hexdigest()

    @property
    def count(self) -> int:
        """How many segments were met while reading."""
        return int(np.count_nonzero(self.written[1:]))


def provenance_of(kind: str, name: str, voxel_size_nm: VoxelSize | None) -> dict[str, Any]:
    """Return what every export says of itself: what it is, by which version it was written, when."""
    return {
        "kind": kind,
        "written_by": f"napari-tokenunify {metadata.version('napari-tokenunify')}",
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": name,
        "voxel_size_nm": None if voxel_size_nm is None else list(voxel_size_nm),
    }


def _volume_of(segmentation: Segmentation, table: NDArray[np.uint64], written: NDArray[np.bool_]) -> Volume:
    """Return segments as a volume, where the volume lies that they were made of."""
    lazy: Any = _Noted(segmentation, table, written)
    volume = Volume.from_array(lazy, segmentation.voxel_size_nm, str(segmentation.folder))
    return replace(volume, origin_nm=segmentation.origin_nm)


class _Noted:
    """A lazy array (z, y, x) of segments that notes which it has read."""

    dtype = np.dtype(np.uint64)

    def __init__(self, segmentation: Segmentation, table: NDArray[np.uint64], written: NDArray[np.bool_]) -> None:
        self._fragments, self._table, self._written = segmentation.fragments, table, written
        self.shape, self.chunks = segmentation.shape, segmentation.fragments.chunks

    def __getitem__(self, index: Index) -> NDArray[np.uint64]:
        segments = self._fragments.read(index, self._table)
        self._written[segments] = True
        return segments
