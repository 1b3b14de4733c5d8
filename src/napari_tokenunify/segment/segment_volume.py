"""The stage `segment`: affinities of any size in, a Segmentation out.

Block by block, each pass after the one before and each ready to go on where it was stopped:

1. cut      core and halo of a block into fragments
2. match    fragments of neighbouring blocks that are the same
3. settle   what neighbouring blocks have cut differently; then ids of the whole volume for all
4. write    the fragments, and measure their contacts; then one region graph, and its agglomeration
5. compare  labels with fragments, if a threshold is tuned on them
"""

from __future__ import annotations

import json
import shutil
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from napari_tokenunify.config import AgglomerateConfig, Config, FragmentsConfig, SegmentConfig
from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.data.fingerprint import data_hash
from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.errors import ConfigError, SegmentError, VolumeError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box, as_triple
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment import block_graph, settle, stitch
from napari_tokenunify.segment.affinity_store import open_affinities
from napari_tokenunify.segment.agglomeration import BETA_METHODS, agglomerate
from napari_tokenunify.segment.block_work import BlockWork, PlacedVolume
from napari_tokenunify.segment.blocks.grid import BlockGrid, fitting_core
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.blocks.workers import Workers
from napari_tokenunify.segment.boundary import in_sections, usual_threshold
from napari_tokenunify.segment.boundary_sample import sampled_threshold
from napari_tokenunify.segment.folder_run import (
    HOW,
    Run,
    about,
    absolute,
    alone,
    joined_hash,
    prepare,
    read_json,
    write_json,
)
from napari_tokenunify.segment.fragment_store import CHUNK, FRAGMENTS, create_fragments
from napari_tokenunify.segment.segmentation import CURVE, write_parts, write_spec
from napari_tokenunify.segment.tuning import tune_counts

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.data import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.segment.affinity_store import AffinityStore
    from napari_tokenunify.segment.region_graph import RegionGraph
    from napari_tokenunify.segment.tuning import Tuning

P = TypeVar("P", bound=Config)
_THRESHOLD, _JOINED = "threshold.json", "joined.json"
_VOXEL_BYTES: Final = 48  # beside the affinities, what cutting a voxel takes: ids, distances, queues
_TOO_LARGE: Final = 0.5  # share of the voxels in one fragment
_WORTH_SAYING: Final = 0.9  # of the usual boundary threshold


def segment(config: SegmentConfig) -> Generator[Event, None, dict[str, Any]]:
    """Cut affinities into fragments and join them into segments, or do what is missing of that.

    Returns
    -------
    dict
        `out`, `fragments`, `edges`, `segments` (numbers of), `boundary_threshold`, `method`, `threshold` or `beta`,
        `tuned` (if it was: the scores at the chosen value, and the file `curve` with those of all), `seconds`,
        `peak_memory_mb` (of the largest process), `blocks`, `failed`.

    Raises
    ------
    SegmentError
        If blocks have failed: which, and why; the others are kept. If something else is at `out`, or the disk is
        full.
    ConfigError
        If settings do not fit the affinities.
    VolumeError
        If mask or labels cannot be opened.
    """
    started = time.monotonic()
    config = config.replace(**{name: absolute(getattr(config, name)) for name in ("affinities", "mask", "tune")})
    work = _work(config)
    settings = _settings(config, work)
    with alone(work.folder), Workers(min(config.workers, len(work.grid)), config.cluster) as workers:
        spec = prepare(work.folder, settings, SegmentConfig, overwrite=config.overwrite)
        run = Run(work, workers)
        if spec is None:
            run.work = yield from with_threshold(work)
            spec = yield from _make(config, run, settings)
        else:
            yield Message(f"{work.folder} is finished already, with the same settings.")
        shutil.rmtree(work.folder / WORK, ignore_errors=True)
    return {
        "out": str(work.folder),
        **{name: spec[name] for name in ("fragments", "edges", "segments", "method")},
        "boundary_threshold": spec.get("boundary_threshold"),
        "beta" if spec["method"] in BETA_METHODS else "threshold": spec["value"],
        **_tuned(work.folder, spec),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(max(run.peak_mb, peak_memory_mb())),
        "blocks": len(work.grid),
        "failed": 0,
    }


