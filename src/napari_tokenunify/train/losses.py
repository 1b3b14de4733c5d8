"""Losses on affinities of which only some are known: sums over the known pairs, the rarer kind weighed higher.

All losses are sums, and each crop's share depends on that crop alone. So the losses of several small batches, on
several devices, add up to the loss of one large batch; whoever trains divides by the number of known pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LossKind = Literal["mse", "bce", "dice", "focal"]
"""Weighted squared error as in the paper, cross-entropy, Dice, or focal loss (Lin et al. 2017)."""

_SHARES: Final = (0.05, 0.99)  # of joined pairs: the weights of a rare class end at 19 (joined) and 99 (apart)
_CROP_AXES: Final = (1, 2, 3, 4)


def affinity_loss(logits: Tensor, target: Tensor, mask: Tensor, kind: LossKind = "mse") -> Tensor:
    """Return the loss of a batch, summed over all known pairs.

    Parameters
    ----------
    logits : Tensor of any float type, shape (B, C, D, H, W)
        What the network gives; their sigmoid is the affinity. May be anything, NaN too, where nothing is known.
    target : Tensor of bool, shape (B, C, D, H, W)
        True where the two voxels of a pair belong together.
    mask : Tensor of bool, shape (B, C, D, H, W)
        True where that is known. Elsewhere the gradient is exactly 0.
    kind : {"mse", "bce", "dice", "focal"}
        "mse": squared error of the affinity, as in TokenUnify, with the `balance_weights`. "bce": cross entropy, with
        the square root of these: with all of them a network soon sees boundaries everywhere, with none it finds few
        (measured, docs/performance.md). "focal": cross entropy times (1 - p)^2, where p is what the network gives the
        truth, with the `balance_weights`. "dice": bce, and the soft Dice loss [2]_ of each crop times its number of
        known pairs, the mean over the classes (joined, apart) that are known in the crop.

    Returns
    -------
    Tensor
        One number >= 0, in fp32 (fp64 for fp64 logits) whatever autocast says; 0 if nothing is known.

    References
    ----------
    .. [1] Chen et al. (2024), TokenUnify, arXiv 2405.16847: weights and mse.
    .. [2] Milletari et al. (2016), V-Net, arXiv 1606.04797: Dice with squares below.
    .. [3] Lin et al. (2017), Focal Loss for Dense Object Detection, arXiv 1708.02002.
    """
    with torch.autocast(logits.device.type, enabled=False):
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # chosen, not multiplied: 0 times NaN would be NaN, in the gradient too
        exact = torch.where(mask, exact, torch.zeros_like(exact))
        truth = (target & mask).to(exact.dtype)
        return _KINDS[kind](exact, truth, balance_weights(target, mask).to(exact.dtype), mask)


def balance_weights(target: Tensor, mask: Tensor) -> Tensor:
    """Return how much each pair counts, so that in each crop joined and apart pairs count alike.

    The rarer class gets q / (1 - q) or its inverse, where q is the share of joined pairs among the known ones of the
    crop, over all channels, kept within 0.05..0.99; the other class gets 1, and so does the only class of a crop.

    Parameters
    ----------
    target, mask : Tensor of bool, shape (B, C, D, H, W)
        As in `affinity_loss`.

    Returns
    -------
    Tensor of float32, shape (B, C, D, H, W)
        0 where nothing is known.

    References
    ----------
    .. [1] Chen et al. (2024), TokenUnify, arXiv 2405.16847; there every pair is known.
    """
    known = mask.sum(_CROP_AXES, keepdim=True)
    joined = (target & mask).sum(_CROP_AXES, keepdim=True)
    share = (joined / known.clamp(min=1)).clamp(*_SHARES)
    odds = share / (1 - share)
    both = (joined > 0) & (joined < known)
    of_joined = torch.where(both & (odds <= 1), 1 / odds, 1.0)
    of_apart = torch.where(both & (odds > 1), odds, 1.0)
    return torch.where(target, of_joined, of_apart) * mask


def _mse(logits: Tensor, truth: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    return (weights * (torch.sigmoid(logits) - truth).square()).sum()


def _bce(logits: Tensor, truth: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, truth, weights.sqrt(), reduction="sum")


def _focal(logits: Tensor, truth: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (weights * (torch.sigmoid(logits) - truth).square() * each).sum()  # 2: the exponent Lin et al. found best


def _dice(logits: Tensor, truth: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    affinity, known = torch.sigmoid(logits), mask.to(logits.dtype)
    losses, present = [], []
    for found, wanted in ((affinity, truth), (1 - affinity, known - truth)):
        size = wanted.sum(_CROP_AXES)  # its squares are itself
        overlap = (found * wanted).sum(_CROP_AXES)
        there = size > 0
        below = (known * found.square()).sum(_CROP_AXES) + size
        losses.append(torch.where(there, 1 - 2 * overlap / torch.where(there, below, 1.0), 0.0))
        present.append(there.to(logits.dtype))
    mean = torch.stack(losses).sum(0) / torch.stack(present).sum(0).clamp(min=1)
    return _bce(logits, truth, weights, mask) + (mean * known.sum(_CROP_AXES)).sum()


_KINDS: Final[dict[LossKind, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "mse": _mse,
    "bce": _bce,
    "dice": _dice,
    "focal": _focal,
}
