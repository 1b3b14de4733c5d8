"""Test-time augmentation: a tile is shown to the network in several orientations, and the answers are averaged.

Turning the image over changes what an affinity is about. Channel c at p links p and p + o; seen in an orientation g (a
flip of some axes, y and x perhaps exchanged), that pair is g(p) and g(p) + g(o). Where g(o) is the offset of a
channel, that channel has the answer at g(p). Where only its opposite is, the pair has its other voxel's name: the
answer is found one offset further, and there is none at the border, where p + o lies outside the tile.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from napari_tokenunify.affinities import pair_slices
from napari_tokenunify.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_tokenunify.affinities import Offset

Augmentation = Literal["none", "flips", "flips+transpose"]


@dataclass(frozen=True)
class Orientation:
    """A way to look at a tile: y and x exchanged or not, then some axes turned over.

    Attributes
    ----------
    flips : tuple of int
        The axes (0 z, 1 y, 2 x) that are turned over.
    transposed : bool
        Whether y and x are exchanged, before.
    """

    flips: tuple[int, ...] = ()
    transposed: bool = False

    def show(self, tile: Tensor) -> Tensor:
        """Return a tile (..., D, H, W) as the network is to see it."""
        turned = tile.transpose(-1, -2) if self.transposed else tile
        return turned.flip([axis - 3 for axis in self.flips]) if self.flips else turned

    def undo(self, answer: Tensor) -> Tensor:
        """Return (..., D, H, W) in the tile's own frame: voxel for voxel, the channels as they are."""
        turned = answer.flip([axis - 3 for axis in self.flips]) if self.flips else answer
        return turned.transpose(-1, -2) if self.transposed else turned

    def offset(self, offset: Offset) -> Offset:
        """Return what an offset looks like."""
        z, y, x = offset
        if self.transposed:
            y, x = x, y
        z, y, x = (-o if axis in self.flips else o for axis, o in enumerate((z, y, x)))
        return z, y, x


def orientations(augmentation: Augmentation) -> tuple[Orientation, ...]:
    """Return the orientations of a kind of augmentation, the tile as it is first: 1, 8 or 16."""
    if augmentation == "none":
        return (Orientation(),)
    flips = [axes for count in range(4) for axes in itertools.combinations(range(3), count)]
    both = (False, True) if augmentation == "flips+transpose" else (False,)
    return tuple(Orientation(axes, transposed) for transposed in both for axes in flips)


def average(
    answer: Callable[[Tensor], Tensor], tiles: Tensor, offsets: Sequence[Offset], views: Sequence[Orientation]
) -> tuple[Tensor, Tensor]:
    """Ask the network about tiles in several orientations, and take the mean for each pair of voxels.

    Parameters
    ----------
    answer : callable
        (B, 1, D, H, W) to affinities, fp32, (B, C, D, H, W); also for D, H, W in another order.
    tiles : Tensor
        fp32, (B, 1, D, H, W).
    offsets : sequence of (int, int, int)
        One (z, y, x) a channel.
    views : sequence of Orientation
        The first is the tile as it is, so each voxel has one answer at least.

    Returns
    -------
    mean : Tensor
        fp32, (B, C, D, H, W).
    deviation : Tensor
        fp32, (B, 1, D, H, W): standard deviation over the orientations, the largest of the channels; 0..0.5.

    Raises
    ------
    ConfigError
        If the offsets do not change into each other in the views.
    """
    plan = [(view, _channels(offsets, view)) for view in views]
    total = answer(tiles)
    squares, count = total.square(), torch.ones_like(total[:1])
    for view, channels in plan[1:]:
        seen = view.undo(answer(view.show(tiles).contiguous()))
        for channel, (source, is_opposite) in enumerate(channels):
            shift = offsets[channel] if is_opposite else (0, 0, 0)
            here, there = pair_slices(tuple(seen.shape[2:]), shift)
            values = seen[:, source][:, *there]
            total[:, channel][:, *here] += values
            squares[:, channel][:, *here] += values.square()
            count[0, channel][*here] += 1
    mean = total.div_(count)
    variance = squares.div_(count).sub_(mean.square()).clamp_(min=0)
    return mean, variance.amax(1, keepdim=True).sqrt_()


def _channels(offsets: Sequence[Offset], view: Orientation) -> list[tuple[int, bool]]:
    """Return for each channel which one has its answer in a view, and whether that links the pair from its other end.

    Raises
    ------
    ConfigError
        If there is none.
    """
    places = {offset: channel for channel, offset in enumerate(offsets)}
    found = []
    for offset in offsets:
        wanted = view.offset(offset)
        opposite = (-wanted[0], -wanted[1], -wanted[2])
        if wanted not in places and opposite not in places:
            raise ConfigError(
                f"The network has the offset {offset}, but neither {wanted} nor its opposite, so its answers cannot be "
                f"averaged over these orientations: use --tta {'flips' if view.transposed else 'none'}."
            )
        found.append((places.get(wanted, places.get(opposite, 0)), wanted not in places))
    return found
