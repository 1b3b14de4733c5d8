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


class ModelsListConfig(Config):
    """List the models that have a name: those that are here, and the official ones that can be had."""

    online: bool = False
    """Ask the hub for sizes and licences of the official ones; needs a connection."""


class ModelsInfoConfig(Config):
    """Show all that is known of a model: its network, voxel size, licence, training and origin."""

    model: CliPositionalArg[str]
    """A name, or a path to weights or to the folder of a training run."""


class ModelsGetConfig(Config):
    """Download a model and keep it under its name; shows licence and size first, and goes on where it was cut off."""

    name: CliPositionalArg[str]
    """One of those that `models list` shows, or any name together with --file."""
    yes: bool = False
    """Agree to the licence and download; without it, nothing is."""
    repository: str = "cyd0806/TokenUnify"
    """Repository of the Hugging Face hub, OWNER/NAME."""
    file: str | None = None
    """Path of the weights in the repository; by default the one that has the name in its path."""


class ModelsImportConfig(Config):
    """Take weights from a file under a name: a .pth of any TokenUnify training, or a checkpoint of this package."""

    path: CliPositionalArg[str]
    """The file, or the folder of a checkpoint or a training run. Nothing in it is executed."""
    name: str
    """What to call it."""
    licence: str | None = None
    """What may be done with the weights, best as an SPDX identifier, e.g. CC-BY-4.0."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm that the weights were trained at."""
    offsets: str | None = None
    """What the outputs stand for; needed if there are neither one nor three: --offsets="-1,0,0 0,-1,0"."""
    partial: bool = False
    """Take the weights even if less than 90 % of the network's tensors are in the file; the others are random."""


class DoctorConfig(Config):
    """Look at Python, packages, Qt, OpenGL, GPU, scan kernels, memory, disk and weights, and say what to mend."""
