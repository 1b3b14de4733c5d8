"""One run of the segmentation benchmark: train, predict, agglomerate, score. For the arms see `segmentation.py`."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data_set import fitting, testing_part, training_part
from quality import (
    Judge,
    agglomerated,
    build,
    cut,
    filled,
    floor,
    own_size,
    predicted,
    task_for,
    task_on_several,
    train,
    tuned,
    tuning_pieces,
)
from suggestions import ORDERS, Start, boxes_of, followed

from napari_tokenunify.config import AgglomerateConfig, Config
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.export.pictures import save_pictures
from napari_tokenunify.metrics import contingency
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.segment.names import named
from napari_tokenunify.train.schedule import Budget

if TYPE_CHECKING:
    from data_set import DataSet, Unseen
    from numpy.typing import NDArray
    from quality import Pieces

UNTRAINED = ("none", "resampled")
FLOOR = "intensity"


class Run(Config):
    """One run, as its process is told of it."""

    set: str
    """Name of the data set."""
    arm: str
    """NETWORK/LABELS, `intensity`, or the name of a reference."""
    seed: int
    """Of crops, scribbles and fresh weights."""
    minutes: float | None
    """Of training; None where there is none, or steps are counted."""
    steps: int | None
    """Of training."""
    methods: tuple[str, ...]
    """Of agglomeration."""
    proofread: int = 0
    """How many answers the automatic proofreader gives at most; 0: it does not work."""
    until: float | None = None
    """The VOI that it works towards, beside half of the first one."""

    @property
    def network(self) -> str:
        """What the arm trains or uses."""
        return self.arm.rpartition("/")[0]

    @property
    def labels(self) -> str:
        """What it is trained on."""
        return self.arm.rpartition("/")[2]

    def is_in(self, row: dict[str, Any]) -> bool:
        """Tell whether a row of the results is that of this run."""
        same = all(row[name] == getattr(self, name) for name in ("set", "arm", "seed"))
        same = same and row["asked_minutes"] == self.minutes and row["asked_steps"] == self.steps
        proofread = (self.proofread, self.until) in ((0, None), (row["proofread"], row["until"]))
        return same and proofread and (set(self.methods) <= row["scores"].keys() or "segments" in row["scores"])


def run(one: Run, sets: dict[str, DataSet], data: Path, pictures: Path | None) -> dict[str, Any]:
    """Do one run and return its row."""
    unseen = testing_part(sets[one.set], data)
    judge = Judge.of(unseen)
    if one.network:
        told, scores, shown = _network(one, sets, data, judge)
    elif one.arm == FLOOR:
        told, scores, shown = _floor(one, sets[one.set], data, judge)
    else:
        told, scores, shown = _reference(one, unseen, judge)
    if pictures is not None:
        _save_pictures(one, unseen, shown, pictures)
    return {
        "set": one.set,
        "arm": one.arm,
        "seed": one.seed,
        "asked_minutes": one.minutes,
        "asked_steps": one.steps,
        "proofread": one.proofread,
        "until": one.until,
        **told,
        "scores": scores,
        **_gpu_memory(),
        "peak_memory_mb": peak_memory_mb(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def _network(one: Run, sets: dict[str, DataSet], data: Path, judge: Judge) -> tuple[dict[str, Any], ...]:
    """Train as the arm says, predict, agglomerate."""
    found, unseen = sets[one.set], judge.unseen
    network = build(one.network, one.seed)
    told: dict[str, Any] = {"parameters": network.parameters, "labelled": 0}
    budget = Budget(one.steps, None if one.minutes is None else 60 * one.minutes)
    with tempfile.TemporaryDirectory() as place:
        folder, tuning = Path(place), None
        tile = fitting(found.tile, unseen.volume.shape)
        if one.labels == "others":
            others = [other for name, other in sets.items() if name != one.set]
            parts = [training_part(other, data, "dense", one.seed) for other in others]
            told |= train(network, task_on_several(network, parts, one.seed), budget, folder)
        elif one.labels not in UNTRAINED:
            part = training_part(found, data, one.labels, one.seed)
            told["labelled"] = int(np.count_nonzero(part.annotations.labels.dask().compute()))
            told |= train(network, task_for(network, part, one.seed), budget, folder)
            tuning = tuning_pieces(network, part, fitting(found.tile, part.volume.shape), folder / "tuning.zarr")
        resample_to = None if one.labels == "none" else own_size(network, unseen.volume)
        started = time.monotonic()
        affinities = predicted(network, unseen.volume, tile, folder / "test.zarr", resample_to)
        told["predict_seconds"] = time.monotonic() - started
    pieces = cut(affinities, found.voxel_size_nm, network.offsets)
    told["segment_seconds"] = time.monotonic() - started - told["predict_seconds"]
    configs = {name: tuned(name, *tuning)[0] if tuning else AgglomerateConfig(method=name) for name in one.methods}
    return told, *_scored(one, pieces, configs, judge)


def _floor(one: Run, found: DataSet, data: Path, judge: Judge) -> tuple[dict[str, Any], ...]:
    started = time.monotonic()
    part = training_part(found, data, "dense", one.seed)
    scores, shown, told = {}, {}, {"labelled": int(np.count_nonzero(part.labels))}
    for name in one.methods:
        pieces, config, chosen = floor(part, judge.unseen, name)
        some, pictures = _scored(one, pieces, {name: config}, judge)
        scores[name] = {**some[name], **chosen}
        shown |= pictures
    told["segment_seconds"] = time.monotonic() - started
    return told, scores, shown


def _reference(one: Run, unseen: Unseen, judge: Judge) -> tuple[dict[str, Any], ...]:
    """Score what others made: everywhere with its gaps filled, and on what it has segmented."""
    given = unseen.references[one.arm]
    whole = filled(given, unseen.volume.voxel_size_nm)
    names, places = np.unique(whole, return_inverse=True)
    table = np.arange(1, len(names) + 1, dtype=np.uint64)
    scores = judge.scores(places.reshape(whole.shape).astype(np.uint64), table)
    scores |= judge.run_length(given)
    told = {"labelled": None, "segmented": float(np.count_nonzero(given) / given.size)}
    return told, {"segments": scores}, {"segments": given}


def _scored(
    one: Run, pieces: Pieces, configs: dict[str, AgglomerateConfig], judge: Judge
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint64]]]:
    """Return the scores of each method, and the segments of each."""
    counts = contingency(judge.unseen.truth, pieces.fragments)
    scores, shown = {}, {}
    for name, config in configs.items():
        table, told = agglomerated(pieces, config, counts)
        scores[name] = {**judge.scores(pieces.fragments, table), **told}
        if one.proofread:
            scores[name] |= _proofread(one, pieces, table, counts)
        shown[name] = table[pieces.fragments]
    return scores, shown


def _proofread(one: Run, pieces: Pieces, table: NDArray[np.uint64], counts: Any) -> dict[str, Any]:
    """Let the automatic proofreader follow the program's suggestions; None where it does not get that far."""
    start = Start(one.arm, pieces.graph, named(table, pieces.graph.sizes), counts, boxes_of(pieces.fragments))
    curve = followed(start, ORDERS["ours"][0], one.proofread)
    told: dict[str, Any] = {"voi_proofread": float(curve.voi[-1]), "answers": len(curve.voi) - 1}
    goals = {"half": curve.voi[0] / 2} | ({} if one.until is None else {"goal": one.until})
    for name, goal in goals.items():
        answers = curve.reached(goal)
        told[f"answers_to_{name}"] = answers
        told[f"edits_to_{name}"] = None if answers is None else int(curve.edits[answers])
    return told


def _save_pictures(one: Run, unseen: Unseen, shown: dict[str, NDArray[np.uint64]], folder: Path) -> None:
    arm = re.sub(r"[^\w-]+", "-", f"{Path(one.network).name}-{one.labels}").strip("-")
    over = {f"{arm}-{name}" if len(shown) > 1 else arm: ids for name, ids in shown.items()}
    over["truth"] = unseen.truth
    size = unseen.volume.voxel_size_nm
    save_pictures(unseen.volume, {name: Volume.from_array(ids, size) for name, ids in over.items()}, folder / one.set)


def _gpu_memory() -> dict[str, float]:
    import torch

    return {"peak_gpu_memory_mb": torch.cuda.max_memory_allocated() / 1e6} if torch.cuda.is_available() else {}
