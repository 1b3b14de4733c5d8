"""Trivial predictors: what can be said of hidden voxels without having learnt anything; a network must do better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.train.pretraining.objectives import Question
    from napari_tokenunify.train.pretraining.tokens import TokenGrid

TRIVIAL: Final = ("mean", "nearest", "inpainting")


def trivial_answers(question: Question, grid: TokenGrid) -> dict[str, Tensor]:
    """Answer a question without a network.

    Returns
    -------
    dict of str to Tensor, each (Z, Y, X)
        "mean": the mean of the visible voxels everywhere. "nearest": a copy of the nearest visible token.
        "inpainting": trilinear interpolation between visible voxels, from coarse to fine. Where the question is a
        coarse crop, the last two are that crop, and a trilinear interpolation of it.
    """
    mean = torch.full_like(question.image, float(question.image[question.visible].mean()))
    if question.coarse != (1, 1, 1):
        means = question.image[:: question.coarse[0], :: question.coarse[1], :: question.coarse[2]]
        smooth = _interpolated(means, question.image.shape)
        return {"mean": mean, "nearest": question.image, "inpainting": smooth}
    return {
        "mean": mean,
        "nearest": nearest_token(question.image, question.visible, grid),
        "inpainting": inpainted(question.image, question.visible),
    }


def nearest_token(image: Tensor, visible: Tensor, grid: TokenGrid) -> Tensor:
    """Copy into each hidden token the visible one whose place is nearest, in voxels."""
    z, y, x = grid.token
    hidden = ~visible[::z, ::y, ::x].cpu().numpy()
    source = distance_transform_edt(hidden, sampling=grid.token, return_distances=False, return_indices=True)
    axes = np.meshgrid(*(np.arange(n) for n in grid.crop), indexing="ij")
    place = tuple(axis // size for axis, size in zip(axes, grid.token, strict=True))
    found = [
        np.minimum(source[i][place] * size + axes[i] % size, n - 1)
        for i, (size, n) in enumerate(zip(grid.token, grid.crop, strict=True))
    ]
    numbers = torch.from_numpy(np.ravel_multi_index(tuple(found), grid.crop)).to(image.device)
    return image.flatten()[numbers]


def inpainted(image: Tensor, visible: Tensor) -> Tensor:
    """Fill hidden voxels from a pyramid of means of the visible ones, interpolated trilinearly from level to level.

    References
    ----------
    .. [1] Gortler et al. (1996), The Lumigraph: filling gaps by "pull" and "push".
    """
    known = visible.to(image.dtype)[None, None]
    values = image.masked_fill(~visible, 0.0)[None, None]
    levels = [(values, known)]
    while max(known.shape) > 1 and not bool((known > 0).all()):
        step = tuple(min(2, n) for n in known.shape[2:])
        values, known = (functional.avg_pool3d(x, step, step, ceil_mode=True) for x in levels[-1])
        levels.append((values, known))
    values, known = levels.pop()
    filled = values / known.clamp(min=1e-12)
    while levels:
        values, known = levels.pop()
        coarse = functional.interpolate(filled, values.shape[2:], mode="trilinear", align_corners=False)
        filled = torch.where(known > 0, values / known.clamp(min=1e-12), coarse)
    return filled[0, 0]


def _interpolated(means: Tensor, shape: torch.Size) -> Tensor:
    finer = functional.interpolate(means[None, None], tuple(shape), mode="trilinear", align_corners=False)
    return finer[0, 0]
