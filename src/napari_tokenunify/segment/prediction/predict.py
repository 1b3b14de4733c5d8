"""The stage `predict`: a volume and a model in, affinities out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import torch

from napari_tokenunify.data.intensity import IntensityRange, choose_intensity
from napari_tokenunify.data.resampled import Resampling
from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.errors import ModelError, SegmentError
from napari_tokenunify.events import Message
from napari_tokenunify.geometry import Box, parse_voxel_size, voxel_size_mismatch
from napari_tokenunify.network.card import package_versions
from napari_tokenunify.network.checkpoint import load_checkpoint
from napari_tokenunify.network.device import choose_device, choose_precision
from napari_tokenunify.network.heap import keep_freed_memory
from napari_tokenunify.network.installed import find_model
from napari_tokenunify.segment.affinity_store import open_affinities
from napari_tokenunify.segment.prediction.memory import default_tile, fit_tile
from napari_tokenunify.segment.prediction.tile_run import Prediction, predict_volume

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import PredictConfig
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.network.card import ModelCard


def predict(config: PredictConfig) -> Generator[Event, None, dict[str, Any]]:
    """Predict the affinities of a volume, or what is missing of them.

    Returns
    -------
    dict
        `out`, `seconds`, `voxels_per_second` (of the result), `tiles` (how many were run), `failed`,
        `peak_memory_mb`, `complete`.

    Raises
    ------
    SegmentError
        If tiles have failed, the disk is full, memory does not suffice, or something else is at `out`.
    ModelError
        If the model cannot be had, or was only pre-trained.
    VolumeError
        If the volume cannot be opened.
    ConfigError
        If settings do not fit each other or this machine.
    """
    keep_freed_memory()
    volume = open_volume(config.volume, parse_voxel_size(config.voxel_size) if config.voxel_size else None)
    device = choose_device(config.device)
    network, card = load_checkpoint(find_model(config.model))
    if card.network.is_pretrained:
        raise ModelError(f"{config.model}: was only pre-trained and gives no affinities yet; fine-tune it first.")
    before = {} if config.overwrite else _settings_before(config.out)
    intensity, sentence = _intensity(volume, card, before)
    yield Message(sentence)
    different = voxel_size_mismatch(volume.voxel_size_nm, card.voxel_size_nm)
    resample_to = card.voxel_size_nm if config.resample and different and volume.voxel_size_nm else None
    if different is not None:
        yield Message(_say_mismatch(different, resample_to, volume, card), "warning")
    how = Prediction(
        card.network.offsets,
        intensity,
        _tile(config, card, volume, resample_to, before),
        config.overlap,
        Box.parse(config.box) if config.box else None,
        config.start_at,
        config.tta,
        config.dtype,
        choose_precision(before.get("precision", "auto") if config.precision == "auto" else config.precision, device),
        device.type,
        network_voxel_size_nm=resample_to,
        about={"model": card.name, "weights_sha256": card.weights_sha256, "versions": package_versions()},
    )
    network.eval().to(device)
    return (yield from predict_volume(volume, network, config.out, how, overwrite=config.overwrite))


def _intensity(volume: Volume, card: ModelCard, before: dict[str, Any]) -> tuple[IntensityRange, str]:
    """Return the range of the run that is gone on with, or one that suits network and volume, and say which."""
    if "intensity" in before:
        low, high = before["intensity"]
        return IntensityRange(low, high), f"Grey values {low:g} to {high:g} become 0 to 1, as in the run before."
    known = card.intensity
    return choose_intensity(volume, None if known is None else IntensityRange(known.low, known.high))


def _tile(
    config: PredictConfig, card: ModelCard, volume: Volume, resample_to: VoxelSize | None, before: dict[str, Any]
) -> Triple:
    """Return the tile in voxels of the volume: the user's, that of the run before, or one that suits and fits."""
    if config.tile is not None:
        return config.tile
    if "tile" in before:
        z, y, x = before["tile"]
        return z, y, x
    tile = default_tile(card)
    if config.device in {"auto", "cpu"} and not torch.cuda.is_available():
        tile = fit_tile(tile, card.network, psutil.virtual_memory().available)
    if resample_to is None or volume.voxel_size_nm is None:
        return tile
    return Resampling(resample_to, volume.voxel_size_nm).shape(tile)


def _settings_before(out: str) -> dict[str, Any]:
    """Return the settings of affinities that are at `out`, so that what the user leaves open stays as it was."""
    path = Path(out).expanduser()
    if not path.exists():
        return {}
    try:
        return open_affinities(path).settings
    except SegmentError as error:
        raise SegmentError(f"{path}: is there already, and holds no affinities; choose another --out.") from error


def _say_mismatch(different: str, resample_to: VoxelSize | None, volume: Volume, card: ModelCard) -> str:
    if volume.voxel_size_nm is None or card.voxel_size_nm is None:
        return different
    if resample_to is None:
        return f"{different}: the result may be poor; without --no-resample it is shown to the network at that size."
    return f"{different}, so tiles are resampled to that and back."
