"""The stage `finetune`: a volume, sparse labels and a model in; a model that knows this tissue out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.data import (
    IntensityRange,
    check_annotations,
    choose_intensity,
    data_hash,
    open_annotations,
    open_volume,
    summarise,
)
from napari_tokenunify.data.resampled import Resampling, resampled, resampled_annotations
from napari_tokenunify.errors import ConfigError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box, as_triple, parse_voxel_size, voxel_size_mismatch
from napari_tokenunify.network.card import ModelCard, package_versions
from napari_tokenunify.network.checkpoint import load_checkpoint, save_checkpoint
from napari_tokenunify.network.device import choose_device, choose_precision
from napari_tokenunify.network.heap import keep_freed_memory
from napari_tokenunify.network.installed import find_model, installed_models, suggested_model
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.network.tokenunify import build_network
from napari_tokenunify.project import RunPaths, whole_file
from napari_tokenunify.train.affinity_task import AffinityTask
from napari_tokenunify.train.choices import candidate_crops, choose_parts_for, choose_plan
from napari_tokenunify.train.holdout import hold_out
from napari_tokenunify.train.loop import Loop
from napari_tokenunify.train.parts import choose_parts, describe
from napari_tokenunify.train.plan import Plan
from napari_tokenunify.train.ranks import Ranks, join_ranks
from napari_tokenunify.train.record import grown_card, recorded
from napari_tokenunify.train.schedule import Budget
from napari_tokenunify.train.starting import check_disk, measured_intensity, settings_of, with_new_outputs

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from napari_tokenunify.config import FinetuneConfig
    from napari_tokenunify.data.annotation_checks import AnnotationSummary
    from napari_tokenunify.data.annotations import Annotations
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import VoxelSize
    from napari_tokenunify.network.tokenunify import TokenUnify
    from napari_tokenunify.train.parts import Parts
    from napari_tokenunify.train.place_scores import SegmentScores
    from napari_tokenunify.train.state import Standing

_FREE_TO_CHANGE: Final = {"out", "minutes", "steps", "patience", "preview", "preview_seconds", "workers", "device"}


def finetune(config: FinetuneConfig, segment: SegmentScores | None = None) -> Generator[Event, None, dict[str, Any]]:
    """Train a network on what is annotated of a volume; go on with the run that is in the folder, if there is one.

    Parameters
    ----------
    config : FinetuneConfig
        The settings.
    segment : callable, optional
        Scores of segments in what is held out: from affinities (C, Z, Y, X) and labels to numbers by name.

    Returns
    -------
    dict
        `out`, `model` (the weights to use: the best ones on what was held out, or the last), `steps`, `seconds`,
        `parts`, `crop`, `validation_loss` and what else was measured, `peak_memory_mb`.

    Raises
    ------
    AnnotationError, TrainError, VolumeError, ModelError, ConfigError
        In one sentence, before training starts, if data, model and settings do not allow it; TrainError also if
        memory, disk or loss give out on the way.
    """
    paths = RunPaths(Path(config.out).expanduser().resolve())
    return (yield from recorded(_train(config, paths, segment), paths))


def _train(
    config: FinetuneConfig, paths: RunPaths, segment: SegmentScores | None
) -> Generator[Event, None, dict[str, Any]]:
    keep_freed_memory()
    yield Progress(0, 1, "looking at the data")
    data = yield from _open(config)
    yield Progress(0, 1, "preparing the network")
    device = choose_device(config.device)
    ranks, device = join_ranks(device)
    run = yield from _prepare(config, paths, data, device, ranks, segment)
    loop = Loop(run.network, run.task, run.plan, paths, run.id, ranks)
    standing = yield from loop.run()
    best = paths.best if paths.best.exists() else paths.last
    measured = standing.best_metrics if best == paths.best else standing.metrics
    return {
        "out": str(paths.folder),
        "model": str(best),
        "steps": standing.step,
        "seconds": round(standing.seconds, 1),
        "parts": run.parts,
        "crop": list(standing.crop),
        **{name: round(value, 4) for name, value in measured.items()},
        "peak_memory_mb": round(peak_memory_mb()),
    }


@dataclass(frozen=True, eq=False)
class _Data:
    """What is trained on."""

    volume: Volume
    annotations: Annotations
    known_pairs: int
    sections: tuple[int, ...]  # that hold labels
    hashes: tuple[str, str]  # of both


@dataclass(frozen=True, eq=False)
class _Start:
    """What a training starts from, and how it sees its data."""

    network: TokenUnify
    card: ModelCard
    seen: _Data  # at the network's voxel size
    how: Resampling | None
    intensity: IntensityRange
    parts: Parts
    trained: bool  # in whatever way
    labelled: bool  # on labels


@dataclass(frozen=True, eq=False)
class _Run:
    """A training that is ready to start."""

    id: str
    network: TokenUnify
    task: AffinityTask
    plan: Plan
    parts: Parts


def _open(config: FinetuneConfig) -> Generator[Event, None, _Data]:
    """Open volume and annotations, and refuse what nothing can be learnt from."""
    volume = open_volume(config.volume, parse_voxel_size(config.voxel_size) if config.voxel_size else None)
    annotations = open_annotations(
        config.annotations, volume, boundary_id=config.boundary_id, zero_is_boundary=config.zero_is_boundary
    )
    summary = summarise(annotations)
    for finding in check_annotations(annotations, summary):
        if finding.severity == "error":
            raise TrainError(f"{config.annotations}: {finding.message}")
        yield Message(finding.message, "warning" if finding.severity == "warning" else "info")
    known = _known_pairs(config, summary)
    if config.preview is not None and Box.parse(config.preview).clipped(volume.shape) is None:
        raise ConfigError(f"--preview {config.preview} lies outside the volume of {volume.shape} voxels (z, y, x).")
    return _Data(volume, annotations, known, summary.sections, (data_hash(volume), data_hash(annotations)))


def _known_pairs(config: FinetuneConfig, summary: AnnotationSummary) -> int:
    """Return how many pairs are known, unless there is nothing to learn."""
    known, joined = sum(summary.known_pairs), sum(summary.joined_pairs)
    if joined == known:
        raise TrainError(
            f"{config.annotations}: no border between two neurons is known, so there is nothing to learn: paint a "
            "second neuron next to the first until they touch, or the membrane between them (--boundary-id)."
        )
    if not joined:
        raise TrainError(
            f"{config.annotations}: no two voxels are known to lie in one neuron: paint the inside of neurons too."
        )
    return known


def _prepare(
    config: FinetuneConfig,
    paths: RunPaths,
    data: _Data,
    device: torch.device,
    ranks: Ranks,
    segment: SegmentScores | None,
) -> Generator[Event, None, _Run]:
    """Load the network, hold annotations out, and settle on a plan, or on that of the run that is gone on with."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    start = yield from _start(config, data)
    network, seen, run_id = start.network.to(device), start.seen, _run_id(config, start.card, data, start.how)
    before = settings_of(paths, run_id)
    choose_parts(network, start.parts)
    check_disk(paths, network)
    settings: dict[str, Any] = {}  # filled in before the first weights are stored

    def store(path: Path, weights: dict[str, Tensor], standing: Standing) -> None:
        """Save weights with their card."""
        card = grown_card(start.card, network.config, settings, standing)
        save_checkpoint(path, network, card, weights=weights)

    crops = candidate_crops(seen.volume.voxel_size_nm, seen.volume.shape, seen.sections)
    crop = config.crop or (as_triple(before["plan"]["crop"]) if before else crops[0])
    everything = AffinityTask(
        seen.volume, seen.annotations, start.intensity, seen.annotations, (), crop, store, network.config.offsets
    )
    if before:
        plan = _plan_of(before["plan"], config)
    else:
        precision = choose_precision(config.precision, device)
        plan, sentence = choose_plan(config, network, everything, crops, precision, labelled=start.labelled)
        plan = _plan_of(ranks.agree(asdict(plan)), config)  # each has measured for itself
        yield Message(sentence)
    task = yield from _task(config, everything, plan, segment)
    preview = None if config.preview is None else Box.parse(config.preview).clipped(data.volume.shape)
    if preview is not None:
        shown = _affordable(preview, start.how)
        task = replace(task, preview_box=shown, preview_folder=paths.previews, preview_from=start.how)
    network.config = network.config.replace(voxel_size_nm=seen.volume.voxel_size_nm or network.config.voxel_size_nm)
    settings |= {"run": run_id, "name": paths.folder.name, "started": before["started"] if before else started}
    settings |= _settings(config, data, start, task, plan) | {"device": str(device)}
    if ranks.first:
        with whole_file(paths.settings, TrainError) as part:
            part.write_text(json.dumps(settings, indent=1) + "\n")
    return _Run(run_id, network, task, plan, start.parts)


