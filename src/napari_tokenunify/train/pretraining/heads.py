"""Heads: what predicts single tokens, and the network with such a head; only the network is used afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_tokenunify.errors import TrainError
from napari_tokenunify.network.official import HEAD_PREFIX
from napari_tokenunify.train.pretraining.tokens import TokenGrid, means

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.network.tokenunify import TokenUnify
    from napari_tokenunify.train.pretraining.recipes import Recipe

_OFFICIAL_CROP: Final = (16, 160, 160)
_LATENTS: Final = 16
_WAVES: Final = 8  # frequencies of a position along each axis


class PretrainingNetwork(nn.Module):
    """A network of one output, and a head if the recipe predicts next tokens.

    Parameters
    ----------
    network : TokenUnify
        Its output is a crop's grey values, as logits.
    head : Resampler or OfficialHead or None
        Predicts tokens.
    """

    def __init__(self, network: TokenUnify, head: Resampler | OfficialHead | None) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, raw: Tensor, wanted: Tensor | None, grid: TokenGrid) -> tuple[Tensor, Tensor | None]:
        """Predict crops, and tokens of them.

        Parameters
        ----------
        raw : Tensor, shape (B, 1, Z, Y, X)
            Crops of which a part is hidden.
        wanted : Tensor of int64, shape (B, Q), or None
            Raster numbers of the tokens that the head is asked for.
        grid : TokenGrid
            Of the crops.

        Returns
        -------
        Tensor, shape (B, Z, Y, X)
            Logits of the grey values.
        Tensor, shape (B, Q, z, y, x), or None
            Logits of those of the tokens.
        """
        coarse, fine = self.network.features(raw)
        logits = self.network.out(fine)
        tokens = None if wanted is None or self.head is None else self.head(coarse, fine, logits, wanted, grid)
        return logits[:, 0], tokens

    def nothing(self) -> Tensor:
        """Return 0 that hangs on all weights which some objectives leave out: then all have a gradient at each step.

        Otherwise the optimiser would pass over a weight in one process and not in another.
        """
        left_out = [*self.network.out.parameters(), *(self.head.parameters() if self.head is not None else ())]
        return 0.0 * torch.stack([parameter.sum() for parameter in left_out]).sum()


class Resampler(nn.Module):
    """Cross-attention from the position of each token wanted to what encoder and decoder make of the crop.

    Latent vectors gather from both, as in a Perceiver Resampler; then each position asks them and both for what the
    decoder's own output at that token lacks: the answer is the sum. Without the decoder's detail an answer stays a
    blur, worse than a copy of the nearest token, and the decoder would learn little. Crops of any size go.

    Parameters
    ----------
    hidden, width_fine : int
        Channels of the encoder's and of the decoder's features.
    token : tuple of int
        Voxels (z, y, x) of a token.
    width : int
        Channels in here.

    References
    ----------
    .. [1] Alayrac et al. (2022), Flamingo, arXiv 2204.14198: the Perceiver Resampler.
    .. [2] Chen et al. (2025), TokenUnify, arXiv 2405.16847: its use for the next token.
    """

    def __init__(self, hidden: int, width_fine: int, token: Triple, width: int) -> None:
        super().__init__()
        self.token = token
        self.from_encoder = nn.Linear(hidden, width)
        self.from_decoder = nn.Linear(width_fine, width)
        self.position = nn.Linear(6 * _WAVES, width)
        self.latents = nn.Parameter(torch.randn(_LATENTS, width) * width**-0.5)
        self.wish = nn.Parameter(torch.zeros(width))
        self.gather = _CrossAttention(width)
        self.ask = nn.ModuleList(_CrossAttention(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.lack = nn.Linear(width, token[0] * token[1] * token[2])
        nn.init.zeros_(self.lack.weight)  # begins as the decoder's own answer
        nn.init.zeros_(self.lack.bias)

    def forward(self, coarse: Tensor, fine: Tensor, logits: Tensor, wanted: Tensor, grid: TokenGrid) -> Tensor:
        """Predict tokens (B, Q, z, y, x) at `wanted` (B, Q) from features (B, C, ...) and `logits` (B, 1, Z, Y, X)."""
        z, y, x = grid.token
        part = (z, max(1, y // 2), max(1, x // 2))  # four means a token: what lies beside it is seen in some detail
        pooled = means(fine, part)
        context = torch.cat(
            [
                self.from_encoder(_rows(coarse)) + self._where(coarse, grid),
                self.from_decoder(_rows(pooled)) + self._where(pooled, grid),
            ],
            dim=1,
        )
        latents = self.latents.expand(len(context), -1, -1).to(context.dtype)
        latents = self.gather(latents, torch.cat([context, latents], dim=1))
        context = torch.cat([context, latents], dim=1)
        places = torch.from_numpy(grid.places).to(coarse.device)[wanted] + 0.5
        queries = self.wish + self.position(_waves(places))
        for block in self.ask:
            queries = block(queries, context)
        of_decoder = TokenGrid(grid.crop, grid.token).to_tokens(logits[:, 0])  # in raster order, as `wanted` counts
        result: Tensor = self.lack(self.norm(queries)).reshape(*wanted.shape, z, y, x)
        return result + torch.take_along_dim(of_decoder, wanted[..., None, None, None], dim=1)

    def _where(self, features: Tensor, grid: TokenGrid) -> Tensor:
        """Return what says where features (B, C, d, h, w) lie: (d * h * w, width)."""
        axes = [
            (torch.arange(n, device=features.device) + 0.5) * (crop / n / token)
            for n, crop, token in zip(features.shape[2:], grid.crop, grid.token, strict=True)
        ]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        where: Tensor = self.position(_waves(places))
        return where


class OfficialHead(nn.Module):
    """The head of the official code ("preciever"): convolutions and a matrix on the network's output.

    It does not hear which token is wanted: that has to be read off the edge of the noise. 824 785 parameters, with
    the official names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 12, 3, 2, 1)
        self.conv2 = nn.Conv3d(12, 12, 3, 2, 1)
        self.conv3 = nn.Conv3d(12, 1, 3, 2, 1)
        self.mlp = nn.Linear(800, 1024)

    def forward(self, coarse: Tensor, fine: Tensor, logits: Tensor, wanted: Tensor, grid: TokenGrid) -> Tensor:
        """Predict the next token (B, 1, 4, 16, 16) from `logits` (B, 1, 16, 160, 160)."""
        if grid.crop != _OFFICIAL_CROP or wanted.shape[1] != 1:
            size = "x".join(map(str, grid.crop))
            raise TrainError(
                f"The official head works on crops of 16x160x160 voxels alone, not of {size}: leave out --crop, make "
                "room in memory, or choose a recipe with `head: resampler`."
            )
        x = functional.relu(self.conv1(logits))
        x = self.conv3(functional.relu(self.conv2(x)))
        result: Tensor = self.mlp(x.flatten(1))
        return result.reshape(-1, 1, *grid.token)


