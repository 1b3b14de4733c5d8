"""Segments that were made elsewhere, as a segmentation that can be proofread, block by block.

Supervoxels with a table stay the fragments that they are. Segments alone are cut into fragments: along the affinities
where there are some, else where they are thin, and at the faces of blocks. A fragment lies in one segment alone.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from skimage.measure import label

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.config import FragmentsConfig, ImportConfig
from napari_tokenunify.data.fingerprint import data_hash
from napari_tokenunify.data.volume import open_volume
from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box, as_triple, parse_voxel_size
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.project import whole_file
from napari_tokenunify.segment import block_graph, settle
from napari_tokenunify.segment.affinity_store import AffinityStore, open_affinities
from napari_tokenunify.segment.block_work import BlockWork, PlacedVolume, save
from napari_tokenunify.segment.blocks.grid import BlockGrid, fitting_core
from napari_tokenunify.segment.blocks.run import WORK
from napari_tokenunify.segment.blocks.workers import Workers
from napari_tokenunify.segment.folder_run import HOW, Run, about, absolute, alone, joined_hash, prepare
from napari_tokenunify.segment.fragment_store import CHUNK, FRAGMENTS, create_fragments
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.label_affinities import LabelAffinities, Mapping, read_ids
from napari_tokenunify.segment.names import named
from napari_tokenunify.segment.segment_volume import with_threshold
from napari_tokenunify.segment.segmentation import IDS, write_parts, write_spec

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.segment.blocks.grid import Block

METHOD: Final = "import"
_BEGINS, _NAMES = "begins.npy", "names.npy"
_VOXEL_BYTES: Final = 80  # beside the affinities: ids, pieces, distances, queues
_THIN: Final = 0.5  # boundary threshold where affinities are 0 or 1


def import_segments(config: ImportConfig) -> Generator[Event, None, dict[str, Any]]:
    """Make a segmentation of segments from elsewhere, or do what is missing of that.

    Returns
    -------
    dict
        `out`, `fragments`, `edges`, `segments` (numbers of), `method`, `ids` (a table of which segment was which id),
        `seconds`, `peak_memory_mb`, `blocks`, `failed`.

    Raises
    ------
    ConfigError
        If volumes do not fit each other, or the mapping is no table of two columns.
    SegmentError
        If there is no segment, or something else is at `out`, or blocks have failed.
    VolumeError
        If a volume cannot be opened.
    """
    started = time.monotonic()
    names = ("segments", "mapping", "affinities", "volume")
    config = config.replace(**{name: absolute(getattr(config, name)) for name in names})
    mapping = None if config.mapping is None else read_mapping(Path(config.mapping))
    work = _work(config, mapping)
    settings = json.loads(
        json.dumps(
            {
                **config.model_dump(exclude=set(HOW)),
                "block": work.grid.core,
                "offsets": work.affinities.offsets,
                "voxels of the segments": data_hash(_labels(work).volume),
            }
        )
    )
    with alone(work.folder), Workers(min(config.workers, len(work.grid)), config.cluster) as workers:
        spec = prepare(work.folder, settings, ImportConfig, overwrite=config.overwrite)
        run = Run(work, workers)
        if spec is None:
            if config.affinities is not None and mapping is None:
                run.work = yield from with_threshold(work)
            spec = yield from _make(config, run, mapping, settings)
        else:
            yield Message(f"{work.folder} is finished already, with the same settings.")
        shutil.rmtree(work.folder / WORK, ignore_errors=True)
    return {
        "out": str(work.folder),
        **{name: spec[name] for name in ("fragments", "edges", "segments", "method")},
        "ids": str(work.folder / IDS),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(max(run.peak_mb, peak_memory_mb())),
        "blocks": len(work.grid),
        "failed": 0,
    }


def read_mapping(path: Path) -> Mapping:
    """Read which segment each supervoxel belongs to.

    Parameters
    ----------
    path : Path
        A CSV with a header and two columns, supervoxel and segment, or a .npy of shape (N, 2).

    Raises
    ------
    ConfigError
        If it cannot be read, or a supervoxel is in two segments.
    """
    try:
        if path.suffix == ".npy":
            rows = np.load(path, allow_pickle=False)
        else:
            with path.open(newline="", encoding="utf-8") as file:
                lines = list(csv.reader(file))[1:]
            rows = np.array([[int(field) for field in line[:2]] for line in lines if line], np.uint64).reshape(-1, 2)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: is no table of supervoxels and segments ({error}); give a CSV or .npy.") from error
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "ui" or rows.min(initial=0) < 0:
        raise ConfigError(f"{path}: must have two columns of whole numbers: supervoxel and segment.")
    rows = np.unique(rows.astype(np.uint64), axis=0)
    twice = np.flatnonzero(rows[1:, 0] == rows[:-1, 0])
    if len(twice):
        raise ConfigError(f"{path}: names two segments for the supervoxel {rows[twice[0], 0]}: keep one.")
    return Mapping(rows[:, 0].copy(), rows[:, 1].copy())


def _make(
    config: ImportConfig, run: Run, mapping: Mapping | None, settings: dict[str, Any]
) -> Generator[Event, None, dict[str, Any]]:
    """Do all passes and return the spec."""
    work = run.work
    if mapping is None:
        cut = yield from run.blocks("cut", cut_block, "cutting segments into fragments")
        save(work.folder / WORK / _BEGINS, np.cumsum([0, *(one["pieces"] for one in cut)], dtype=np.int64))
        segments = np.concatenate([work.load("names", block) for block in work.grid])
    else:
        yield from run.blocks("cut", list_block, "listing supervoxels")
        names = np.unique(np.concatenate([work.load("names", block) for block in work.grid]))
        save(work.folder / WORK / _NAMES, names)
        segments = mapping(names)
    if not len(segments):
        raise SegmentError(f"{config.segments}: holds no segment: every voxel is 0.")
    yield from run.blocks("settle", number_block if mapping is None else look_up_block, "numbering fragments")
    path, store = work.folder / FRAGMENTS, work.affinities
    origin = as_triple(a + b for a, b in zip(store.origin, work.start, strict=True))
    if not path.exists():
        create_fragments(path, work.grid.shape, work.grid.core, store.voxel_size_nm, origin, store.origin_nm)
    nodes = settle.number_blocks(work)
    written = yield from run.blocks("write", block_graph.write_block, "writing fragments")
    yield Progress(0, 1, "joining fragments into segments")
    graph = block_graph.merge_blocks(work, nodes)
    given = np.zeros(nodes + 1, np.uint64)
    given[settle.numbers_of(work)[1:]] = segments
    ids, inverse = np.unique(given, return_inverse=True)  # 0 is the first of them
    table = inverse.astype(np.uint64)
    write_parts(work.folder, graph, table, None)
    _write_ids(work.folder, named(table, graph.sizes), given)
    for torn in path.rglob("*.partial"):  # what zarr was writing when it was killed
        torn.unlink()
    sources = {"affinities": config.affinities, "segments": config.segments, "mapping": config.mapping}
    spec = {
        **about(work, settings, sources),
        "boundary_threshold": work.config.boundary_threshold,
        "method": METHOD,
        "value": None,
        "fragments": nodes,
        "edges": len(graph.edges),
        "segments": int((ids != 0).sum()),
        "fragments_hash": joined_hash(written),
        "curve": [],
    }
    write_spec(work.folder, spec)
    return spec


def cut_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Cut the segments in a block into fragments, each in one piece and in one segment.

    Returns
    -------
    dict
        `pieces`: how many, their ids are 1..pieces. Their segments are kept beside them.
    """
    ids, store = read_ids(_labels(work).volume, block.core.shifted(_labels(work).start)), work.affinities
    affinities = store.read(block.core.shifted(work.start))
    if isinstance(store, AffinityStore):
        affinities = np.minimum(affinities, known_affinities(ids, store.offsets)[0])
    found = fragments(affinities, store.offsets, work.config, voxel_size_nm=store.voxel_size_nm, mask=ids != 0)
    number = np.unique(ids, return_inverse=True)[1]
    both = number.reshape(ids.shape) * (int(found.max(initial=0)) + 1) + found.astype(np.int64)
    pieces = np.asarray(label(np.where(ids != 0, both + 1, 0), background=0, connectivity=1))  # type: ignore[no-untyped-call]
    _, first = np.unique(pieces, return_index=True)
    first = first[pieces.ravel()[first] != 0]
    work.save_voxels("cut", block, pieces.astype(np.uint32))
    work.save("names", block, ids.ravel()[first])
    return {"pieces": len(first)}


