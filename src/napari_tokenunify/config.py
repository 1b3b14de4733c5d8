"""Config: the one place where a setting is named, limited and explained.

The command line's flags, the forms of the plugin and the saved YAML are all made from these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_settings import CliPositionalArg

from napari_tokenunify.geometry import Box, parse_voxel_size


class Config(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again (pydantic's own copy is not)."""
        return type(self).model_validate({**self.model_dump(), **changes})


def _is_voxel_size(text: str) -> str:
    parse_voxel_size(text)
    return text


def _is_box(text: str) -> str:
    Box.parse(text)
    return text


VoxelSizeText = Annotated[str, AfterValidator(_is_voxel_size)]
BoxText = Annotated[str, AfterValidator(_is_box)]


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


class DemoConfig(Config):
    """Run the main job on the bundled sample, or on your own volume, and show or write the result."""

    volume: str | None = None
    """Your own volume instead of the bundled sample."""
    annotations: str | None = None
    """Labels that go with it; 0 = unlabelled."""
    out: str = "demo.tokenunify"
    """Folder for the results; made if missing."""
    headless: bool = False
    """Write results and pictures, and open no window."""