def _make(config: SegmentConfig, run: Run, settings: dict[str, Any]) -> Generator[Event, None, dict[str, Any]]:
    """Do all passes and return the spec."""
    work = run.work
    cut = yield from run.blocks("cut", stitch.cut_block, "cutting fragments")
    if not (work.folder / WORK / _JOINED).exists():
        yield from _stitch(run, cut)
    nodes = int(read_json(work.folder / WORK / _JOINED)["fragments"])
    for name in ("cut", "match"):  # may be larger than all else
        shutil.rmtree(work.folder / WORK / name, ignore_errors=True)
    written = yield from run.blocks("write", block_graph.write_block, "writing fragments")
    graph = block_graph.merge_blocks(work, nodes)
    yield from _warning(graph)
    tuning = yield from _tune(config, run, graph)
    if tuning is not None:
        config = config.replace(**{"beta" if config.method in BETA_METHODS else "threshold": tuning.value})
    yield Progress(0, 1, "joining fragments into segments")
    found = agglomerate(graph, _part(config, AgglomerateConfig))
    write_parts(work.folder, graph, found.table, found.tree)
    for torn in (work.folder / FRAGMENTS).rglob("*.partial"):  # what zarr was writing when it was killed
        torn.unlink()
    spec = {
        **about(work, settings, {"affinities": work.affinities.path, "mask": config.mask, "labels": config.tune}),
        "boundary_threshold": work.config.boundary_threshold,
        "method": found.method,
        "value": found.value,
        "fragments": nodes,
        "edges": len(graph.edges),
        "segments": len(np.unique(found.table[1:])),
        "fragments_hash": joined_hash(written),
        "curve": [] if tuning is None else [point._asdict() for point in tuning.curve],
    }
    write_spec(work.folder, spec)
    return spec


def with_threshold(work: BlockWork) -> Generator[Event, None, BlockWork]:
    """Settle from where on a boundary holds, for all blocks alike, and say so where it is less than usual.

    It is kept: blocks that are cut in a later run, when more affinities may be there, are cut as the first ones.
    """
    usual = usual_threshold(sections=in_sections(work.config, work.affinities.voxel_size_nm))
    file = work.folder / WORK / _THRESHOLD
    threshold = read_json(file)
    if threshold is None:
        begun_before = (work.folder / WORK / "cut.jsonl").exists()  # when it was always the usual one
        threshold = work.config.boundary_threshold or (usual if begun_before else (yield from sampled_threshold(work)))
        write_json(file, threshold)
    if work.config.boundary_threshold is None and threshold < _WORTH_SAYING * usual:
        yield Message(
            f"The network is not very sure of its boundaries, so they count from {threshold:.2f} on (usually "
            f"{usual:g}): more training gives better fragments.",
        )
    return replace(work, config=work.config.replace(boundary_threshold=threshold))


def _warning(graph: RegionGraph) -> Generator[Event, None, None]:
    """Say so where no threshold can help: fragments are never cut afterwards."""
    share = graph.sizes.max(initial=0) / max(1, graph.sizes.sum())
    if share > _TOO_LARGE:
        yield Message(
            f"One fragment holds {share:.0%} of all voxels, as the network is sure of too few boundaries. Train longer "
            "or on more labels, or give a lower --boundary-threshold.",
            "warning",
        )


def _stitch(run: Run, cut: list[dict[str, int]]) -> Generator[Event, None, None]:
    """Make fragments of the whole volume out of those of blocks, and the empty store that they go to."""
    work = run.work
    yield from run.blocks("match", stitch.match_block, "matching blocks")
    stitch.join_blocks(work, cut)
    yield from run.blocks("settle", settle.settle_block, "settling borders", settle.rounds(work.grid))
    store = work.affinities
    origin = (store.origin[0] + work.start[0], store.origin[1] + work.start[1], store.origin[2] + work.start[2])
    path, size = work.folder / FRAGMENTS, store.voxel_size_nm
    create_fragments(path, work.grid.shape, work.grid.core, size, origin, store.origin_nm)
    write_json(work.folder / WORK / _JOINED, {"fragments": settle.number_blocks(work)})


