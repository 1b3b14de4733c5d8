"""predict_volume: all tiles of a volume through a network into a store, with reading ahead and writing behind.

Four things go on at once: threads read the next tiles, a thread runs the network, here the last answers are added to
the sums of their cells, and one more thread writes the cells that are complete.
"""

from __future__ import annotations

import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch

from napari_tokenunify.data.prefetch import iterate
from napari_tokenunify.data.resampled import Resampling
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.segment.affinity_store import open_affinities
from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter, describe
from napari_tokenunify.segment.folder_lock import locked
from napari_tokenunify.segment.prediction.behind import Behind
from napari_tokenunify.segment.prediction.blending import Windows
from napari_tokenunify.segment.prediction.cell_sums import CellSums
from napari_tokenunify.segment.prediction.memory import choose_batch
from napari_tokenunify.segment.prediction.orientations import orientations
from napari_tokenunify.segment.prediction.tile_network import NetworkUse, Tile, TileNetwork, TileReader
from napari_tokenunify.segment.prediction.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from torch import Tensor

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.segment.prediction.orientations import Augmentation

_READERS: Final = 2
_NAMED: Final = 3  # failed tiles in the sentence at the end
_HOPELESS: Final = 16  # as many have failed, and none has not
_FREE: Final = frozenset({"model", "versions"})  # settings that may differ when a run goes on


@dataclass(frozen=True)
class Prediction:
    """How a volume is predicted.

    Attributes
    ----------
    offsets : tuple of tuple of int
        One (z, y, x) for each output of the network.
    intensity : IntensityRange
        What grey values become 0 and 1.
    tile : tuple of int
        (z, y, x) voxels of the volume that the network sees at once.
    overlap : float
        Part of a tile, along each axis, that the next one covers too.
    box : Box or None
        Only this part of the volume.
    start_at : tuple of int or None
        Voxel (z, y, x) of the volume near which to start.
    tta : {"none", "flips", "flips+transpose"}
        In how many orientations a tile is looked at: 1, 8 or 16.
    dtype : {"uint8", "float16"}
        How affinities are stored.
    precision : {"fp32", "bf16", "fp16"}
        What the network computes in.
    device : str
        Where, e.g. "cpu" or "cuda".
    logits : bool
        Whether the network gives logits or affinities.
    network_voxel_size_nm : tuple of float or None
        (z, y, x) in nm to which tiles are resampled for the network; None: they are not.
    budget : int or None
        Bytes of sums to hold in memory; by default 32 MB, or what two tiles touch if that is more.
    save_after : float
        Seconds that a kill costs at most.
    about : dict
        Plain values that say more of the network, e.g. name and hash; a run goes on only with the same.
    """

    offsets: tuple[Offset, ...]
    intensity: IntensityRange
    tile: Triple
    overlap: float = 0.25
    box: Box | None = None
    start_at: Triple | None = None
    tta: Augmentation = "none"
    dtype: str = "uint8"
    precision: str = "fp32"
    device: str = "cpu"
    logits: bool = True
    network_voxel_size_nm: VoxelSize | None = None
    budget: int | None = None
    save_after: float = 60.0
    about: dict[str, Any] = field(default_factory=dict)

    def box_in(self, volume: Volume) -> Box:
        """Return what is predicted, in voxels of the volume.

        Raises
        ------
        SegmentError
            If the box reaches outside.
        """
        box = self.box or Box.whole(volume.shape)
        if box.clipped(volume.shape) != box:
            size = ", ".join(map(str, volume.shape))
            raise SegmentError(f"{volume.uri}: the box {box} reaches outside the volume of {size} voxels (z, y, x).")
        return box

    def layout(self, volume: Volume) -> AffinityLayout:
        """Return what the store will hold; its settings are all that has an influence on the values."""
        box = self.box_in(volume)
        settings = {
            "volume": volume.uri,
            "voxels": volume.checksum(volume.centre_box((1, 64, 64))),
            "box": str(box),
            "tile": list(self.tile),
            "overlap": self.overlap,
            "tta": self.tta,
            "dtype": self.dtype,
            "precision": self.precision,
            "intensity": [self.intensity.low, self.intensity.high],
            "network_voxel_size_nm": list(self.network_voxel_size_nm) if self.network_voxel_size_nm else None,
            **self.about,
        }
        return AffinityLayout(
            box.shape,
            self.offsets,
            self.dtype,
            volume.voxel_size_nm,
            box.start,
            settings,
            uncertainty=self.tta != "none",
            origin_nm=volume.origin_nm,
        )


