"""What has been predicted in a project, and what another prediction would replace."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.geometry import Box, voxel_size_mismatch
from napari_tokenunify.network.card import read_card
from napari_tokenunify.network.installed import find_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.config import PredictConfig
    from napari_tokenunify.data import Volume


def would_replace(config: PredictConfig, volume: Callable[[], Volume]) -> bool:
    """Whether there are affinities of another network, box or volume where a prediction would write.

    Parameters
    ----------
    config : PredictConfig
        Of the prediction.
    volume : callable
        Opens what it would be of.
    """
    from napari_tokenunify.segment import open_affinities

    path = Path(config.out)
    if not path.exists():
        return False
    try:
        there = open_affinities(path).settings
        card, opened = read_card(find_model(config.model)), volume()
    except TokenUnifyError:  # damaged, or no network: what is wrong is said when the job starts
        return True
    own, trained = opened.voxel_size_nm, card.voxel_size_nm
    is_resampled = config.resample and own and trained and voxel_size_mismatch(own, trained)
    wanted = {
        "volume": opened.uri,
        "box": config.box or str(Box.whole(opened.shape)),
        "weights_sha256": card.weights_sha256,
        "network_voxel_size_nm": list(trained or ()) if is_resampled else None,
    }
    return any(there.get(name) != value for name, value in wanted.items())


def larger_box(config: PredictConfig, volume: Volume) -> Box | None:
    """Return the box of the affinities that a prediction would replace, where that is larger than its own.

    Parameters
    ----------
    config : PredictConfig
        Of the prediction.
    volume : Volume
        What it would be of.
    """
    from napari_tokenunify.segment import open_affinities

    if not config.overwrite:
        return None
    try:
        there = Box.parse(str(open_affinities(Path(config.out)).settings.get("box", "")))
        own = Box.parse(config.box) if config.box else Box.whole(volume.shape)
    except TokenUnifyError:  # damaged, or from elsewhere: of no use to her
        return None
    return there if math.prod(there.shape) > math.prod(own.shape) else None


def whole_affinities(path: Path, volume: Callable[[], Volume]) -> str | None:
    """Return the address of affinities if they are complete and of the whole volume, else None.

    Parameters
    ----------
    path : Path
        Where they may lie.
    volume : callable
        Opens the volume.
    """
    from napari_tokenunify.segment import open_affinities

    if not path.exists():
        return None
    try:
        store = open_affinities(path)
        return str(path) if store.complete and store.shape == volume().shape else None
    except TokenUnifyError:  # damaged, or from elsewhere
        return None
