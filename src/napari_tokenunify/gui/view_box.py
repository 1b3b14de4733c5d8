"""What of a volume can be seen in a viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.viewer_parts import camera_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.data import Volume
    from napari_tokenunify.geometry import Triple


def middle_of(viewer: Viewer) -> tuple[float, float, float]:
    """Return the place (z, y, x) in the middle of what is on the screen, in the viewer's unit."""
    centre = list(viewer.dims.point[-3:])
    displayed = [axis - (viewer.dims.ndim - 3) for axis in viewer.dims.displayed]
    camera = camera_of(viewer)
    for axis, place in zip(displayed, camera.center[-len(displayed) :], strict=True):
        if 0 <= axis < 3:
            centre[axis] = place
    z, y, x = map(float, centre)
    return z, y, x


def visible_box(viewer: Viewer, volume: Volume, most: Triple) -> Box | None:
    """Return the box of a volume around the middle of what is on the screen.

    Parameters
    ----------
    viewer : Viewer
        Showing z, y, x last, in nm, or in voxels where the voxel size is unknown.
    volume : Volume
        The volume.
    most : tuple of int
        Voxels (z, y, x) that the box has at most.

    Returns
    -------
    Box or None
        Inside the volume; None if what is shown lies outside it, or is flat.
    """
    if viewer.dims.ndim < 3:
        return None
    size = np.array(volume.voxel_size_nm or (1.0, 1.0, 1.0))
    start = np.array(volume.origin_nm if volume.voxel_size_nm else (0.0, 0.0, 0.0))
    centre = np.array(middle_of(viewer))
    middle = np.floor((centre - start) / size).astype(int)
    if ((middle < 0) | (middle >= volume.shape)).any():
        return None
    low = [int(max(0, min(m - n // 2, extent - n))) for m, n, extent in zip(middle, most, volume.shape, strict=True)]
    high = [int(min(extent, a + n)) for a, n, extent in zip(low, most, volume.shape, strict=True)]
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