def predict_volume(
    volume: Volume,
    network: Callable[[Tensor], Tensor],
    out: str | Path,
    how: Prediction,
    *,
    overwrite: bool = False,
) -> Generator[Event, None, dict[str, Any]]:
    """Predict affinities with any network, or go on where an earlier run with the same settings was stopped.

    The result has the same bytes whatever the order of the tiles and however often it was interrupted, as long as the
    network gives the same answer to the same tile.

    Parameters
    ----------
    volume : Volume
        The image.
    network : callable
        Tensor fp32 (B, 1, D, H, W), grey values in 0..1, on the device of `how`, to Tensor (B, C, D, H, W).
    out : str or Path
        The store to make, by custom `NAME.zarr`.
    how : Prediction
        The settings.
    overwrite : bool
        Start anew where affinities are already.

    Yields
    ------
    Event
        A Progress for each tile, a Message for each that fails.

    Returns
    -------
    dict
        `out`, `seconds`, `voxels_per_second` (of the result), `tiles` (how many were run), `failed`,
        `peak_memory_mb`, `complete`.

    Raises
    ------
    SegmentError
        If something else or another run is at `out`, the disk is full, memory does not suffice, or tiles have failed;
        all others are done then.
    """
    out = Path(out).expanduser()
    started = time.monotonic()
    layout = how.layout(volume)
    grid = TileGrid.cover(layout.shape, how.tile, how.overlap, layout.cell)
    run, failed = 0, list[tuple[Tile, Box]]()
    with _alone(out, layout, overwrite=overwrite) as writer:
        if writer is not None:
            try:
                run = yield from _Run(volume, network, how, grid, writer, failed).go()
                writer.finish([box for _, box in failed])
            except OSError as error:
                raise SegmentError(
                    f"{out}: cannot be written ({error.strerror or error}); make room, and run the same command again: "
                    "what is done is kept."
                ) from error
    if failed:
        raise SegmentError(_say_failed(out, failed, grid.count))
    seconds = time.monotonic() - started
    voxels = layout.shape[0] * layout.shape[1] * layout.shape[2] * run / grid.count
    return {
        "out": str(out),
        "seconds": round(seconds, 1),
        "voxels_per_second": round(voxels / seconds),
        "tiles": run,
        "failed": 0,
        "peak_memory_mb": peak_memory_mb(),
        "complete": True,
    }