def build_head(recipe: Recipe, network: TokenUnify) -> Resampler | OfficialHead | None:
    """Make the head that a recipe needs, with random weights; None if it predicts no next tokens."""
    if "next" not in recipe.objectives:
        return None
    if recipe.head == "official":
        return OfficialHead()
    shape = network.config
    return Resampler(shape.hidden, shape.widths[0], recipe.token, max(32, min(512, shape.hidden // 32 * 32)))


def load_head(head: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Give a head its weights, if all are there in the right shapes.

    Parameters
    ----------
    head : Resampler or OfficialHead
        Changed in place.
    tensors : mapping of str to Tensor
        By name; official files have "preciever." before them, and other weights beside.

    Returns
    -------
    bool
        Whether they fitted; if not, the head stays as it was.
    """
    found = {name.removeprefix(HEAD_PREFIX): tensor for name, tensor in tensors.items()}
    wanted = head.state_dict()
    if any(name not in found or found[name].shape != tensor.shape for name, tensor in wanted.items()):
        return False
    head.load_state_dict({name: found[name] for name in wanted})
    return True


class _CrossAttention(nn.Module):
    """Queries look at a context, then each for itself goes through two layers; both are added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        context = self.norm_context(context)
        seen, _ = self.attention(self.norm(queries), context, context, need_weights=False)
        queries = queries + seen
        result: Tensor = queries + self.layers(queries)
        return result


def _rows(features: Tensor) -> Tensor:
    """(B, C, d, h, w) to (B, d * h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def _waves(places: Tensor) -> Tensor:
    """Return sines and cosines of places (..., 3), in tokens, with wavelengths of 2 to 256 tokens: (..., 6 * waves)."""
    lengths = 2.0 ** torch.arange(1, _WAVES + 1, device=places.device)
    angles = (places[..., None].float() * (2 * torch.pi) / lengths).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
