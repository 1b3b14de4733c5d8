"""The TokenUnify network: grey values of a crop in, one logit for each voxel and offset out.

Read from the bottom: `TokenUnify` is an encoder of Mamba stages (`_Encoder`, "vit" in the official names), each
coarser than the one before, and a UNETR decoder that comes back up and takes in what each stage saw. All names in the
state dict are those of the official weights (github.com/ydchen0806/TokenUnify). Shapes are (B, C, D, H, W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_tokenunify.network.blocks import (
    BasicBlock,
    Conv3d,
    OutBlock,
    UpBlock,
    add,
    channels_last,
    full_precision,
    instance_norm,
    rectify,
)
from napari_tokenunify.network.mamba import MambaLayer

if TYPE_CHECKING:
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.network.presets import NetworkConfig


def build_network(config: NetworkConfig) -> TokenUnify:
    """Make a network with random weights, drawn from torch's random numbers as they stand.

    Parameters
    ----------
    config : NetworkConfig
        Its shape; `NETWORK_PRESETS` has named ones.

    Returns
    -------
    TokenUnify
        On the CPU in fp32, or where a `with torch.device(...)` around the call says.
    """
    return TokenUnify(config)


class TokenUnify(nn.Module):
    """The network; any crop of at least one voxel goes in, and comes out with its size.

    Sizes that the strides do not divide are met inside: each stage repeats the last plane where it needs one more,
    and the decoder cuts it off again. A crop of multiples of `config.total_stride` needs nothing of it.

    Parameters
    ----------
    config : NetworkConfig
        The shape; kept as `config`.

    References
    ----------
    .. [1] Chen et al. (2024), TokenUnify, arXiv 2405.16847: the network ("EMmamba").
    .. [2] Xing et al. (2024), SegMamba, arXiv 2401.13560: what it was made from.
    .. [3] Hatamizadeh et al. (2021), UNETR, arXiv 2103.10504: the decoder, whose blocks are MONAI's.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        widths = (*config.widths, config.hidden)
        stages = len(config.widths)
        self.vit = _Encoder(config)
        for level, (before, after) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            self.add_module(f"encoder{level}", BasicBlock(before, after, config.kernel))
        for level in range(stages, 0, -1):
            stride = config.strides[level - 1]
            block = UpBlock(widths[level], widths[level - 1], config.kernel, stride)
            self.add_module(f"decoder{level + 1}", block)
        self.decoder1 = BasicBlock(widths[0], widths[0], config.kernel)
        self.out = OutBlock(widths[0], config.outputs)

    def forward(self, raw: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        raw : Tensor
            (B, 1, D, H, W), grey values, 0..1 in the official weights.

        Returns
        -------
        Tensor
            (B, outputs, D, H, W), logits in the order of `config.offsets`: their sigmoid is the affinity. (The
            official code has the sigmoid inside; outside, losses stay exact in half precision.)
        """
        result: Tensor = self.out(self.features(raw)[1])
        return result

    def features(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what `forward` makes its logits of, and what lies between encoder and decoder.

        Returns
        -------
        Tensor, shape (B, hidden, d, h, w)
            At the coarsest place, after the encoder.
        Tensor, shape (B, widths[0], D, H, W)
            At full resolution, after the decoder.
        """
        if raw.device.type == "cpu":
            raw = channels_last(raw)
        seen = [raw, *self.vit(raw)]  # fine to coarse
        coarse = x = getattr(self, f"encoder{len(seen)}")(seen.pop())
        while seen:  # what goes across is computed when it is needed: it is larger than what is kept for it
            level = len(seen)
            across = getattr(self, f"encoder{level}")(seen.pop())
            x = getattr(self, f"decoder{level + 1}")(x, across)
        return coarse, self.decoder1(x)

    def affinities(self, raw: Tensor) -> Tensor:
        """Compute affinities, the sigmoid of `forward`: (B, outputs, D, H, W), fp32, 0..1."""
        return torch.sigmoid(self(raw).float())


class _Encoder(nn.Module):
    """The Mamba stages; gives what the decoder takes in from each, fine to coarse."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, strides = config.widths, config.strides
        downs = [nn.Sequential(Conv3d(1, widths[0], (1, 7, 7), strides[0], (0, 3, 3)))]
        for before, after, stride in zip(widths, widths[1:], strides[1:], strict=False):
            downs.append(nn.Sequential(nn.Identity(), _DownConv(before, after, stride)))  # official: a norm before
        self.downsample_layers = nn.ModuleList(downs)
        self.gscs = nn.ModuleList(_SpatialConvs(width) for width in widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    MambaLayer(width, residual=config.residual, slices=config.slices, backend=config.scan_backend)
                    for _ in range(depth)
                )
            )
            for width, depth in zip(widths, config.depth, strict=True)
        )
        self.mlps = nn.ModuleList(_Mlp(width) for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        skips: list[Tensor] = []
        for down, gsc, stage, mlp in zip(self.downsample_layers, self.gscs, self.stages, self.mlps, strict=True):
            with full_precision(x, wanted=not skips):
                x = down(x)
            x = gsc(x)
            # normed once, for the skip and for the next stage: the official network does it twice, with one result
            x = instance_norm(stage(x), owned=True)
            skips.append(mlp(x))
        return skips


class _DownConv(Conv3d):
    """A convolution that gathers each block of (y, x) into one position; of z it takes every n-th section.

    The last row and column are repeated where a block would be cut: a size n becomes ceil(n / stride).
    """

    def __init__(self, width_in: int, width_out: int, stride: Triple) -> None:
        super().__init__(width_in, width_out, (1, *stride[1:]), stride)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-size % stride for size, stride in zip(x.shape[3:], self.stride[1:], strict=True))
        if height or width:
            x = functional.pad(x, (0, width, 0, height, 0, 0), mode="replicate")
        return super().forward(x)


class _SpatialConvs(nn.Module):
    """SegMamba's "gated spatial convolution" as TokenUnify has it: without a gate.

    What comes in fp32 has its mean still; from the first norms on half precision is exact enough.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = Conv3d(width, width, 3, padding=1)
        self.proj2 = Conv3d(width, width, 3, padding=1)
        self.proj3 = Conv3d(width, width, 1)
        self.proj4 = Conv3d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x, wanted=x.dtype == torch.float32):
            near, own = _norm_relu(self.proj(x)), _norm_relu(self.proj3(x))
        both = add(_norm_relu(self.proj2(near)), own)
        return add(x, _norm_relu(self.proj4(both)))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = Conv3d(width, 2 * width, 1)
        self.fc2 = Conv3d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return result


def _norm_relu(x: Tensor) -> Tensor:
    return rectify(instance_norm(x, owned=True))
