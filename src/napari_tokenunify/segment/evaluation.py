"""The stage `evaluate`: a segmentation against labels, block by block, in numbers and in places worth looking at."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokenunify.affinities import widen_borders
from napari_tokenunify.data.annotation_files import drawing_files
from napari_tokenunify.data.annotations import Annotations, open_annotations
from napari_tokenunify.data.label_blocks import label_blocks
from napari_tokenunify.data.source import Location
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.metrics import (
    Contingency,
    ContingencySum,
    adapted_rand_error,
    contingency,
    edits_needed,
    pair_runs,
    variation_of_information,
)
from napari_tokenunify.segment.neuron_scores import NeuronScore, Piece, worst_neurons
from napari_tokenunify.segment.skeleton_scores import made_skeletons, read_skeletons, run_length_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from napari_tokenunify.config import EvaluateConfig
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.fragment_store import StoredFragments
    from napari_tokenunify.segment.segmentation import Segmentation

_LISTED = 3  # pieces of a neuron, and neurons merged with it, whose place is looked for


def evaluate(
    config: EvaluateConfig, opened: Callable[[Path], Segmentation] | None = None
) -> Generator[Event, None, dict[str, Any]]:
    """Score a segmentation against labels, sparse or dense; memory does not grow with the volume.

    Parameters
    ----------
    config : EvaluateConfig
        What is compared.
    opened : callable, optional
        Opens a segmentation folder, e.g. as it was edited; by default as it was agglomerated.

    Returns
    -------
    dict
        `voi_split`, `voi_merge`, `voi` (their sum; bits), `adapted_rand_error`, `rand_precision`,
        `rand_recall`, `voxels`, `neurons`, `segments` (what was counted; segment 0 is none), `borders`
        ("raw" or "widened"), `ignored` (how many ids of the labels were ignored, beside those named, as they are
        too small), `edits` (`cuts` and `merges`; only for a segmentation folder), `worst` (a list of dicts:
        `neuron`, `voxels`, `voi_split`, `voi_merge`, `pieces`, `largest_share`, `merged_with`, `places`, `message`),
        `seconds`; if skeletons are given or asked for, `expected_run_length_um`, `expected_run_length_of_um` (that of
        a perfect segmentation) and `skeletons` (their number).
        A place is a dict `neuron`, `segment`, `at`: a voxel (z, y, x) of the volume that both hold.

    Raises
    ------
    SegmentError
        If no labelled voxel is left to count, or ids are negative.
    AnnotationError
        If the labels are not of this segmentation: another shape or voxel size, or no ids.
    VolumeError
        If a file cannot be opened or read.
    """
    started = time.monotonic()
    pair = _open(config, opened)
    box = _checked_box(config, pair.covered)
    small = yield from _small_ids(pair.labels, config.min_size)
    pair = pair.ignoring(config, small)
    blocks = _blocks(pair.labels, box, with_empty=0 not in pair.ignored)
    fragments = yield from _counted(blocks, "comparing", pair.count)
    counts = pair.segments(fragments).without(segments=config.ignore_segments)
    if not len(counts):
        raise SegmentError(
            f"{pair.labels.labels.uri}: no labelled voxel is left to compare in the box {box}: choose another box, or "
            "ignore fewer ids."
        )
    yield from _remarks(counts, config)
    lengths = yield from _run_lengths(config, pair, box)
    worst = worst_neurons(counts, config.worst)
    places = yield from _places(blocks, pair, worst)
    return {
        **_scores(counts),
        **lengths,
        "borders": "widened" if config.widen_borders else "raw",
        "ignored": len(small),
        **({} if pair.table is None else {"edits": asdict(edits_needed(fragments, pair.table))}),
        "worst": [_described(score, places) for score in worst],
        "seconds": round(time.monotonic() - started, 1),
    }


@dataclass(frozen=True, eq=False)
class _Pair:
    """Labels and what is compared with them: voxels, and for a segmentation folder its table fragment -> segment."""

    labels: Annotations
    volume: Volume
    table: NDArray[np.uint64] | None
    covered: Box
    ignored: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    widen: bool = False

    def ignoring(self, config: EvaluateConfig, small: NDArray[np.uint64]) -> _Pair:
        named = [*config.ignore, *([0] if config.widen_borders else [])]  # borders become 0
        ignored = np.union1d(small, np.array(named, np.uint64))
        return replace(self, ignored=ignored, widen=config.widen_borders)

    def read(self, box: Box) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        """Read ids of the labels, and of the volume."""
        return self._truth(box), self.volume.read(box)

    def read_segments(self, box: Box) -> NDArray[np.uint64]:
        """Read segments, not fragments."""
        ids: NDArray[np.uint64] = self.volume.read(box)
        return ids if self.table is None else self.table[ids]

    def counted_truth(self, box: Box) -> NDArray[np.uint64]:
        """Read ids of the labels, 0 where they are ignored."""
        ids = self._truth(box)
        ids[np.isin(ids, self.ignored)] = 0
        return ids

    def count(self, box: Box) -> Contingency:
        return contingency(*self.read(box), ignore=self.ignored)

    def segments(self, fragments: Contingency) -> Contingency:
        return fragments if self.table is None else fragments.relabelled(self.table)

    def _truth(self, box: Box) -> NDArray[np.uint64]:
        if not self.widen:
            return self.labels.read(box)
        around = box.grown((0, 1, 1)).clipped(self.labels.shape) or box  # what a 3x3 window sees
        ids = self.labels.read(around)
        ids[np.isin(ids, self.ignored)] = 0
        return widen_borders(ids)[box.seen_from(around.start).slices]


def _open(config: EvaluateConfig, opened: Callable[[Path], Segmentation] | None) -> _Pair:
    folder = Path(config.segmentation).expanduser()
    if (folder / "fragments.zarr").is_dir():
        return _open_folder(folder, config, opened)
    if config.threshold is not None:
        raise ConfigError(f"{config.segmentation} is no segmentation folder and has no thresholds: leave it out.")
    volume = open_volume(config.segmentation)
    return _Pair(open_annotations(config.labels, volume), volume, None, Box.whole(volume.shape))


@dataclass(frozen=True, eq=False)
class _Placed:
    """A lazy array that is a part of a volume, read by the coordinates of the volume; there is nothing elsewhere."""

    array: StoredFragments
    origin: Triple
    shape: Triple

    @property
    def dtype(self) -> np.dtype[np.uint64]:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return 3

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint64]:
        here = (slice(part.start - o, part.stop - o) for part, o in zip(index, self.origin, strict=True))
        return self.array[tuple(here)]


def _open_folder(folder: Path, config: EvaluateConfig, opened: Callable[[Path], Segmentation] | None) -> _Pair:
    """Open the fragments and the table of a segmentation, which may be one of a part of the labelled volume."""
    from napari_tokenunify.segment.segmentation import Segmentation

    segmentation = (opened or Segmentation.open)(folder)
    table = segmentation.table if config.threshold is None else segmentation.at(config.threshold)
    covered = segmentation.covered
    location = Location.parse(config.labels)
    is_drawn = not location.is_remote and not location.inner and bool(drawing_files(location.path))
    shape = covered.stop if is_drawn else open_volume(config.labels).shape
    if covered.clipped(shape) != covered:
        raise SegmentError(
            f"{folder}: is of the box {covered} of its volume, but the labels are {Box.whole(shape)}: give the labels "
            "that were made on this volume."
        )
    placed: Any = _Placed(segmentation.fragments, covered.start, shape)
    volume = Volume.from_array(placed, segmentation.voxel_size_nm, str(folder))
    volume = replace(volume, origin_nm=segmentation.origin_nm)
    return _Pair(open_annotations(config.labels, volume), volume, table, covered)


def _checked_box(config: EvaluateConfig, covered: Box) -> Box:
    box = Box.parse(config.box) if config.box else covered
    if any(a < b for a, b in zip(box.start, covered.start, strict=True)) or box.clipped(covered.stop) != box:
        raise ConfigError(f"The box {box} reaches outside what was segmented, {covered}: give a smaller one.")
    return box


def _blocks(labels: Annotations, box: Box, *, with_empty: bool) -> list[Box]:
    """Return the parts of a box that hold labels."""
    back = (-box.start[0], -box.start[1], -box.start[2])
    parts = (part.shifted(back).clipped(box.shape) for part in label_blocks(labels.labels, (0, 0, 0), with_empty))
    return [part.shifted(box.start) for part in parts if part is not None]


def _counted(blocks: list[Box], what: str, count: Callable[[Box], Contingency]) -> Generator[Event, None, Contingency]:
    counts = ContingencySum()
    for done, block in enumerate(blocks):
        yield Progress(done, len(blocks), what)
        counts.add(count(block))
    yield Progress(len(blocks), len(blocks), what)
    return counts.result()


def _small_ids(labels: Annotations, voxels: int) -> Generator[Event, None, NDArray[np.uint64]]:
    """Return the ids with fewer voxels than this in all the labels, whatever the box."""
    if voxels < 2:
        return np.empty(0, np.uint64)

    def count(block: Box) -> Contingency:
        ids = labels.read(block)
        return contingency(ids, ids)

    counts = yield from _counted(_blocks(labels, Box.whole(labels.shape), with_empty=False), "counting labels", count)
    return counts.small(voxels)


def _remarks(counts: Contingency, config: EvaluateConfig) -> Generator[Event, None, None]:
    """Say what is easily overlooked in the numbers."""
    gaps = int(counts.voxels[counts.segments == 0].sum())
    if gaps:
        yield Message(
            f"{gaps / counts.total:.1%} of the labelled voxels are in segment 0, which counts as one segment: "
            "--ignore-segments 0 leaves them out.",
            "warning",
        )
    if 0 not in config.ignore and not config.widen_borders:
        yield Message("Label 0 is not ignored, so what is unlabelled counts as one neuron.", "warning")


def _run_lengths(config: EvaluateConfig, pair: _Pair, box: Box) -> Generator[Event, None, dict[str, Any]]:
    """Return the expected run length, if it is wanted."""
    if config.skeletons is None and not config.run_length:
        return {}
    size = pair.volume.voxel_size_nm or pair.labels.voxel_size_nm
    if size is None:
        raise SegmentError(
            f"{config.segmentation}: the expected run length needs a voxel size, and neither this nor the labels say "
            "one: give files that do."
        )
    volume = pair.volume if pair.volume.voxel_size_nm else pair.labels.labels
    if config.skeletons is not None:
        traced = read_skeletons(config.skeletons, volume, config.skeleton_unit)
    else:
        traced = yield from made_skeletons(pair.counted_truth, box, size)
    return (yield from run_length_scores(traced, pair.read_segments, box, size, config.merge_nodes))


def _scores(counts: Contingency) -> dict[str, Any]:
    split, merge = variation_of_information(counts, ignore=())
    error, precision, recall = adapted_rand_error(counts, ignore=())
    return {
        "voi_split": split,
        "voi_merge": merge,
        "voi": split + merge,
        "adapted_rand_error": error,
        "rand_precision": precision,
        "rand_recall": recall,
        "voxels": counts.total,
        "neurons": len(np.unique(counts.truth)),
        "segments": int(np.count_nonzero(np.unique(counts.segments))),
    }


def _places(
    blocks: list[Box], pair: _Pair, worst: tuple[NeuronScore, ...]
) -> Generator[Event, None, dict[Piece, list[int]]]:
    """Find a voxel well inside each of the pieces that are listed: the middle of its longest run along x."""
    wanted = sorted({piece for score in worst for piece in _listed(score)}, key=lambda piece: piece.neuron)
    if not wanted:
        return {}
    longest = np.zeros(len(wanted), np.int64)
    at = np.zeros((len(wanted), 3), np.int64)
    for done, block in enumerate(blocks):
        yield Progress(done, len(blocks), "looking for the worst")
        ids, fragments = pair.read(block)
        start, neurons, segments, length = pair_runs(ids, fragments)
        number = _numbers(wanted, neurons, segments if pair.table is None else pair.table[segments])
        for i in np.unique(number[number >= 0]):
            runs = np.flatnonzero(number == i)
            run = runs[np.argmax(length[runs])]
            if length[run] > longest[i]:
                longest[i] = length[run]
                at[i] = np.array(np.unravel_index(start[run] + length[run] // 2, block.shape)) + block.start
    return dict(zip(wanted, at.tolist(), strict=True))


def _numbers(wanted: list[Piece], neurons: NDArray[np.uint64], segments: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return for each run which of the wanted pieces it belongs to, -1 for none."""
    rows = np.unique(np.array([piece.neuron for piece in wanted], np.uint64))
    columns = np.unique(np.array([piece.segment for piece in wanted], np.uint64))
    table = np.full((len(rows), len(columns)), -1)
    for number, piece in enumerate(wanted):
        place = np.searchsorted(rows, np.uint64(piece.neuron)), np.searchsorted(columns, np.uint64(piece.segment))
        table[place] = number
    row = np.searchsorted(rows, neurons).clip(max=len(rows) - 1)
    column = np.searchsorted(columns, segments).clip(max=len(columns) - 1)
    known = (rows[row] == neurons) & (columns[column] == segments)
    return np.where(known, table[row, column], -1)


