"""How good a trained network is at places that it has never seen."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.config import PredictConfig
from napari_tokenunify.events import Progress
from napari_tokenunify.segment import crop_scores, open_affinities, predict
from napari_tokenunify.train.place_scores import PlaceScores

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_tokenunify.config import ComparePretrainingConfig
    from napari_tokenunify.data import Volume
    from napari_tokenunify.data.annotations import LabelledBlock
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Box
    from napari_tokenunify.helped.places import Kept

SCORES: Final = {
    "validation_loss": "loss",
    "affinity_f1": "affinity F1",
    "voi": "VOI",
    "voi_split": "VOI split",
    "voi_merge": "VOI merge",
    "adapted_rand_error": "adapted Rand error",
}
"""What is measured, and what people call it; those of segments only where places are densely labelled."""
_SEEN: Final = (8, 48, 48)  # voxels (z, y, x) around a place that the network sees, too


def scores_of(
    model: str, config: ComparePretrainingConfig, volume: Volume, kept: Kept, work: Path
) -> Generator[Event, None, dict[str, float]]:
    """Predict all places, cut them into segments, and compare with what is true there.

    Parameters
    ----------
    model : str
        Its weights.
    config : ComparePretrainingConfig
        How to predict.
    volume : Volume
        The image.
    kept : Kept
        What is true, and where.
    work : Path
        Where affinities lie in the meantime.

    Returns
    -------
    dict of str to float
        By the names of `SCORES`: of affinities over all places, of segments the mean over those that are densely
        labelled, each at its best threshold (see `segment.crop_scores`).
    """
    scores = PlaceScores(kept.boundary_id, config.widen_borders, crop_scores, volume.voxel_size_nm)
    for number, place in enumerate(kept.places):
        seen = place.box.grown(_SEEN).clipped(volume.shape) or place.box
        out = work / f"place-{number}.zarr"
        prediction = PredictConfig(
            volume=config.volume,
            voxel_size=config.voxel_size,
            model=model,
            box=str(seen),
            out=str(out),
            dtype="float16",
            precision=config.precision,
            device=config.device,
            overwrite=True,
        )
        yield from _in_turn(predict(prediction), number, len(kept.places))
        affinities, offsets = _inside(out, place, seen)
        scores.add(affinities, place, offsets)
        shutil.rmtree(out, ignore_errors=True)
    found = scores.values()
    return {name: found[name] for name in SCORES if name in found}


def _in_turn(stage: Generator[Event, None, Any], number: int, of: int) -> Generator[Event, None, None]:
    """Pass on how far a prediction is, as one of several."""
    with closing(stage):
        for event in stage:
            if isinstance(event, Progress):
                yield Progress(number * event.total + event.done, of * event.total, event.what)


def _inside(path: Path, place: LabelledBlock, seen: Box) -> tuple[NDArray[np.float32], Sequence[Any]]:
    store = open_affinities(path)
    return store.read(place.box.seen_from(seen.start)), store.offsets
