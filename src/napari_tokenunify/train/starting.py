"""How a training starts: what it settled on before if it goes on, room on the disk, and outputs that fit the task."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import TrainError
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.tokenunify import TokenUnify, build_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.project import RunPaths

_STATE_ON_DISK: Final = 4  # times the weights: one state, as a new one is written beside the last
_STATES_ON_DISK: Final = 12  # times the weights: two states of weights, averages and two moments, two models, previews


def with_new_outputs(network: TokenUnify, offsets: Sequence[Offset], *, new_decoder: bool = False) -> TokenUnify:
    """Return the network with other outputs, and random weights where they are made.

    Parameters
    ----------
    network : TokenUnify
        Is left as it is.
    offsets : sequence of (int, int, int)
        What is to be predicted, one (z, y, x) an output.
    new_decoder : bool
        Take the encoder alone; the decoder has random weights too.
    """
    fresh = build_network(network.config.replace(offsets=tuple(offsets)))
    own = fresh.state_dict()
    left = ("out.", "decoder") if new_decoder else ()
    kept = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if own[name].shape == tensor.shape and not name.startswith(left)
    }
    fresh.load_state_dict({**own, **kept})
    return fresh


def measured_intensity(volume: Volume, intensity: IntensityRange, crop: Triple) -> dict[str, float]:
    """Return the range, and mean and deviation of the normalised voxels of a crop in the middle."""
    middle = [max(0, (n - size) // 2) for n, size in zip(volume.shape, crop, strict=True)]
    stop = [min(n, start + size) for n, start, size in zip(volume.shape, middle, crop, strict=True)]
    voxels = intensity.normalise(volume.read(Box((middle[0], middle[1], middle[2]), (stop[0], stop[1], stop[2]))))
    mean, deviation = float(voxels.mean()), float(voxels.std())
    return {"low": intensity.low, "high": intensity.high, "mean": mean, "deviation": deviation}


def check_disk(paths: RunPaths, network: nn.Module) -> None:
    """Refuse to start where the checkpoints of the run would not fit; those that are there take no more room."""
    folder = paths.folder
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    files = [path for path in folder.rglob("*.safetensors") if path.is_file()] if folder.exists() else []
    taken = sum(path.stat().st_size for path in files)
    needed = max(_STATE_ON_DISK * weights, _STATES_ON_DISK * weights - taken) + (1 << 20)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise TrainError(
            f"{folder}: the disk has {free / 1e6:,.0f} MB left, and the checkpoints need about {needed / 1e6:,.0f} MB: "
            "make room, or choose an --out on another disk."
        )


def settings_of(paths: RunPaths, run_id: str) -> dict[str, Any] | None:
    """Return what the run in the folder settled on; None if there is none to go on with."""
    if not paths.state.exists() and not paths.previous_state.exists():
        return None
    try:
        settings: dict[str, Any] = json.loads(paths.settings.read_text())
    except (OSError, ValueError) as error:
        raise TrainError(f"{paths.settings}: cannot be read; start a new run in another folder.") from error
    if settings.get("run") != run_id:
        raise TrainError(
            f"{paths.folder}: holds a run with other settings, data or starting weights; choose another --out."
        )
    return settings
