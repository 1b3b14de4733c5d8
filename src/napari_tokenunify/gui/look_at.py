"""Moving the view: to a section, or to a box of voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from napari_tokenunify.gui.viewer_parts import camera_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.data import Volume
    from napari_tokenunify.geometry import Box

_PIXELS: Final = 260.0  # of the screen, that a box takes after a jump ...
_FINE: Final = (60.0, 700.0)  # ... unless it takes so many already


def shown_section(viewer: Viewer, volume: Volume) -> int:
    """Return the index of the section that the viewer stands at; it may lie outside of the volume."""
    start, size = _grid(volume)
    return round(float((viewer.dims.point[-3] - start[0]) / size[0]))


def show_section(viewer: Viewer, volume: Volume, section: int) -> None:
    """Let the viewer stand at a section; what is displayed of it stays."""
    start, size = _grid(volume)
    viewer.dims.set_point(viewer.dims.ndim - 3, start[0] + section * size[0])


def stand_at(viewer: Viewer, place: tuple[float, float, float]) -> None:
    """Bring a place (z, y, x), in the viewer's unit, into the middle of the view, as near or far as that is."""
    first = viewer.dims.ndim - 3
    displayed = [axis - first for axis in viewer.dims.displayed if axis >= first]
    hidden = [axis for axis in range(3) if axis not in displayed]
    if hidden:
        viewer.dims.set_point([first + axis for axis in hidden], [place[axis] for axis in hidden])
    camera = camera_of(viewer)
    centre = list(camera.center)
    centre[-len(displayed) :] = [place[axis] for axis in displayed]
    camera.center = tuple(centre)


def look_at(viewer: Viewer, volume: Volume, box: Box) -> None:
    """Bring a box into the middle of the view, and near enough to be seen.

    Parameters
    ----------
    viewer : Viewer
        Showing z, y, x last.
    volume : Volume
        Whose voxels the box counts.
    box : Box
        A single voxel, too, is brought near.
    """
    start, size = _grid(volume)
    middle = start + (np.add(box.start, box.stop) // 2) * size
    stand_at(viewer, (float(middle[0]), float(middle[1]), float(middle[2])))
    first = viewer.dims.ndim - 3
    displayed = [axis - first for axis in viewer.dims.displayed if axis >= first]
    camera = camera_of(viewer)
    extent = max(float(max(8, box.shape[axis]) * size[axis]) for axis in displayed)
    if not _FINE[0] <= extent * camera.zoom <= _FINE[1]:
        camera.zoom = _PIXELS / extent


def _grid(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the first voxel and the distance of voxels, in the viewer's unit, as the layers have it."""
    known = volume.voxel_size_nm is not None
    return np.array(volume.origin_nm if known else (0.0, 0.0, 0.0)), np.array(volume.voxel_size_nm or (1.0, 1.0, 1.0))
