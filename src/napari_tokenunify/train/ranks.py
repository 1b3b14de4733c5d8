"""Several processes that train one network, one a GPU, as `torchrun` starts them; a single one needs none of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that train together one is.

    Attributes
    ----------
    rank : int
        Its number, from 0; rank 0 writes files.
    world : int
        How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Return each value summed over all processes."""
        if self.world == 1:
            return list(values)
        where = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=where)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor]

    def agree(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return what the first process gives, in all of them; plain values only, as they travel as JSON."""
        if self.world == 1:
            return value
        where = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=where)
        length = torch.tensor([len(text)], device=where)
        distributed.broadcast(length, 0)
        if not self.first:
            text = torch.empty(int(length), dtype=torch.uint8, device=where)
        distributed.broadcast(text, 0)
        agreed: dict[str, Any] = json.loads(bytes(text.cpu().tolist()))
        return agreed

    def sum_gradients(self, network: nn.Module) -> None:
        """Add up the gradients of all processes; each holds its part of one loss."""
        if self.world == 1:
            return
        for parameter in network.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)


def is_first() -> bool:
    """Tell whether this process writes the files, before `join_ranks` was called."""
    return os.environ.get("RANK", "0") == "0"


def join_ranks(device: torch.device) -> tuple[Ranks, torch.device]:
    """Join the processes that `torchrun` has started together with this one, if it has.

    Parameters
    ----------
    device : torch.device
        What to compute on; of several GPUs each process takes its own.

    Returns
    -------
    Ranks
        One of one, if this process was started alone.
    torch.device
        That of this process.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size()), device
