"""Checkpoints of our own: `model.safetensors`, which holds weights and card, and `model.json`, the card to read.

The weights' file alone is a whole checkpoint, so replacing it is one step that either has happened or has not. The
JSON is a copy of its card for people and other programs; it is written after, and nothing here reads it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.card import CARD_KEY, damaged, package_versions, read_card, weights_file
from napari_tokenunify.network.tokenunify import TokenUnify, build_network
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_tokenunify.network.card import ModelCard


def save_checkpoint(
    path: str | Path,
    module: TokenUnify,
    card: ModelCard,
    *,
    half: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> ModelCard:
    """Store weights and card; a checkpoint that was there before stays whole until the new one is.

    Parameters
    ----------
    path : str or Path
        A folder, which then holds `model.safetensors` and `model.json`; or a file that ends in .safetensors, which
        gets a .json beside it.
    module : TokenUnify
        On any device.
    card : ModelCard
        What is known of the weights; its `network` must be the module's.
    half : bool
        Store convolutions and matrices as float16: half the size, for weights that are passed on. Biases, norms and
        the decay rates of the scans stay as they are.
    weights : mapping of str to Tensor, optional
        To store instead of the module's own state dict, under the same names: averages, or merged adapters.

    Returns
    -------
    ModelCard
        The card as it was stored, with the hash of the weights and the versions of the packages.

    Raises
    ------
    ModelError
        If weights are not finite, the card describes another network, or the files cannot be written.
    """
    file = weights_file(path)
    if card.network != module.config:
        raise ModelError(f"{file}: is not written, because its card describes another network than the one to save.")
    tensors = {name: _stored(name, tensor, half=half) for name, tensor in (weights or module.state_dict()).items()}
    check_finite(tensors, f"{file}: is not written, because")
    card = card.replace(weights_sha256=weights_sha256(tensors), versions=package_versions())
    text = card.model_dump_json(indent=1)
    with whole_file(file, ModelError) as part:
        save_file(tensors, part, metadata={"format": "pt", CARD_KEY: text})
    with whole_file(file.with_suffix(".json"), ModelError) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return card


def load_checkpoint(path: str | Path) -> tuple[TokenUnify, ModelCard]:
    """Read what `save_checkpoint` wrote.

    Parameters
    ----------
    path : str or Path
        A folder with `model.safetensors`, or a .safetensors file.

    Returns
    -------
    TokenUnify
        On the CPU, in fp32, in training mode as torch makes it.
    ModelCard
        What is known of it.

    Raises
    ------
    ModelError
        If there is no checkpoint, or it is damaged, does not fit its card, or holds values that are not finite.
    """
    file = weights_file(path)
    card = read_card(file)
    tensors = read_tensors(file, card)
    check_finite(tensors, f"{file}:")
    with torch.device("meta"):  # no memory, and no random numbers for weights that are read
        module = build_network(card.network)
    _check_shapes(tensors, module, file)
    module.to_empty(device="cpu")
    module.load_state_dict(tensors)
    return module, card


def read_tensors(file: Path, card: ModelCard | None = None) -> dict[str, Tensor]:
    """Read all tensors of a .safetensors file onto the CPU.

    Raises
    ------
    ModelError
        If it cannot be read, or does not hold the weights that its card names.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise damaged(file) from error
    if card is not None and weights_sha256(tensors) != card.weights_sha256:
        raise damaged(file)
    return tensors


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values, whatever the order and the file."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def check_finite(tensors: Mapping[str, Tensor], beginning: str) -> None:
    """Refuse weights with NaN or infinity.

    Raises
    ------
    ModelError
        A sentence that starts with `beginning`.
    """
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ModelError(
            f"{beginning} {len(bad)} of {len(tensors)} tensors hold values that are not finite, {bad[0]} first: "
            "the training had failed by then; use an earlier checkpoint."
        )


def _stored(name: str, tensor: Tensor, *, half: bool) -> Tensor:
    """Bring a tensor to the CPU, apart from all others, in the type it is stored in."""
    smaller = half and tensor.dtype == torch.float32 and tensor.ndim > 1 and not name.endswith("_log")
    return tensor.detach().to("cpu", torch.float16 if smaller else tensor.dtype).contiguous()


def _check_shapes(tensors: Mapping[str, Tensor], module: TokenUnify, file: Path) -> None:
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        here, there = (tuple(given[name].shape) if name in given else None for given in (tensors, wanted))
        if here != there:
            raise ModelError(
                f"{file}: {name} has the shape {here or 'nothing'}, but its card wants {there or 'nothing'}; "
                "copy or download it again."
            )
