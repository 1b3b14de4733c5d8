"""Which parts of a network learn: all, the decoder, the head, or small additions to frozen weights (adapters).

Adapters change what is in a network while it trains; `network_state` gives its weights as if they were not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_tokenunify.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

Parts = Literal["all", "decoder", "head", "adapters"]
"""What of a network learns; adapters are of low rank, beside weights that stay."""

RANK: Final = 4

_HEAD: Final = "out"
_DECODER: Final = "decoder"
_WITH_MATRIX: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)
_SENTENCES: Final[dict[Parts, str]] = {
    "all": "All weights learn: best with many labels, and slowest to be sure.",
    "decoder": "The decoder learns and the encoder stays as it was trained: safer with few labels, and faster.",
    "head": "Only the last layer learns: the safest choice for very few labels, and the one that can change least.",
    "adapters": "Small additions to all weights learn, and the last layer: all of the network adapts to few labels.",
}


def describe(parts: Parts) -> str:
    """Return one sentence for the user on what learns."""
    return _SENTENCES[parts]


def choose_parts(network: nn.Module, parts: Parts, rank: int = RANK) -> None:
    """Set which parameters learn (`requires_grad`), and put adapters in if they are asked for.

    Adapters the network had before are merged first. New ones leave its output as it is.

    Parameters
    ----------
    network : nn.Module
        Any module for "all"; else one with the names of `TokenUnify`: `out` is the head, `decoder1` and so on the
        decoder, everything else the encoder.
    parts : {"all", "decoder", "head", "adapters"}
        "decoder": decoder and head. "adapters": a low-rank change of each weight of encoder and decoder, the norms
        and biases of the decoder, and the head.
    rank : int
        Of the adapters: a larger one can change more, and needs more labels. Weights that have no more numbers than
        their adapter would are left as they are.

    Raises
    ------
    TrainError
        If the network has no such parts.

    References
    ----------
    .. [1] Hu et al. (2021), LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
    """
    merge_adapters(network)
    if parts != "all":
        _check_names(network, parts)
    for name, parameter in network.named_parameters():
        part = name.split(".", 1)[0]
        learns = parts == "all" or part == _HEAD
        if part.startswith(_DECODER):
            learns |= parts == "decoder" or (parts == "adapters" and parameter.ndim == 1)
        parameter.requires_grad_(learns)
    if parts == "adapters":
        for name, module in list(network.named_modules()):
            if isinstance(module, _WITH_MATRIX) and name.split(".", 1)[0] != _HEAD:
                _adapt(module, rank)


def merge_adapters(network: nn.Module) -> None:
    """Add the adapters to the weights and take them out; the output stays, and the names are those before them."""
    for _, module in list(_adapted(network)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict the network would have with its adapters merged; the network stays as it is.

    Returns
    -------
    dict of str to Tensor
        Detached. As with `state_dict`, what has no adapter shares its memory with the network.
    """
    state = dict(network.state_dict())
    for name, module in _adapted(network):
        own = f"{name}." if name else ""
        for key in [key for key in state if key.startswith(f"{own}parametrizations.weight.")]:
            del state[key]
        state[f"{own}weight"] = _weight(module).detach()
    return state


class _LowRank(nn.Module):
    """Adds a matrix of low rank to a weight, which is read as a matrix with its first axis as rows.

    `above` starts as 0 and `below` with deviation 1, and their product is divided by the root of the rank. So a first
    step of Adam changes the weight by as much as it would change a weight that learns itself, and the same learning
    rate suits both.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.above = nn.Parameter(weight.new_zeros(rows, rank))
        self.below = nn.Parameter(torch.randn_like(weight.new_empty(rank, columns)))
        self.scale = rank**-0.5

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # as exact as the weight
            change: Tensor = self.scale * self.above @ self.below
            return weight + change.view_as(weight)


def _adapt(module: nn.Module, rank: int) -> None:
    weight = module.get_parameter("weight")
    rows, columns = weight.flatten(1).shape
    if rank * (rows + columns) < rows * columns:
        parametrize.register_parametrization(module, "weight", _LowRank(weight.detach(), rank))


def _adapted(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Go through the modules that have one of our adapters; other parametrisations are the network's own affair."""
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            added = module.get_submodule("parametrizations.weight")
            if any(isinstance(child, _LowRank) for child in added.children()):
                yield name, module


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def _check_names(network: nn.Module, parts: Parts) -> None:
    names = {name for name, _ in network.named_children()}
    if _HEAD not in names or not any(name.startswith(_DECODER) for name in names):
        raise TrainError(
            f"This network ({type(network).__name__}) has no parts named {_DECODER}1 and {_HEAD}, so '{parts}' cannot "
            "be chosen to learn: choose 'all'."
        )