def number_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Give the fragments of a block ids that no other block has."""
    begin, end = np.load(work.folder / WORK / _BEGINS, allow_pickle=False)[block.index : block.index + 2].tolist()
    pieces = work.load_voxels("cut", block, block.core, block.core, np.uint32).astype(np.uint64)
    pieces[pieces != 0] += np.uint64(begin)
    return _keep(work, block, pieces, np.arange(begin + 1, end + 1, dtype=np.uint64))


def list_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Keep which supervoxels lie in a block."""
    ids = np.unique(read_ids(_labels(work).volume, block.core.shifted(_labels(work).start)))
    work.save("names", block, ids[ids != 0])
    return {"supervoxels": int((ids != 0).sum())}


def look_up_block(work: BlockWork, block: Block) -> dict[str, int]:
    """Give the supervoxels of a block their place among all as ids."""
    names = np.load(work.folder / WORK / _NAMES, allow_pickle=False)
    ids = read_ids(_labels(work).volume, block.core.shifted(_labels(work).start))
    places = np.where(ids != 0, np.searchsorted(names, ids) + 1, 0).astype(np.uint64)
    kept = np.unique(places)
    return _keep(work, block, places, kept[kept != 0])


def _keep(work: BlockWork, block: Block, ids: NDArray[np.uint64], kept: NDArray[np.uint64]) -> dict[str, int]:
    work.save("kept", block, kept)
    work.save_voxels("settled", block, ids)
    return {"fragments": len(kept)}


