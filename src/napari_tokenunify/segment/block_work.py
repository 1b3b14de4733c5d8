"""What the work on every block needs to know, and where a block keeps what the next passes need."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from imagecodecs import blosc_decode, blosc_encode

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment.blocks.run import WORK

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.config import FragmentsConfig
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Box, Triple
    from napari_tokenunify.segment.affinity_store import AffinityStore
    from napari_tokenunify.segment.blocks.grid import Block, BlockGrid
    from napari_tokenunify.segment.label_affinities import LabelAffinities


@dataclass(frozen=True, eq=False)
class PlacedVolume:
    """A volume, and its voxel (z, y, x) that the first voxel of the segmentation is."""

    volume: Volume
    start: Triple

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box in voxels of the segmentation."""
        return self.volume.read(box.shifted(self.start))


@dataclass(frozen=True, eq=False)
class BlockWork:
    """What the work on every block needs to know; crosses to other processes, where the files are opened again.

    Attributes
    ----------
    folder : Path
        The segmentation that is being made; what is needed for a while lies in its folder `work`.
    affinities : AffinityStore or LabelAffinities
        What is cut.
    start : tuple of int
        The voxel (z, y, x) of the affinities that the first voxel of the segmentation is.
    grid : BlockGrid
        The blocks, in voxels of the segmentation.
    config : FragmentsConfig
        How affinities are cut.
    mask : PlacedVolume, optional
        Nothing is segmented where it is 0.
    labels : PlacedVolume, optional
        What a threshold is tuned on, or segments that are imported.
    """

    folder: Path
    affinities: AffinityStore | LabelAffinities
    start: Triple
    grid: BlockGrid
    config: FragmentsConfig
    mask: PlacedVolume | None = None
    labels: PlacedVolume | None = None

    def save(self, kind: str, block: Block, array: NDArray[Any]) -> None:
        """Keep a small array of a block; whole or not at all."""
        save(self._place(kind, block).with_suffix(".npy"), array)

    def load(self, kind: str, block: Block) -> NDArray[Any]:
        """Return what `save` kept."""
        array: NDArray[Any] = np.load(self._place(kind, block).with_suffix(".npy"), allow_pickle=False)
        return array

    def save_arrays(self, kind: str, block: Block, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep several arrays of a block; whole or not at all."""
        path = self._place(kind, block).with_suffix(".npz")
        with whole_file(path, SegmentError) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load_arrays(self, kind: str, block: Block) -> dict[str, NDArray[Any]]:
        """Return what `save_arrays` kept."""
        with np.load(self._place(kind, block).with_suffix(".npz"), allow_pickle=False) as arrays:
            return dict(arrays)

    def save_voxels(self, kind: str, block: Block, voxels: NDArray[Any]) -> None:
        """Keep the ids of all voxels of a block, packed section by section; whole or not at all.

        A file of our own, as zarr spends most of the time of the passes that read it.
        """
        packed = [blosc_encode(section, level=5, compressor="lz4", typesize=voxels.itemsize) for section in voxels]
        ends = np.cumsum([0, *map(len, packed)])
        with whole_file(self._place(kind, block).with_suffix(".ids"), SegmentError) as part, part.open("wb") as file:
            np.save(file, ends)
            file.writelines(packed)

    def load_voxels(self, kind: str, block: Block, outer: Box, box: Box, dtype: type[np.generic]) -> NDArray[Any]:
        """Return a box, in voxels of the volume, of the array over the box `outer` that `save_voxels` kept."""
        sections, *rest = box.seen_from(outer.start).slices
        voxels = np.empty(box.shape, dtype)
        section = np.empty(outer.shape[1:], dtype)
        with self._place(kind, block).with_suffix(".ids").open("rb") as file:
            ends = np.load(file, allow_pickle=False)
            file.seek(int(ends[sections.start]), os.SEEK_CUR)
            for place, number in enumerate(range(sections.start, sections.stop)):
                packed = file.read(int(ends[number + 1] - ends[number]))
                blosc_decode(packed, numthreads=1, out=section.reshape(-1).view(np.uint8).data)
                voxels[place] = section[tuple(rest)]
        return voxels

    def _place(self, kind: str, block: Block) -> Path:
        folder = self.folder / WORK / kind
        folder.mkdir(exist_ok=True)
        return folder / str(block.index)


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array; whole or not at all."""
    with whole_file(path, SegmentError) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
