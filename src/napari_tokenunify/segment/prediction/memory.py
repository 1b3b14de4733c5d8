"""What fits: tile and batch for a network on this machine, and what to do when memory runs out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import torch

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.network.device import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.network.card import ModelCard
    from napari_tokenunify.network.presets import NetworkConfig

T = TypeVar("T")
R = TypeVar("R")
_LARGEST_BATCH: Final = 16
_MB: Final = 1 << 20
_WIDE: Final = 160


def default_tile(card: ModelCard) -> Triple:
    """Return the tile (z, y, x) that suits a network: twice as deep as the crop it was trained on, and 160 wide.

    A network norms what it sees over the whole tile. On FIB-25 one that was trained on 32x64x64 had VOI 1.58 in such
    tiles, 1.39 in 64x160x160 and 1.53 in 136x250x250. Where a card says no crop: as the official crop, as many
    sections as a network needs that halves them at every stage, or twice as many.
    """
    for run in reversed(card.history):
        match run.settings.get("crop"):
            case [int(z), int(y), int(x)] if min(z, y, x) > 0:
                return 2 * z, max(y, _WIDE), max(x, _WIDE)
    return 16 if card.network.total_stride[0] >= 16 else 32, _WIDE, _WIDE


def fit_tile(tile: Triple, network: NetworkConfig, available: int) -> Triple:
    """Make a tile smaller until a pass of the network on a CPU fits into half of the memory.

    Parameters
    ----------
    tile : tuple of int
        (z, y, x) in voxels; halved along its longest axis, down to one position of the coarsest stage.
    network : NetworkConfig
        Its first width sets what a voxel takes at the finest stage, where most memory goes.
    available : int
        Bytes of memory that are free.
    """
    each = 64 + 40 * network.widths[0]  # bytes a voxel in fp32, measured: 385 for tiny, 582 for small, 1188 for base
    size = list(tile)
    while math.prod(size) * each > available / 2:
        axis = max(range(3), key=lambda axis: size[axis] / network.total_stride[axis])
        if size[axis] <= network.total_stride[axis]:
            break
        positions = size[axis] // network.total_stride[axis]
        size[axis] = max(1, positions // 2) * network.total_stride[axis]
    return size[0], size[1], size[2]


def choose_batch(run_one: Callable[[], object], device: torch.device) -> int:
    """Return how many tiles to compute at once: on CUDA as many as 80 % of its free memory hold, elsewhere one.

    Parameters
    ----------
    run_one : callable
        Runs the network on one tile; what it takes is measured.
    device : torch.device
        Where.
    """
    if device.type != "cuda":
        return 1
    run_one()  # the first time libraries take memory of their own
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run_one()
    each = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return batch_for(each, torch.cuda.mem_get_info(device)[0])


def batch_for(each: int, free: int) -> int:
    """Return the largest power of two, 16 at most, so that as many tiles of `each` bytes fit in 80 % of `free`."""
    batch = 1
    while batch < _LARGEST_BATCH and 2 * batch * each <= 0.8 * free:
        batch *= 2
    return batch


class Batches:
    """Runs things in batches, and in smaller ones from the first time that memory does not suffice.

    Parameters
    ----------
    size : int
        How many at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, items: Sequence[T], function: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Return what `function` makes of all items, in order; none is lost when memory runs out.

        Raises
        ------
        SegmentError
            If memory does not suffice for one item.
        """
        results: list[R] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.size]
            try:
                results += function(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise SegmentError(
                        "The memory does not suffice for one tile: choose a smaller --tile, or close other programs."
                    ) from error
            else:
                continue
            self.size = max(1, min(self.size, len(part)) // 2)  # outside `except`, where the error holds its tensors
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results
