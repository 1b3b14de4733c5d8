"""What a network costs: how many numbers it learns, and how much has to be computed for a crop."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import torch

from napari_tokenunify.network.tokenunify import build_network

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.network.presets import NetworkConfig

# part of a weight's name -> by how much its number is more than the times its input or output was coarsened
_LEVELS: Final = (
    (re.compile(r"vit\.(?:downsample_layers|gscs|stages|mlps)\.(\d+)\."), -1),
    (re.compile(r"encoder(\d+)\."), 1),
    (re.compile(r"decoder(\d+)\.transp_conv\."), 1),  # each voxel that goes in is multiplied with all of the weight
    (re.compile(r"decoder1\.()"), 0),
    (re.compile(r"decoder(\d+)\."), 2),
    (re.compile(r"out\.()"), 0),
)
_RATES: Final = "_log"  # of the scans, whose own work is about a hundredth of the whole


def parameter_count(config: NetworkConfig) -> int:
    """Return how many numbers a network learns."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_network(config).parameters())


def multiply_adds(config: NetworkConfig, crop: Triple) -> int:
    """Return the multiplications of a forward pass over one crop, each with its addition.

    Those of convolutions and matrices are counted; a backward pass has twice as many. The scans' own, norms and
    activations are left out, in all about 2 %.

    Parameters
    ----------
    config : NetworkConfig
        The network.
    crop : tuple of int
        Its voxels (z, y, x).
    """
    extents = [crop]
    for stride in config.strides:
        z, y, x = (-(-n // by) for n, by in zip(extents[-1], stride, strict=True))
        extents.append((z, y, x))
    with torch.device("meta"):
        weights = build_network(config).state_dict()
    return sum(
        weight.numel() * math.prod(extents[_level(name)])
        for name, weight in weights.items()
        if weight.ndim > 1 and not name.endswith(_RATES)
    )


def _level(name: str) -> int:
    """Return how many times the crop was coarsened where a weight is used."""
    for pattern, less in _LEVELS:
        if found := pattern.match(name):
            return int(found[1] or less) - less
    raise KeyError(name)
