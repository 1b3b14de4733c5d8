"""A network of three numbers and a task that takes milliseconds, for tests of the loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from napari_tokenunify.events import Metric
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train.loop import Loop
from napari_tokenunify.train.plan import Plan
from napari_tokenunify.train.schedule import Budget


class Numbers:
    def __init__(self, crop):
        self.crop = crop

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        x = rng.normal(size=3).astype(np.float32)
        return x, np.float32(x @ [1, -2, 0.5])


class ToyTask:
    """To find the weights 1, -2, 0.5."""

    def __init__(self, room=None, validation=(), bad_steps=()):
        self.room, self.validation, self.bad = room, list(validation), set(bad_steps)
        self.saved, self.sizes, self.calls = [], [], 0

    def samples(self, crop):
        return Numbers(crop)

    def known(self, samples):
        return float(len(samples))

    def loss(self, network, samples, device):
        self.calls += 1
        self.sizes.append(len(samples))
        if self.room is not None and len(samples) * self.crop_voxels > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        x, y = (torch.tensor(np.stack(part)) for part in zip(*samples, strict=True))
        loss = (network(x)[:, 0] - y).square().sum()
        return loss * float("nan") if self.calls in self.bad else loss

    crop_voxels = 1

    def validate(self, network, device):
        return {"validation_loss": self.validation.pop(0)} if self.validation else {}

    def preview(self, network, device, step):
        return None

    def save(self, path, weights, standing):
        self.saved.append((path.name, standing.step, {k: v.clone() for k, v in weights.items()}))


def plan(steps=10, **changes):
    values = {
        "budget": Budget(steps, None),
        "crop": (8, 64, 64),
        "batch": 4,
        "learning_rate": 0.1,
        "warmup": 2,
        "workers": 0,
        "metric_seconds": 0.0,
        "validate_seconds": 1e9,
        "checkpoint_seconds": 1e9,
    }
    return Plan(**{**values, **changes})


def loop(folder, task=None, **changes):
    torch.manual_seed(0)
    return Loop(nn.Linear(3, 1), task or ToyTask(), plan(**changes), RunPaths(folder), "toy")


def drive(generator, stop_after=None):
    """Return the losses by step, all events, and what was returned; close after so many steps if asked."""
    losses, events = {}, []
    try:
        while True:
            event = next(generator)
            events.append(event)
            if isinstance(event, Metric) and "loss" in event.values:
                losses[event.step] = event.values["loss"]
                if event.step == stop_after:
                    generator.close()
                    return losses, events, None
    except StopIteration as end:
        return losses, events, end.value
