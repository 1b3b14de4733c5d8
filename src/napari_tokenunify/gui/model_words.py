"""What a user should know of a network before she trains it or predicts with it, in a few lines; no torch."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safetensors import SafetensorError, safe_open

from napari_tokenunify.errors import ModelError
from napari_tokenunify.geometry import voxel_size_mismatch
from napari_tokenunify.network.card import read_card
from napari_tokenunify.network.installed import find_model, installed_models
from napari_tokenunify.network.presets import NETWORK_PRESETS

if TYPE_CHECKING:
    from napari_tokenunify.geometry import VoxelSize
    from napari_tokenunify.network.card import ModelCard
    from napari_tokenunify.project import ProjectState

PARAMETERS: Final = {"tiny": 1.0, "small": 3.9, "base": 28, "100M": 113, "200M": 207, "500M": 507, "1B": 1009}
"""Millions of parameters of the presets."""
_SCORES: Final = {"affinity_f1": "affinity F1", "voi": "VOI", "validation_loss": "loss"}


def is_from_scratch(model: str) -> bool:
    """Whether a name stands for a size without weights."""
    return model in NETWORK_PRESETS and model not in installed_models()


def model_words(model: str, volume_size_nm: VoxelSize | None) -> str:
    """Return the card of a model, as rich text of a few lines.

    Parameters
    ----------
    model : str
        A name, a path, or the name of a size to start from scratch.
    volume_size_nm : tuple of float or None
        Voxel size (z, y, x) of the volume it is for, in nm.

    Returns
    -------
    str
        Parameters, voxel size, data, licence and scores; for what cannot be read, the sentence that says why.
    """
    if is_from_scratch(model):
        count = PARAMETERS[model]
        return f"Starts from nothing, so it needs more minutes and labels. {count:g} M parameters."
    try:
        weights = find_model(model)
        card = read_card(weights)
    except ModelError as error:
        return html.escape(str(error))
    lines = [_what(card, weights), _made_of(card), _pretrained_words(card), scores_words(card)]
    if volume_size_nm is not None and card.voxel_size_nm is not None:
        different = voxel_size_mismatch(volume_size_nm, card.voxel_size_nm)
        if different is not None:
            lines.append(
                f"<b>{different.rstrip('.')}</b>; unless you turn it off, it is shown the volume at that size."
            )
    return "<br>".join(line for line in lines if line)


def network_in_use(state: ProjectState) -> tuple[str, bool]:
    """Return which network predicts, as rich text, and whether it has weights.

    Parameters
    ----------
    state : ProjectState
        The last trained run predicts, before any is trained what training starts from.
    """
    chosen = state.trained or state.model
    if state.trained is None and is_from_scratch(chosen):
        return "No network is trained yet: train one in the step Train, or choose a trained one there.", False
    try:
        card = read_card(find_model(chosen))
    except ModelError as error:
        return html.escape(str(error)), False
    if card.network.is_pretrained:
        return f"{html.escape(short_name(chosen))} was only pre-trained: train from it in the step Train.", False
    words = scores_words(card)
    return f"Network: <b>{html.escape(short_name(chosen))}</b>" + (f" ({words})" if words else ""), True


def scores_words(card: ModelCard) -> str:
    """Return how good the weights were on the labels held out; empty if nobody measured."""
    found = [f"{said} {card.metrics[name]:.3g}" for name, said in _SCORES.items() if name in card.metrics]
    return f"best of its run at step {card.step:,}: {', '.join(found)}" if found else ""


def short_name(model: str) -> str:
    """Return the last part of a path, or a name as it is."""
    return Path(model).name or model


def _what(card: ModelCard, weights: Path) -> str:
    count = _parameters(weights)
    voxels = card.voxel_size_nm
    return ", ".join(
        [
            *([f"{count / 1e6:.3g} M parameters"] if count else []),
            "voxel size unknown" if voxels is None else f"voxels of {'x'.join(f'{nm:g}' for nm in voxels)} nm",
            f"{card.step:,} steps",
        ]
    )


def _made_of(card: ModelCard) -> str:
    data = ", ".join(html.escape(f"{used.name} ({used.licence})") for used in card.data) or "data unknown"
    return f"trained on {data}; licence {html.escape(card.licence)}"


def _pretrained_words(card: ModelCard) -> str:
    if not card.network.is_pretrained:
        return ""
    recipe = card.history[-1].settings.get("recipe") if card.history else None
    return "pre-trained without labels" + (f" by the recipe {html.escape(short_name(str(recipe)))}" if recipe else "")


def _parameters(weights: Path) -> int:
    """Count the numbers in a file of weights; its header says how many, so none is read."""
    try:
        with safe_open(weights, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no dict
    except (OSError, SafetensorError):
        return 0