def _start(config: FinetuneConfig, data: _Data) -> Generator[Event, None, _Start]:
    """Load the network, and settle what it is shown and which of its parts learn."""
    network, card, trained = yield from _network(config, data.volume)
    seen, how = yield from _resampled(config, data, card.voxel_size_nm, trained=trained)
    labelled = trained and not card.network.is_pretrained
    parts, why = choose_parts_for(config, labelled=labelled, known_pairs=seen.known_pairs)
    yield Message(f"{describe(parts)} Chosen {why}.")
    intensity, sentence = _intensity(data.volume, card)
    yield Message(sentence)
    return _Start(network, card, seen, how, intensity, parts, trained, labelled)


def _settings(config: FinetuneConfig, data: _Data, start: _Start, task: AffinityTask, plan: Plan) -> dict[str, Any]:
    """Return what `training.json` tells of a run, beside its name and place."""
    card, how = start.card, start.how
    return {
        "stage": "finetune",
        "config": config.model_dump(mode="json"),
        "plan": asdict(plan),
        "parts": start.parts,
        "model": {"name": card.name, "weights_sha256": card.weights_sha256, "trained": start.trained},
        "intensity": measured_intensity(start.seen.volume, start.intensity, plan.crop),
        "held_out": [str(box if how is None else how.back.box(box, data.volume.shape)) for box in task.boxes],
        "data": _described(data),
        "resampled_to_nm": None if how is None else list(how.after),
        "versions": package_versions(),
    }