@dataclass(frozen=True)
class _Run:
    """What the parts of a run share."""

    volume: Volume
    network: Callable[[Tensor], Tensor]
    how: Prediction
    grid: TileGrid
    writer: AffinityWriter
    failed: list[tuple[Tile, Box]]

    def go(self) -> Generator[Event, None, int]:
        """Run the missing tiles; return how many."""
        behind = Behind()
        sums = CellSums(self.grid, self.writer, behind, budget=self.how.budget, save_after=self.how.save_after)
        try:
            count = yield from self._tiles(sums)
            sums.save()
            behind.close()
        except BaseException:
            with suppress(Exception):  # what stopped the run is what matters
                sums.save()
            with suppress(Exception):
                behind.close()
            raise
        return count

    def _tiles(self, sums: CellSums) -> Generator[Event, None, int]:
        box = self.how.box_in(self.volume)
        start_at = self.how.start_at
        near = None if start_at is None else _minus(start_at, box.start)
        numbers = self.grid.missing_tiles(self.writer.done, sums.held, near)
        network = self._prepared()
        batch = choose_batch(lambda: network.probe(self.grid.tile), torch.device(self.how.device))
        network.batches.size = max(1, min(batch, len(numbers)))
        yield Message(self._say_start(len(numbers), network.batches.size))
        total, run = self.grid.count, 0
        yield Progress(total - len(numbers), total, "predicting")
        reader = TileReader(self.volume, box.start, self.how.intensity, self.grid, numbers)
        with closing(self._answers(reader, len(numbers), network)) as answers:
            for run, tile in enumerate(answers, start=1):
                if tile.values is None:
                    yield self._note_failed(tile, box, others=run - len(self.failed) - 1)
                else:
                    sums.add(tile.number, tile.values)
                yield Progress(total - len(numbers) + run, total, "predicting")
        return run

    def _answers(self, reader: TileReader, count: int, network: TileNetwork) -> Generator[Tile, None, None]:
        """Yield the shares of all tiles; while they are added up, the network works on the next batch."""
        ahead = cast("Generator[Tile, None, None]", iterate(reader, count, workers=_READERS))
        with closing(ahead) as read, ThreadPoolExecutor(1, "network") as thread:
            waiting = None
            while batch := list(islice(read, network.batches.size)):
                begun = thread.submit(network.shares, batch)
                if waiting is not None:
                    yield from waiting.result()
                waiting = begun
            if waiting is not None:
                yield from waiting.result()

    def _prepared(self) -> TileNetwork:
        how, size = self.how, self.how.network_voxel_size_nm
        sees = None
        if size is not None and self.volume.voxel_size_nm is not None:
            sees = Resampling(self.volume.voxel_size_nm, size).shape(self.grid.tile)
        use = NetworkUse(
            how.offsets,
            how.logits,
            torch.device(how.device),
            how.precision,
            orientations(how.tta),
            sees,
            self.writer.layout.uncertainty,
        )
        return TileNetwork(self.network, use, Windows(self.grid))

    def _say_start(self, count: int, batch: int) -> str:
        tile = "x".join(map(str, self.grid.tile))
        rest = "" if count == self.grid.count else f", {count} of them still to do"
        return (
            f"Predicting on {self.how.device} in {self.how.precision}: {self.grid.count} tiles of {tile} voxels{rest}, "
            f"{batch} at a time."
        )

    def _note_failed(self, tile: Tile, box: Box, *, others: int) -> Message:
        where = self.grid.tile_box(tile.number)
        self.failed.append((tile, where))
        if others == 0 and len(self.failed) >= _HOPELESS:
            raise SegmentError(f"The first {len(self.failed)} tiles have all failed: {tile.problem}")
        return Message(f"The tile {where.shifted(box.start)} has failed: {tile.problem}", "warning")


@contextmanager
def _alone(out: Path, layout: AffinityLayout, *, overwrite: bool) -> Iterator[AffinityWriter | None]:
    """Open the store, and keep other runs out of it."""
    was_there = out.is_dir()
    with ExitStack() as locks:
        if was_there:
            locks.enter_context(locked(out))
        writer = _open_writer(out, layout, overwrite=overwrite)
        if not was_there or overwrite:  # it is another folder now
            locks.enter_context(locked(out))
        yield writer


def _open_writer(out: Path, layout: AffinityLayout, *, overwrite: bool) -> AffinityWriter | None:
    """Return the store to write to, None if all is in it already.

    Raises
    ------
    SegmentError
        If something else is there.
    """
    if not out.exists():
        return AffinityWriter.create(out, layout)
    store = open_affinities(out)
    if not store.settings:
        raise SegmentError(f"{out}: is there already, and was not made by predict; choose another --out.")
    if overwrite:
        old = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
        out.rename(old)
        shutil.rmtree(old)
        return AffinityWriter.create(out, layout)
    wanted = layout.settings
    others = [name for name in wanted if name not in _FREE and wanted[name] != store.settings.get(name)]
    is_moved = (store.voxel_size_nm, store.origin_nm) != (layout.voxel_size_nm, layout.origin_nm)
    if is_moved and wanted["network_voxel_size_nm"]:
        others.append("voxel size")
    if others or store.offsets != layout.offsets:
        what = ", ".join(others) or "offsets"
        raise SegmentError(f"{out}: was made with other settings ({what}): choose another --out, or use --overwrite.")
    if is_moved:  # no affinity depends on it where nothing was resampled
        describe(out, layout, complete=store.complete, failed=store.failed)
    return None if store.complete else AffinityWriter(out, layout)


def _minus(one: Triple, other: Triple) -> Triple:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _say_failed(out: Path, failed: list[tuple[Tile, Box]], total: int) -> str:
    first = "; ".join(f"{box} ({tile.problem})" for tile, box in failed[:_NAMED])
    more = "" if len(failed) <= _NAMED else f" and {len(failed) - _NAMED} more"
    return (
        f"{out}: {len(failed)} of {total} tiles have failed, {first}{more}: mend that, and run the same command again; "
        "all others are done."
    )
