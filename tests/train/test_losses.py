"""The losses against loops over the paper's formulas, and what no label means: no gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_tokenunify.train.losses import affinity_loss, balance_weights

KINDS = ("mse", "bce", "dice", "focal")
SHAPE = (3, 2, 3, 4, 5)


def batch(joined=0.7, known=0.6, seed=0):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, SHAPE))
    return logits, torch.from_numpy(rng.random(SHAPE) < joined), torch.from_numpy(rng.random(SHAPE) < known)


def slow_weight(target, known):
    """Weights of joined and apart pairs of one crop, from reference 4.2."""
    joined = [bool(t) for t, k in zip(target, known, strict=True) if k]
    if all(joined) or not any(joined):
        return 1.0, 1.0
    q = min(max(sum(joined) / len(joined), 0.05), 0.99)
    return (1.0, q / (1 - q)) if q > 0.5 else ((1 - q) / q, 1.0)


def slow_dice(pairs, joined):
    wanted = [(p if joined else 1 - p, t == joined) for p, t in pairs]
    overlap = sum(p for p, t in wanted if t)
    return 1 - 2 * overlap / (sum(p * p for p, _ in wanted) + sum(t for _, t in wanted))


def slow_loss(logits, target, mask, kind):
    total = 0.0
    for crop, truth, known in zip(logits.tolist(), target.tolist(), mask.tolist(), strict=True):
        crop, truth, known = (np.array(values).ravel().tolist() for values in (crop, truth, known))
        of_joined, of_apart = slow_weight(truth, known)
        if kind in {"bce", "dice"}:
            of_joined, of_apart = math.sqrt(of_joined), math.sqrt(of_apart)
        pairs = [(1 / (1 + math.exp(-x)), t) for x, t, k in zip(crop, truth, known, strict=True) if k]
        for p, t in pairs:
            right = p if t else 1 - p
            one = {"mse": (p - t) ** 2, "focal": -((1 - right) ** 2) * math.log(right)}.get(kind, -math.log(right))
            total += (of_joined if t else of_apart) * one
        classes = {t for _, t in pairs}
        if kind == "dice" and classes:
            total += len(pairs) * sum(slow_dice(pairs, joined) for joined in classes) / len(classes)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joined", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_a_loss_is_that_of_a_slow_loop(kind, joined):
    logits, target, mask = batch(joined)
    assert affinity_loss(logits, target, mask, kind).item() == pytest.approx(slow_loss(logits, target, mask, kind))


def test_the_rare_class_counts_as_much_as_the_other_and_not_without_end():
    target, mask = torch.ones(1, 1, 10, 10, 10, dtype=torch.bool), torch.ones(1, 1, 10, 10, 10, dtype=torch.bool)
    target[0, 0, 0] = False
    weights = balance_weights(target, mask)
    assert weights[target].sum().item() == pytest.approx(weights[~target].sum().item())
    target[0, 0, 0] = True
    target[0, 0, 0, 0, 0] = False
    assert balance_weights(target, mask)[~target].item() == pytest.approx(99, rel=1e-4)
    assert balance_weights(~target, mask)[~target].item() == pytest.approx(19, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, 1e30])
def test_where_nothing_is_known_the_gradient_is_exactly_zero(kind, nonsense):
    logits, target, mask = batch()
    plain = logits.float().requires_grad_()
    affinity_loss(plain, target, mask, kind).backward()
    strange = torch.where(mask, logits.float(), nonsense).requires_grad_()
    loss = affinity_loss(strange, target, mask, kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert (strange.grad[~mask] == 0).all()
    assert torch.equal(strange.grad, plain.grad)
    assert (plain.grad[mask] != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_nothing_from_what_is_not_known(kind):
    _, target, mask = batch()
    head = torch.nn.Conv3d(1, 2, 1)
    image = torch.rand(3, 1, 3, 4, 5)
    affinity_loss(head(image), target, torch.zeros_like(mask), kind).backward()
    assert all((parameter.grad == 0).all() for parameter in head.parameters())
    logits = head(image)
    loss = affinity_loss(torch.where(mask, logits, torch.full_like(logits, math.nan)), target, mask, kind)
    found = torch.autograd.grad(loss, list(head.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("kind", KINDS)
def test_crops_add_up_however_they_are_batched(kind):
    logits, target, mask = batch()
    mask[1] = False  # a crop in which nothing is known adds nothing
    parts = [affinity_loss(logits[i : i + 1], target[i : i + 1], mask[i : i + 1], kind) for i in range(3)]
    assert parts[1] == 0
    assert affinity_loss(logits, target, mask, kind).item() == pytest.approx(sum(part.item() for part in parts))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_left_before_anything_is_summed(kind):
    logits, target, mask = batch()
    half = logits.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = affinity_loss(half, target, mask, kind)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(affinity_loss(half.double(), target, mask, kind).item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_answer_costs_next_to_nothing_and_any_step_towards_it_helps(kind):
    logits, target, mask = batch()
    right = torch.where(target, 20.0, -20.0)
    assert affinity_loss(right, target, mask, kind).item() < 1e-4
    logits.requires_grad_()
    before = affinity_loss(logits, target, mask, kind)
    before.backward()
    after = affinity_loss(logits.detach() - 1e-3 * logits.grad, target, mask, kind)
    assert after < before
    first = slice(0, 1)
    assert torch.autograd.gradcheck(
        lambda x: affinity_loss(x, target[first, :, :2], mask[first, :, :2], kind),
        logits[first, :, :2].detach().requires_grad_(),
    )