def _network(config: FinetuneConfig, volume: Volume) -> Generator[Event, None, tuple[TokenUnify, ModelCard, bool]]:
    """Load what is started from: trained weights, pre-trained ones with a new head, or random ones of a size."""
    torch.manual_seed(config.seed)
    model = suggested_model(volume.voxel_size_nm) if config.model == "auto" else config.model
    if model in NETWORK_PRESETS and model not in installed_models():
        shape = NETWORK_PRESETS[model]
        yield Message(
            f"There are no trained weights of the name {model}: the network starts from scratch, so give it "
            "more time and labels than a trained one would need.",
            "warning",
        )
        return build_network(shape), ModelCard(network=shape, name=model), False
    network, card = load_checkpoint(find_model(model))
    if config.model == "auto":
        yield Message(f"It starts from {model}.")
    if card.network.is_pretrained:
        encoder = config.transfer == "encoder"
        network = with_new_outputs(network, DEFAULT_OFFSETS, new_decoder=encoder)
        new = "decoder, as the old one has learnt to paint grey values" if encoder else "last layer for affinities"
        yield Message(f"{model} was pre-trained: it gets a new {new}.")
    return network, card, True


def _resampled(
    config: FinetuneConfig, data: _Data, wanted: VoxelSize | None, *, trained: bool
) -> Generator[Event, None, tuple[_Data, Resampling | None]]:
    """Show a network image and labels at the voxel size that it was trained at, as `predict` does, if it differs."""
    own = data.volume.voxel_size_nm
    different = voxel_size_mismatch(own, wanted) if trained else None
    if different is None:
        return data, None
    if own is None or wanted is None or not config.resample:
        yield Message(f"{different.rstrip('.')}; it has to learn the difference, which takes more labels.", "warning")
        return data, None
    yield Message(f"{different}, so image and labels are resampled to that; --no-resample learns the volume's own.")
    how = Resampling(own, wanted)
    volume, annotations = resampled(data.volume, how), resampled_annotations(data.annotations, how)
    summary = summarise(annotations)
    known = _known_pairs(config, summary)
    return replace(data, volume=volume, annotations=annotations, known_pairs=known, sections=summary.sections), how