def _tuned(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Write the curve as a table, and return the scores at the value that was chosen; nothing if none was tuned."""
    curve: list[dict[str, float]] = spec["curve"]
    if not curve:
        return {}
    rows = [",".join(curve[0]), *(",".join(f"{number:.6g}" for number in point.values()) for point in curve)]
    with whole_file(folder / CURVE, SegmentError) as part:
        part.write_text("\n".join([*rows, ""]), encoding="utf-8")
    chosen = next(point for point in curve if point["value"] == spec["value"])
    scores = {name: number for name, number in chosen.items() if name != "value"}
    return {"tuned": {**scores, "curve": str(folder / CURVE)}}


def _tune(config: SegmentConfig, run: Run, graph: RegionGraph) -> Generator[Event, None, Tuning | None]:
    """Try thresholds or betas on the labels, if there are any."""
    if config.tune is None:
        return None
    yield from run.blocks("compare", block_graph.compare_block, "comparing with labels")
    counts = block_graph.merge_comparisons(run.work).without(config.ignore)
    yield Progress(0, 1, "trying thresholds")
    return tune_counts(graph, counts, _part(config, AgglomerateConfig))


def _work(config: SegmentConfig) -> BlockWork:
    """Open what is read and cut the volume into blocks."""
    store = open_affinities(config.affinities, config.offsets)
    box = Box.parse(config.box) if config.box else Box.whole(store.shape)
    if box.clipped(store.shape) != box:
        raise ConfigError(f"The box {box} reaches outside the affinities, which are {Box.whole(store.shape)}.")
    voxel_bytes = _VOXEL_BYTES + 8 * len(store.offsets)
    core = config.block or fitting_core(box.shape, config.halo, CHUNK, voxel_bytes)
    return BlockWork(
        Path(config.out).expanduser().absolute(),
        store,
        box.start,
        BlockGrid(box.shape, core, config.halo),
        _part(config, FragmentsConfig),
        _placed(config.mask, store, box),
        _placed(config.tune, store, box),
    )


def _placed(uri: str | None, store: AffinityStore, box: Box) -> PlacedVolume | None:
    """Open a volume that lies over the affinities, or over the volume that they were predicted from."""
    if uri is None:
        return None
    volume = open_volume(uri)
    is_whole = volume.shape == store.shape
    placed = box if is_whole else box.shifted(store.origin)
    if placed.clipped(volume.shape) != placed or not (is_whole or any(store.origin) or _is_part_of(volume, store)):
        raise ConfigError(
            f"{uri}: has the shape {volume.shape}, but the affinities {store.shape} (z, y, x): give one of the same "
            "volume."
        )
    return PlacedVolume(volume, placed.start)


def _is_part_of(volume: Volume, store: AffinityStore) -> bool:
    """Whether affinities that begin at the first voxel were predicted from a part of a volume of this shape."""
    try:
        return open_volume(str(store.settings.get("volume", ""))).shape == volume.shape
    except VolumeError:
        return False


def _settings(config: SegmentConfig, work: BlockWork) -> dict[str, Any]:
    """Return what decides on the result, as plain values."""
    store = work.affinities
    settings = {
        **config.model_dump(exclude=set(HOW)),
        "block": work.grid.core,
        "shape": store.shape,
        "offsets": store.offsets,
        "made_of": store.settings,
    }
    if not store.settings:  # not ours, so nothing says what they were made of
        middle = Box.centred((16, 64, 64), as_triple(n // 2 for n in store.shape)).clipped(store.shape)
        with suppress(SegmentError):  # what cannot be read is told by the block that needs it
            settings["values of the affinities"] = zlib.crc32(store.read(middle or Box.whole(store.shape)).tobytes())
    if work.mask is not None:
        settings["voxels of the mask"] = data_hash(work.mask.volume)
    if work.labels is not None:
        settings["voxels of the labels"] = data_hash(Annotations(work.labels.volume))
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _part(config: SegmentConfig, kind: type[P]) -> P:
    """Return the fields of a Config that this one is made of."""
    return kind(**config.model_dump(include=set(kind.model_fields)))
