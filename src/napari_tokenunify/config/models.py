"""Weights that have a name, and the machine they run on."""

from __future__ import annotations

from pydantic_settings import CliPositionalArg

from napari_tokenunify.config.base import Config, VoxelSizeText


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


class ModelsExportConfig(Config):
    """Write a model for other programs: a .pth with the official names, or a bioimage.io package (.zip)."""

    model: CliPositionalArg[str]
    """A name, or a path to weights or to the folder of a training run."""
    out: str
    """The file to make; its ending says what: .pth for the official code, .zip for bioimage.io."""
    authors: tuple[str, ...] = ()
    """Who made the weights, for the package."""


class DoctorConfig(Config):
    """Look at Python, packages, Qt, OpenGL, GPU, scan kernels, memory, disk and weights, and say what to mend."""