def _labels(work: BlockWork) -> PlacedVolume:
    if work.labels is None:
        raise SegmentError("There are no segments to import.")
    return work.labels


def _work(config: ImportConfig, mapping: Mapping | None) -> BlockWork:
    """Open what is read, see that it fits, and cut the volume into blocks."""
    size = parse_voxel_size(config.voxel_size) if config.voxel_size else None
    labels = open_volume(config.segments, size)
    if labels.dtype.kind not in "ui":
        raise ConfigError(f"{config.segments}: holds {labels.dtype}, but segments are whole numbers: give labels.")
    cutting = FragmentsConfig(**config.model_dump(include=set(FragmentsConfig.model_fields)))
    start: Triple = (0, 0, 0)  # of the labels, where the segmentation begins
    store: AffinityStore | LabelAffinities
    if config.affinities is not None:
        store = open_affinities(config.affinities, config.offsets)
        start = (0, 0, 0) if labels.shape == store.shape else store.origin
        box = Box.whole(store.shape).shifted(start)
        if box.clipped(labels.shape) != box:
            raise ConfigError(
                f"{config.segments}: has the shape {labels.shape}, but the affinities {store.shape} (z, y, x): give "
                "those of the same volume."
            )
    else:
        volume = labels if config.volume is None else open_volume(config.volume, size)
        known, size = config.offsets or DEFAULT_OFFSETS, labels.voxel_size_nm or volume.voxel_size_nm
        store = LabelAffinities(labels, mapping, known, size, _origin(labels, volume), volume.origin_nm)
        cutting = cutting.replace(boundary_threshold=cutting.boundary_threshold or _THIN)
    core = config.block or fitting_core(store.shape, (0, 0, 0), CHUNK, _VOXEL_BYTES + 8 * len(store.offsets))
    grid = BlockGrid(store.shape, core, (0, 0, 0))
    folder = Path(config.out).expanduser().absolute()
    return BlockWork(folder, store, (0, 0, 0), grid, cutting, None, PlacedVolume(labels, start))


def _origin(labels: Volume, volume: Volume) -> Triple:
    """Return the voxel of a volume that segments begin at: its first, or where the corner of a part says it lies."""
    origin: Triple = (0, 0, 0)
    if labels.shape != volume.shape and volume.voxel_size_nm is not None:
        apart = np.subtract(labels.origin_nm, volume.origin_nm) / volume.voxel_size_nm
        origin = as_triple(np.rint(apart))
    box = Box.whole(labels.shape).shifted(origin)
    if box.clipped(volume.shape) != box:
        raise ConfigError(
            f"{labels.uri}: has the shape {labels.shape} and begins at the voxel {origin} (z, y, x), but the volume "
            f"has the shape {volume.shape}: give segments of this volume."
        )
    return origin


def _write_ids(folder: Path, table: NDArray[np.uint64], given: NDArray[np.uint64]) -> None:
    """Write which segment was called what."""
    segments, first = np.unique(table, return_index=True)
    rows = np.stack([segments, given[first]], axis=1)[segments != 0]
    with whole_file(folder / IDS, SegmentError) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("segment", "imported_id"))
        writer.writerows(rows.tolist())