def _task(
    config: FinetuneConfig, base: AffinityTask, plan: Plan, segment: SegmentScores | None
) -> Generator[Event, None, AffinityTask]:
    """Hold a part of the annotations out, and put the task together."""
    annotations = base.annotations
    boxes: tuple[Box, ...] = ()
    if config.hold_out > 0:
        found, sentence = hold_out(annotations, base.offsets, plan.crop, config.hold_out, config.seed)
        yield Message(sentence)
        if found is not None:
            annotations, boxes = found.training, found.boxes
    return replace(
        base,
        annotations=annotations,
        boxes=boxes,
        crop=plan.crop,
        kind=config.loss,
        widen=config.widen_borders,
        seed=config.seed,
        segment=segment,
        precision=plan.precision,
    )


def _affordable(preview: Box, how: Resampling | None) -> Box:
    """Return the middle of a preview that has no more voxels for the network than it has in the volume."""
    grows = 1.0 if how is None else 1 / prod(how.factors)
    if grows <= 1:
        return preview
    z, y, x = (max(1, round(n / grows ** (1 / 3))) for n in preview.shape)
    around = [(n - size) // 2 for n, size in zip(preview.shape, (z, y, x), strict=True)]
    start = preview.start
    return Box.whole((z, y, x)).shifted((start[0] + around[0], start[1] + around[1], start[2] + around[2]))


def _intensity(volume: Volume, card: ModelCard) -> tuple[IntensityRange, str]:
    known = card.intensity
    return choose_intensity(volume, None if known is None else IntensityRange(known.low, known.high))


def _run_id(config: FinetuneConfig, card: ModelCard, data: _Data, how: Resampling | None) -> str:
    """Return a hash over everything that decides which steps are taken."""
    chosen = config.model_dump(mode="json", exclude={*_FREE_TO_CHANGE, "resample", "transfer"})
    parts = [chosen, card.weights_sha256, *data.hashes, *([] if how is None else how.after)]
    if config.transfer == "encoder" and card.network.is_pretrained:
        parts.append(config.transfer)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _plan_of(stored: dict[str, Any], config: FinetuneConfig) -> Plan:
    """Return the plan of a run that is gone on with; only its budget, patience and workers may be others now."""
    minutes = None if config.steps is not None else 60 * config.minutes
    changed = {"budget": Budget(config.steps, minutes), "crop": as_triple(stored["crop"]), "patience": config.patience}
    if config.workers is not None:
        changed["workers"] = config.workers
    return Plan(**{**stored, **changed, "preview_seconds": config.preview_seconds})


def _described(data: _Data) -> list[dict[str, Any]]:
    volumes = {"volume": data.volume, "annotations": data.annotations.labels}
    return [
        {
            "role": role,
            "uri": volume.uri,
            "shape": list(volume.shape),
            "dtype": str(volume.dtype),
            "voxel_size_nm": volume.voxel_size_nm,
            "hash": content,
        }
        for (role, volume), content in zip(volumes.items(), data.hashes, strict=True)
    ]
