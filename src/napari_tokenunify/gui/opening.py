"""What is opened for the step Data, in a thread: large archives are unpacked, and disks may be far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import TokenUnifyError, VolumeError
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.gui.kept_layers import keep_array, keep_image
from napari_tokenunify.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.data import Volume


@dataclass(frozen=True, eq=False)
class NewProject:
    """What a project is to be made of.

    Attributes
    ----------
    layer : str
        Whose image it is.
    folder : Path
        Where it is to be.
    voxel_size : str or None
        z,y,x in nm, where the file does not say it.
    first_voxel : tuple of float
        Where the viewer has the first voxel (z, y, x), in voxels; kept with an image that lies in no file.
    """

    layer: str
    folder: Path
    voxel_size: str | None
    first_voxel: tuple[float, float, float] = (0.0, 0.0, 0.0)


def open_image(new: NewProject, address: str | None, array: NDArray[Any] | None) -> tuple[NewProject, str, Volume]:
    """Open the image of a project that is to be made; what no file of ours holds is kept in it first.

    Parameters
    ----------
    new : NewProject
        Handed back.
    address : str or None
        Where it lies, if that is known.
    array : ndarray or None
        Its voxels, if they are in memory.

    Returns
    -------
    tuple
        `new`, where the image lies, and the volume.

    Raises
    ------
    VolumeError
        If it cannot be opened, and is not in memory.
    ProjectError
        If it cannot be kept.
    """
    size = parse_voxel_size(new.voxel_size) if new.voxel_size else None
    if address is not None:
        try:
            return new, address, open_volume(address, size)
        except VolumeError:
            if array is None:
                raise
    if array is None:
        raise VolumeError(new.layer, "lies in no file and not in memory: save it, and open the file")
    if size is None or not any(new.first_voxel):
        kept = keep_array(array, new.folder / "image.npy")
    else:
        z, y, x = (first * step for first, step in zip(new.first_voxel, size, strict=True))
        kept = keep_image(array, new.folder / "image.zarr", size, (z, y, x))
    return new, kept, open_volume(kept, size)


def open_volume_of(folder: Path) -> tuple[Path, Volume | None]:
    """Open the volume of a project, where both can be opened; if not, the session says why.

    Returns
    -------
    tuple
        The project's folder, and the volume or None.
    """
    try:
        state = Project(folder).state
        return folder, open_volume(state.volume, parse_voxel_size(state.voxel_size) if state.voxel_size else None)
    except TokenUnifyError:
        return folder, None