def _listed(score: NeuronScore) -> tuple[Piece, ...]:
    return score.pieces[:_LISTED] + score.merges[:_LISTED]


def _described(score: NeuronScore, places: dict[Piece, list[int]]) -> dict[str, Any]:
    """Return a neuron's line of the table as plain values, and as a sentence."""
    return {
        "neuron": score.neuron,
        "voxels": score.voxels,
        "voi_split": score.voi_split,
        "voi_merge": score.voi_merge,
        "pieces": len(score.pieces),
        "largest_share": score.largest_share,
        "merged_with": [piece.neuron for piece in score.merges],
        "places": [{"neuron": piece.neuron, "segment": piece.segment, "at": places[piece]} for piece in _listed(score)],
        "message": _sentence(score, places),
    }


def _sentence(score: NeuronScore, places: dict[Piece, list[int]]) -> str:
    """Say what is wrong with a neuron, and where."""

    def where(pieces: tuple[Piece, ...], field: str) -> str:
        ids = [f"{getattr(piece, field)} ({','.join(map(str, places[piece]))})" for piece in pieces[:_LISTED]]
        more = f" and {len(pieces) - _LISTED} more" if len(pieces) > _LISTED else ""
        return ", ".join(ids) + more

    parts = [f"neuron {score.neuron}: split {score.voi_split:.3f}, merge {score.voi_merge:.3f}"]
    parts.append(f"the largest piece is {score.largest_share:.0%} of it")
    if score.pieces:
        parts.append(f"in segments {where(score.pieces, 'segment')}")
    if score.merges:
        parts.append(f"merged with neurons {where(score.merges, 'neuron')}")
    return ", ".join(parts)
