"""The exponential moving average of a network's weights: steadier than the weights themselves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

from napari_tokenunify.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

_UPDATES: Final = "updates"
_PREFIX: Final = "average."


class MovingAverage:
    """Averages over the steps of a training, recent ones most, in fp32 on the network's device.

    Averaged are the parameters that learn and the buffers that hold floats; everything else is the network's own.
    torch's `AveragedModel` would copy the whole network, and cannot take part in a checkpoint as plain tensors.

    Parameters
    ----------
    network : nn.Module
        Where it computes, with what learns already chosen, adapters too. The plain module, not one that is wrapped
        for several devices or compiled: names count.
    decay : float
        What is kept of the average in each step, 0..1. A larger value averages over more steps, 1 / (1 - decay) of
        them. In the first steps it is less, (1 + n) / (10 + n) after n steps, so that the beginning is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self._averages = {name: tensor.detach().float().clone() for name, tensor in _averaged(network)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in _averaged(network):
            self._averages[name].lerp_(tensor.float(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Overwrite the network's weights with the averages."""
        for name, tensor in _averaged(network):
            tensor.copy_(self._averages[name])

    @contextmanager
    def swapped(self, network: nn.Module) -> Iterator[None]:
        """Let the network have the averages for a while, e.g. to be validated; its weights come back in any case."""
        kept = {name: tensor.detach().clone() for name, tensor in _averaged(network)}
        try:
            self.copy_to(network)
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _averaged(network):
                    tensor.copy_(kept[name])

    def state(self) -> dict[str, Tensor]:
        """Return all there is to know as tensors for a checkpoint; they share memory with the averages."""
        averages = {f"{_PREFIX}{name}": tensor for name, tensor in self._averages.items()}
        return {_UPDATES: torch.tensor(self.updates), **averages}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises
        ------
        TrainError
            If it is of another network, or of one of which other parts learn.
        """
        found = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name != _UPDATES}
        shapes, wanted = ({n: tuple(t.shape) for n, t in which.items()} for which in (found, self._averages))
        if shapes != wanted or _UPDATES not in state:
            raise TrainError(
                "The averaged weights of the checkpoint do not fit this network: go on with the model and the learning "
                "parts that the run was started with, or start a new run."
            )
        self.updates = int(state[_UPDATES])
        for name, tensor in found.items():
            self._averages[name].copy_(tensor)


def _averaged(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, tensor) for name, tensor in network.named_parameters() if tensor.requires_grad)
    yield from ((name, tensor) for name, tensor in network.named_buffers() if tensor.is_floating_point())
