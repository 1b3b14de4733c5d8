"""Where trainings are compared: places of the annotations that no training sees, and the annotations without them.

Both are kept in the comparison's folder, so that painting on does not change what is compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

import numpy as np
import zarr

from napari_tokenunify.affinities import DEFAULT_OFFSETS, offset_reach
from napari_tokenunify.data import create_labels, open_annotations
from napari_tokenunify.data.annotations import LabelledBlock
from napari_tokenunify.errors import ConfigError, TrainError
from napari_tokenunify.geometry import Box
from napari_tokenunify.project import whole_file, whole_folder
from napari_tokenunify.train.choices import candidate_crops
from napari_tokenunify.train.holdout import HiddenAnnotations, hold_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_tokenunify.config import ComparePretrainingConfig
    from napari_tokenunify.data import Annotations, Volume
    from napari_tokenunify.geometry import Triple

_MOST_VOXELS: Final = 1 << 27  # of a place, which is held in memory


@dataclass(frozen=True)
class Kept:
    """What a comparison works on.

    Attributes
    ----------
    places : tuple of LabelledBlock
        What is scored on.
    annotations : str
        What trainings learn from.
    boundary_id : int or None
        The id in both that stands for membrane or outside.
    """

    places: tuple[LabelledBlock, ...]
    annotations: str
    boundary_id: int | None


def keep_apart(config: ComparePretrainingConfig, volume: Volume, folder: Path) -> Kept:
    """Choose the places, and write them and the annotations without them into a folder; the second time, read them.

    Raises
    ------
    AnnotationError, VolumeError
        If labels cannot be opened, or are not of this volume.
    ConfigError
        If the box lies outside the volume or is too large, or there is a truth without a box.
    TrainError
        If too little is annotated, or the folder cannot be written.
    """
    file, labels = folder / "places.npz", folder / "annotations.zarr"
    if not (file.exists() and labels.exists()):
        source = _open(config.annotations, config, volume)
        truth = source if config.truth is None else _open(config.truth, config, volume)
        boxes, learnt = _part(config, volume, source)
        _write_annotations(labels, learnt, volume)
        _write_places(
            file, [LabelledBlock(box, *truth.read_around(box, DEFAULT_OFFSETS)) for box in boxes], truth.boundary_id
        )
    kept, boundary_id = _read_places(file)
    return Kept(kept, str(labels), boundary_id)


def _open(uri: str, config: ComparePretrainingConfig, volume: Volume) -> Annotations:
    return open_annotations(uri, volume, config.boundary_id, config.zero_is_boundary)


def _part(
    config: ComparePretrainingConfig, volume: Volume, source: Annotations
) -> tuple[Sequence[Box], HiddenAnnotations]:
    """Return the boxes to score in, and what is left to learn from."""
    if config.box is None:
        if config.truth is not None:
            raise ConfigError("A truth needs the box in which it is compared: give --box, too.")
        crop = config.crop or candidate_crops(volume.voxel_size_nm, volume.shape)[0]
        found, sentence = hold_out(source, DEFAULT_OFFSETS, crop, config.test)
        if found is None:
            raise TrainError(
                f"{config.annotations}: {sentence} A comparison needs places that no training sees: annotate more, or "
                "name a labelled part with --box."
            )
        return found.boxes, found.training
    box = Box.parse(config.box)
    if box.clipped(volume.shape) != box:
        raise ConfigError(f"--box {box} reaches outside the volume of {volume.shape} voxels (z, y, x).")
    if prod(box.shape) > _MOST_VOXELS:
        raise ConfigError(f"--box {box} has {prod(box.shape):,} voxels: choose one of {_MOST_VOXELS:,} at most.")
    down, up = offset_reach(DEFAULT_OFFSETS)
    margin: Triple = (max(up[0], -down[0]), max(up[1], -down[1]), max(up[2], -down[2]))
    around = box.grown(margin).clipped(volume.shape) or box
    return [box], HiddenAnnotations(source.labels, source.boundary_id, source.zero_is_boundary, hidden=(around,))


def _write_annotations(path: Path, learnt: HiddenAnnotations, volume: Volume) -> None:
    """Copy what is labelled, block by block."""
    if path.exists():
        return
    with whole_folder(path, TrainError) as part:
        create_labels(part, volume.shape, volume.voxel_size_nm, "uint64")
        array = zarr.open_array(part / "0", mode="r+")
        for block in learnt.labelled_blocks(DEFAULT_OFFSETS):
            array[block.box.slices] = block.ids


def _write_places(path: Path, places: Sequence[LabelledBlock], boundary_id: int | None) -> None:
    boxes = [[str(place.box), str(place.inner)] for place in places]
    about = json.dumps({"boxes": boxes, "boundary_id": boundary_id})
    arrays: dict[str, Any] = {f"ids_{number}": place.around for number, place in enumerate(places)}
    with whole_file(path, TrainError) as part, part.open("wb") as file:
        np.savez_compressed(file, about=np.array(about), **arrays)


def _read_places(path: Path) -> tuple[tuple[LabelledBlock, ...], int | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            places = tuple(
                LabelledBlock(Box.parse(box), file[f"ids_{number}"], Box.parse(inner))
                for number, (box, inner) in enumerate(about["boxes"])
            )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise TrainError(f"{path}: is damaged; start a new comparison in another folder.") from error
    return places, about["boundary_id"]
