"""What is opened for the step Data, in a thread: large archives are unpacked, and disks may be far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import TokenUnifyError, VolumeError
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.gui.kept_layers import keep_array
from napari_tokenunify.project import Project, kept_in

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
    """

    layer: str
    folder: Path
    voxel_size: str | None


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
    kept = keep_array(array, kept_in(new.folder, "image.npy"))
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
