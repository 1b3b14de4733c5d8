"""A tile's way: read and normalised in threads (TileReader), then through the network to shares (TileNetwork)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from napari_tokenunify.errors import SegmentError, TokenUnifyError
from napari_tokenunify.network.device import DTYPES, is_out_of_memory
from napari_tokenunify.segment.prediction.memory import Batches
from napari_tokenunify.segment.prediction.orientations import average
from napari_tokenunify.segment.prediction.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.prediction.blending import Windows
    from napari_tokenunify.segment.prediction.orientations import Orientation
    from napari_tokenunify.segment.prediction.tiles import TileGrid

_TOLERANCE: Final = 1e-3  # what rounding to half precision may add to an affinity


@dataclass(frozen=True)
class Tile:
    """A tile on its way.

    Attributes
    ----------
    number : tuple of int
        Which tile (z, y, x) of the grid.
    values : ndarray or None
        float32 (D, H, W), grey values in 0..1; later uint16 (C, D, H, W), shares; None if it has failed.
    problem : str
        Why it has failed.
    """

    number: Triple
    values: NDArray[Any] | None
    problem: str = ""


class TileReader:
    """Makes tile number i of a list, for `napari_tokenunify.data.iterate`; a tile that cannot be read has failed.

    Parameters
    ----------
    volume : Volume
        Where to read.
    origin : tuple of int
        Voxel (z, y, x) of the volume at which the grid begins.
    intensity : IntensityRange
        What becomes 0 and 1.
    grid : TileGrid
        The tiles.
    numbers : list of tuple of int
        Which, in order.
    """

    def __init__(
        self, volume: Volume, origin: Triple, intensity: IntensityRange, grid: TileGrid, numbers: list[Triple]
    ) -> None:
        self._volume, self._origin, self._intensity = volume, origin, intensity
        self._grid, self._numbers = grid, numbers

    def __getitem__(self, index: int, /) -> Tile:
        """Read and normalise."""
        number = self._numbers[index]
        try:
            block = self._volume.read(self._grid.tile_box(number).shifted(self._origin))
            return Tile(number, self._intensity.normalise(block))
        except Exception as error:  # noqa: BLE001 - files fail in any way; the others are read on
            return Tile(number, None, _first_line(error))


@dataclass(frozen=True)
class NetworkUse:
    """How a network is used.

    Attributes
    ----------
    offsets : tuple of tuple of int
        One (z, y, x) for each of its outputs.
    logits : bool
        Whether it gives logits, whose sigmoid is the affinity, or affinities.
    device : torch.device
        Where it computes.
    precision : {"fp32", "bf16", "fp16"}
        In what; the last two with autocast.
    views : tuple of Orientation
        In which orientations it sees a tile.
    sees : tuple of int or None
        Shape (z, y, x) to which a tile is resampled for it.
    uncertainty : bool
        Whether the deviation between the orientations follows as a last channel, times 2, so that it is in 0..1.
    """

    offsets: tuple[Offset, ...]
    logits: bool
    device: torch.device
    precision: str
    views: tuple[Orientation, ...]
    sees: Triple | None
    uncertainty: bool


class TileNetwork:
    """Turns tiles of grey values into shares, several at once.

    Parameters
    ----------
    network : callable
        Tensor fp32 (B, 1, D, H, W) to Tensor (B, C, D, H, W).
    use : NetworkUse
        How to use it.
    windows : Windows
        Weights of the tiles.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], use: NetworkUse, windows: Windows) -> None:
        self._network, self._use, self._windows = network, use, windows
        self.batches = Batches(1)

    def shares(self, tiles: Sequence[Tile]) -> list[Tile]:
        """Compute what tiles add to the sums; those that fail say so, the others are not touched by it.

        Raises
        ------
        SegmentError
            If memory does not suffice for one tile, or the network gives something of another shape.
        """
        read = [tile for tile in tiles if tile.values is not None]
        return [tile for tile in tiles if tile.values is None] + self.batches.run(read, self._of_batch)

    def probe(self, shape: Triple) -> None:
        """Run the network on one blank tile of `shape`, to see what it takes."""
        self._affinities([np.zeros(shape, np.float32)])

    def _of_batch(self, tiles: Sequence[Tile]) -> list[Tile]:
        try:
            return self._computed(tiles)
        except TokenUnifyError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if len(tiles) == 1:
                return [Tile(tiles[0].number, None, _first_line(error))]
        return [self._of_batch([tile])[0] for tile in tiles]  # to know which it was

    @torch.inference_mode()
    def _computed(self, tiles: Sequence[Tile]) -> list[Tile]:
        blocks = [tile.values for tile in tiles if tile.values is not None]
        # Always batches of one size: with another, torch may choose other kernels, which round differently.
        padding = [blocks[-1]] * (self.batches.size - len(blocks))
        answers = self._affinities([*blocks, *padding])
        return [self._weighted(tile, answer) for tile, answer in zip(tiles, answers, strict=False)]

    def _weighted(self, tile: Tile, answer: Tensor) -> Tile:
        if bool(answer.isnan().any()):
            return Tile(tile.number, None, "the network's answer holds values that are not finite or no affinities")
        return Tile(tile.number, self._windows.shares(tile.number, answer))

    @torch.inference_mode()
    def _affinities(self, blocks: list[NDArray[np.float32]]) -> Tensor:
        """Return fp32 (B, C, D, H, W) in 0..1; NaN where the network gave anything else."""
        use = self._use
        batch = torch.from_numpy(np.stack(blocks))[:, None].to(use.device)
        shown = batch if use.sees is None else resample(batch, use.sees)
        if len(use.views) == 1:
            result = self._answer(shown)
        else:
            mean, deviation = average(self._answer, shown, use.offsets, use.views)
            result = torch.cat([mean, deviation.mul_(2)], 1) if use.uncertainty else mean
        if use.sees is not None:
            shape = batch.shape
            result = resample(result, (shape[2], shape[3], shape[4]))
        return result.clamp_(0, 1)

    def _answer(self, tiles: Tensor) -> Tensor:
        dtype = DTYPES[self._use.precision]
        with torch.autocast(tiles.device.type, dtype, enabled=dtype != torch.float32):
            answer = self._network(tiles)
        wanted = (len(tiles), len(self._use.offsets), *tiles.shape[2:])
        if tuple(answer.shape) != wanted:
            raise SegmentError(
                f"The network's answer has the shape {tuple(answer.shape)}, but {wanted} is expected: its offsets are "
                "others, or it cannot take tiles of this shape."
            )
        answer = answer.float()
        if self._use.logits:
            return torch.where(answer.isfinite(), answer.sigmoid(), torch.nan)
        return torch.where((answer - 0.5).abs() <= 0.5 + _TOLERANCE, answer, torch.nan)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    named = text[0][:200] if text else ""
    return named if isinstance(error, TokenUnifyError) else f"{type(error).__name__}: {named}"
