"""Looking at a volume."""

from __future__ import annotations

from pydantic_settings import CliPositionalArg

from napari_tokenunify.config.base import Config, VoxelSizeText


class VolumeConfig(Config):
    """What every verb that reads a volume has to know."""

    uri: CliPositionalArg[str]
    """The volume: a path, path::inner for a dataset inside a file, path::c=0 for one channel, or an address."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm, e.g. 40,4,4; overrides what the file says."""


class InfoConfig(VolumeConfig):
    """Show shape, data type, voxel size, chunks and levels of a volume, and a checksum of its middle."""


class CheckConfig(VolumeConfig):
    """Look for what spoils a segmentation: blank, doubled or shifted sections, contrast jumps, inversion."""
