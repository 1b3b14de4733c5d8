"""NetworkConfig: the shape of a network, and the presets; needs no torch, so forms and flags can be made from it."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset
from napari_tokenunify.config import Config
from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple

Positive = Annotated[int, Field(ge=1)]
PositiveTriple = tuple[Positive, Positive, Positive]
Nanometres = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NetworkConfig(Config):
    """What a TokenUnify network is made of. The defaults are the official network of 28 M parameters.

    `depth` and `strides` may be given once for all stages: `depth=2`, `strides=(1, 2, 2)`.

    Raises
    ------
    ConfigError
        If the values do not fit each other; the sentence says which.
    """

    widths: tuple[Positive, ...] = (32, 64, 128, 256)
    """Channels of each stage, fine to coarse; one number a stage, two stages or more. Larger values learn more and
    cost time and memory (twice the widths: four times the work); more stages see a wider surrounding."""

    hidden: Positive = 512
    """Channels at the coarsest place, between encoder and decoder. A larger value costs parameters, but little time."""

    depth: tuple[Positive, ...] = (2, 2, 2, 2)
    """Mamba layers in each stage. A larger value mixes more over long distances, and adds time at the fine stages."""

    kernel: PositiveTriple = (1, 5, 5)
    """Extent (z, y, x) of the decoder's convolutions in voxels, odd. A larger value smooths more and costs time in
    proportion; a z of 1 looks at one section at a time, which suits thick sections, a z of 3 suits isotropic voxels."""

    strides: tuple[PositiveTriple, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    """By how much each stage, the first included, coarsens (z, y, x). A larger value is faster and sees further, but
    coarser; a z of 1 keeps all sections, which suits thick ones. The official network halves z at every stage."""

    residual: bool = False
    """Whether a Mamba layer adds its input to its output. On, deep networks train more easily; the official weights
    were trained without it and are wrong with it."""

    slices: Positive | Literal["z"] = 5
    """How many runs of tokens the third Mamba branch weaves together; "z" weaves the sections, so that it walks along
    z first. A larger number brings tokens from further apart next to each other; the official network has 5."""

    offsets: tuple[Offset, ...] = DEFAULT_OFFSETS
    """Which neighbour (z, y, x) each output channel compares a voxel with. More, and longer, offsets help to tell
    neurons apart that touch, and cost little; (0, 0, 0) is the voxel itself, as pre-training predicts it."""

    voxel_size_nm: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Voxel size (z, y, x) in nm the weights were trained at. A volume that differs much is resampled to it."""

    scan_backend: Literal["auto", "mamba_ssm", "triton", "numba", "torch"] = "auto"
    """What computes the selective scan; "auto" takes the fastest that works here. All give the same result."""

    @model_validator(mode="before")
    @classmethod
    def _spread_over_stages(cls, values: Any) -> Any:
        """Let one depth, one stride or none stand for every stage."""
        if not isinstance(values, dict) or not isinstance(values.get("widths", ()), tuple | list):
            return values
        stages = len(values.get("widths", cls.model_fields["widths"].default))
        depth, strides = values.get("depth", 2), values.get("strides", (2, 2, 2))
        if isinstance(depth, int):
            depth = (depth,) * stages
        if isinstance(strides, tuple | list) and strides and all(isinstance(stride, int) for stride in strides):
            strides = (strides,) * stages
        return {**values, "depth": depth, "strides": strides}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        stages = len(self.widths)
        if stages < 2:
            raise ConfigError(f"The network has {stages} stage(s): give widths two numbers or more, e.g. 16,32.")
        for name, given in (("depth", len(self.depth)), ("strides", len(self.strides))):
            if given != stages:
                raise ConfigError(f"{name} has {given} entries for {stages} widths: give one for each, or one for all.")
        if any(extent % 2 == 0 for extent in self.kernel):
            raise ConfigError(f"The kernel {self.kernel} has an even extent: use odd numbers, e.g. 1,5,5 or 3,3,3.")
        if not self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ConfigError("offsets must name at least one neighbour, and none twice.")
        return self

    @property
    def outputs(self) -> int:
        """Number of output channels: one for each offset."""
        return len(self.offsets)

    @property
    def is_pretrained(self) -> bool:
        """Whether it predicts the voxel itself, as pre-training does: it knows grey values, and no boundaries yet."""
        return (0, 0, 0) in self.offsets

    @property
    def total_stride(self) -> Triple:
        """How many voxels (z, y, x) make one position at the coarsest stage; a crop of multiples wastes nothing."""
        z, y, x = zip(*self.strides, strict=True)
        return math.prod(z), math.prod(y), math.prod(x)


# Ours, for laptops and CPUs; chosen among variants on FIB-25, see docs/network.md. The smaller one keeps all sections
# in its first stage, the larger one learns more in the same time if it halves them.
_TINY: Final = NetworkConfig(
    widths=(8, 16, 32, 48),
    hidden=64,
    depth=1,
    kernel=(3, 3, 3),
    strides=((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    residual=True,
    slices="z",
)
NETWORK_PRESETS: Final = MappingProxyType(
    {
        "tiny": _TINY,
        "small": _TINY.replace(widths=(16, 32, 64, 96), hidden=128, strides=((2, 2, 2),) * 4),
        "base": NetworkConfig(),
        "100M": NetworkConfig(widths=(64, 128, 256, 512), hidden=1024),
        "200M": NetworkConfig(widths=(96, 192, 384, 768), hidden=1024),
        "500M": NetworkConfig(widths=(144, 288, 576, 1104), hidden=2048),
        "1B": NetworkConfig(widths=(192, 384, 768, 1536), hidden=3072),
    }
)
"""The named sizes: `tiny` (1 M) and `small` (4 M) are ours, the others the official ones with three outputs."""
