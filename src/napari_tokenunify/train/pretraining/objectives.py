"""Objectives: what of a crop is hidden, what is asked for, and how far an answer is off.

A question is put in one of two ways. Some tokens are hidden at random, and asked for ("random"). Or all units after a
prefix are hidden; asked for is the unit that comes next ("next"), or everything that is hidden ("next_all"): one pass
through the network answers both. The loss is the squared error of grey values, over the voxels asked for alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokenunify.train.pretraining.tokens import TokenGrid, coarser, scales

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.train.pretraining.recipes import ObjectiveName, Recipe


@dataclass(frozen=True, eq=False)
class Asked:
    """What an objective wants to know.

    Attributes
    ----------
    voxels : Tensor of bool, shape (Z, Y, X)
        Where the answer counts.
    target : Tensor of float32, shape (Z, Y, X)
        The right answer, grey values in 0..1.
    tokens : Tensor of int64, shape (Q,), or None
        Raster numbers of the tokens that the head is asked for; None where the decoder's own output is the answer.
    """

    voxels: Tensor
    target: Tensor
    tokens: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """A crop of which a part is hidden.

    Attributes
    ----------
    image : Tensor of float32, shape (Z, Y, X)
        What the network sees: grey values in 0..1, and the fill where voxels are hidden.
    visible : Tensor of bool, shape (Z, Y, X)
        Which voxels are not hidden.
    coarse : tuple of int
        Boxes of so many voxels (z, y, x) show only their mean; (1, 1, 1) where nothing is coarsened.
    asked : dict
        By objective.
    """

    image: Tensor
    visible: Tensor
    coarse: tuple[int, int, int]
    asked: dict[ObjectiveName, Asked]


def ask_random(clean: Tensor, perturbed: Tensor, grid: TokenGrid, recipe: Recipe, rng: np.random.Generator) -> Question:
    """Hide a share of the tokens, chosen at random.

    Parameters
    ----------
    clean : Tensor, shape (Z, Y, X)
        The crop as it is to be restored.
    perturbed : Tensor, shape (Z, Y, X)
        The crop as it is shown.
    grid : TokenGrid
        Of the crop.
    recipe : Recipe
        Says which share (`mask`), what stands in its place (`fill`) and what counts (`loss_on`).
    rng : numpy.random.Generator
        Draws share, tokens and noise.
    """
    share = recipe.mask if isinstance(recipe.mask, float) else rng.uniform(*recipe.mask)
    number = max(1, min(grid.count - 1, int(share * grid.count)))
    chosen = rng.permutation(grid.count)[:number].astype(np.int64)
    hidden = grid.voxels_of(chosen, clean.device)
    counts = hidden if recipe.loss_on == "hidden" else torch.ones_like(hidden)
    return Question(_hide(perturbed, hidden, recipe, rng), ~hidden, (1, 1, 1), {"random": Asked(counts, clean)})


def ask_after_prefix(
    clean: Tensor, perturbed: Tensor, grid: TokenGrid, recipe: Recipe, rng: np.random.Generator
) -> Question:
    """Hide all units after a prefix of random length, from one unit to all but one.

    With the unit "scale", the prefix is the crop at a coarse scale, the next unit the crop at the next finer one, and
    everything after it the crop itself. Parameters are those of `ask_random`.

    Raises
    ------
    TrainError
        If the crop has only one unit.
    """
    if recipe.unit == "scale":
        return _ask_finer(clean, perturbed, grid, recipe, rng)
    units = grid.units(recipe.unit, recipe.unit_size)
    number = int(rng.integers(1, len(units)))
    hidden = grid.voxels_of(np.concatenate(units[number:]), clean.device)
    follows = torch.from_numpy(units[number]).to(clean.device)
    counts = hidden if recipe.loss_on == "hidden" else torch.ones_like(hidden)
    asked: dict[ObjectiveName, Asked] = {
        "next": Asked(
            grid.voxels_of(units[number], clean.device),
            perturbed if recipe.next_target == "perturbed" else clean,
            follows,
        ),
        "next_all": Asked(counts, clean),
    }
    return Question(_hide(perturbed, hidden, recipe, rng), ~hidden, (1, 1, 1), asked)


def answer(asked: Asked, logits: Tensor, of_tokens: Tensor | None, grid: TokenGrid) -> Tensor:
    """Return what was answered as grey values.

    Parameters
    ----------
    asked : Asked
        By one objective.
    logits : Tensor, shape (Z, Y, X)
        The network's output.
    of_tokens : Tensor, shape (Q, z, y, x)
        The head's output, for the tokens asked for; may be None where there are none.
    grid : TokenGrid
        Of the crop.

    Returns
    -------
    Tensor of float32, shape (Z, Y, X)
        0..1; means something where `asked.voxels` is True.
    """
    if asked.tokens is None or of_tokens is None:
        return torch.sigmoid(logits.float())
    empty = torch.zeros(grid.count, *grid.token, device=logits.device)
    filled = empty.index_copy(0, asked.tokens, torch.sigmoid(of_tokens.float()))
    return TokenGrid(grid.crop, grid.token).to_voxels(filled)


def squared_error(asked: Asked, answered: Tensor) -> Tensor:
    """Return the mean squared error of an answer (Z, Y, X) over the voxels asked for."""
    return ((answered - asked.target).square() * asked.voxels).sum() / asked.voxels.sum().clamp(min=1)


def _hide(image: Tensor, hidden: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    if recipe.fill == "zeros":
        return image.masked_fill(hidden, 0.0)
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))
    return torch.where(hidden, torch.randn(image.shape, generator=generator, device=image.device), image)


def _ask_finer(clean: Tensor, perturbed: Tensor, grid: TokenGrid, recipe: Recipe, rng: np.random.Generator) -> Question:
    steps = scales(grid.token, recipe.unit_size)
    number = int(rng.integers(len(steps) - 1))
    everywhere = torch.ones_like(clean, dtype=torch.bool)
    target = coarser(perturbed if recipe.next_target == "perturbed" else clean, steps[number + 1])
    asked: dict[ObjectiveName, Asked] = {
        "next": Asked(everywhere, target, torch.arange(grid.count, device=clean.device)),
        "next_all": Asked(everywhere, clean),
    }
    return Question(coarser(perturbed, steps[number]), everywhere, steps[number], asked)
