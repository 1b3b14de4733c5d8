"""PNG pictures of a volume, plain and with labels over it: what a viewer would show, for machines without a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imageio.v3 as imageio
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.data import Volume
    from napari_tokenunify.geometry import Box

WINDOW = 1024  # largest extent in voxels; only this much is read
OVERLAY = 0.4  # share of the label's colour in a labelled pixel


def save_pictures(volume: Volume, over: Mapping[str, Volume], folder: Path) -> list[Path]:
    """Write the middle of the xy and of the xz plane as PNG, 1024 voxels at most, and both again with ids over them.

    Parameters
    ----------
    volume : Volume
        Intensities.
    over : mapping of str to Volume
        Ids of the same shape, by a name for the pictures; 0 is shown without colour.
    folder : Path
        Where the pictures go; made if missing.

    Returns
    -------
    list of Path
        `xy.png`, `xz.png` and for each name `xy_NAME.png`, `xz_NAME.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plane, shape in (("xy", (1, WINDOW, WINDOW)), ("xz", (WINDOW, 1, WINDOW))):
        box = volume.centre_box(shape)
        grey = _grey(_plane(volume, box))
        written.append(_save(folder / f"{plane}.png", np.repeat(grey[..., None], 3, axis=2)))
        for name, ids in over.items():
            written.append(_save(folder / f"{plane}_{name}.png", _overlay(grey, _plane(ids, box))))
    return written


def _plane(volume: Volume, box: Box) -> NDArray[Any]:
    """Read a box one voxel thick as an image, its rows stretched to square pixels."""
    block = volume.read(box)
    image: NDArray[Any] = block[0] if block.shape[0] == 1 else block[:, 0]
    if block.shape[0] == 1 or volume.voxel_size_nm is None:
        return image
    z, _, x = volume.voxel_size_nm
    return np.repeat(image, max(1, round(z / x)), axis=0)


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    grey: NDArray[np.uint8] = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return grey


def _overlay(grey: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Blend a colour for each id over the image; the same id has the same colour in every picture."""
    hashed = (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    colour = np.stack([(hashed >> np.uint64(shift)) & np.uint64(255) for shift in (0, 8, 16)], axis=-1)
    share = np.where(ids[..., None] > 0, OVERLAY, 0.0)
    blended: NDArray[np.uint8] = (grey[..., None] * (1 - share) + colour * share).astype(np.uint8)
    return blended


def _save(path: Path, image: NDArray[np.uint8]) -> Path:
    imageio.imwrite(path, image)
    return path
