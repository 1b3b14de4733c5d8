"""From a network to scores, the same way for everybody: loop, loss, augmentation, tiles, fragments, agglomeration.

VOI in bits. What the truth has as 0 does not count, borders are not widened.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset
from napari_tokenunify.config import AgglomerateConfig, FragmentsConfig
from napari_tokenunify.data.annotation_checks import summarise
from napari_tokenunify.data.intensity import IntensityRange, choose_intensity, intensity_range
from napari_tokenunify.data.resampled import Resampling, resampled, resampled_annotations
from napari_tokenunify.geometry import Box, voxel_size_mismatch
from napari_tokenunify.metrics import (
    Contingency,
    adapted_rand_error,
    contingency,
    edits_needed,
    variation_of_information,
)
from napari_tokenunify.segment.agglomeration import BETA_METHODS, TREE_METHODS, agglomerate
from napari_tokenunify.segment.fragments import fragments
from napari_tokenunify.segment.region_graph import RegionGraph, region_graph
from napari_tokenunify.segment.skeleton_scores import made_skeletons, run_length_scores
from napari_tokenunify.segment.tuning import tune, tune_counts

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from data_set import Labelled, Unseen
    from numpy.typing import NDArray
    from torch import nn

    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.geometry import Triple, VoxelSize
    from napari_tokenunify.network.card import ModelCard
    from napari_tokenunify.segment.skeleton_scores import Traced
    from napari_tokenunify.train.affinity_task import AffinityTask
    from napari_tokenunify.train.schedule import Budget

TUNED = 48  # sections of the training part that are predicted to tune the threshold
UNET = "unet"
UNET_DEPTH = 16
BLURS = (1.0, 2.0, 3.0)  # of the raw image, in units of the smallest voxel edge; tuned, as the next one
BOUNDARIES = (0.4, 0.5, 0.6, 0.7, 0.8)
GRAZED = 20  # nodes of another skeleton in a segment that are no merge yet: those of thin tips lie on the border


@dataclass(frozen=True, eq=False)
class Network:
    """A network, and what is known of its weights; `card` is None if it is to start from scratch."""

    module: nn.Module
    offsets: tuple[Offset, ...]
    card: ModelCard | None

    @property
    def knows_labels(self) -> bool:
        """Whether it was trained on labels before."""
        return self.card is not None and not self.card.network.is_pretrained

    @property
    def is_unet(self) -> bool:
        """Whether it is MONAI's."""
        return not hasattr(self.module, "config")

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True, eq=False)
class Pieces:
    """Fragments of a volume and how they touch."""

    graph: RegionGraph
    fragments: NDArray[np.uint64]


def end(events: Generator[Any, None, Any]) -> Any:
    """Run a generator of events and return what it made."""
    while True:
        try:
            next(events)
        except StopIteration as done:
            return done.value


def build(name: str, seed: int) -> Network:
    """Return a network by name: `unet` (MONAI's BasicUNet), a preset from scratch, or a model with its weights."""
    import torch

    from napari_tokenunify.network import NETWORK_PRESETS, build_network
    from napari_tokenunify.network.checkpoint import load_checkpoint
    from napari_tokenunify.network.installed import find_model, installed_models

    torch.manual_seed(seed)
    if name == UNET:
        return Network(_unet(), DEFAULT_OFFSETS, None)
    if name in NETWORK_PRESETS and name not in installed_models():
        return Network(build_network(NETWORK_PRESETS[name]), NETWORK_PRESETS[name].offsets, None)
    module, card = load_checkpoint(find_model(name))
    if card.network.is_pretrained:
        from napari_tokenunify.train.starting import with_new_outputs

        module = with_new_outputs(module, DEFAULT_OFFSETS)
    return Network(module, module.config.offsets, card)


def _unet() -> nn.Module:
    from monai.networks.nets import BasicUNet
    from torch import Tensor, nn
    from torch.nn import functional

    from napari_tokenunify.network.blocks import Conv3d

    class Unet(BasicUNet):
        """MONAI's, for thin volumes too: the last section is repeated until there are as many as it halves."""

        def forward(self, x: Tensor) -> Tensor:
            """Return the logits (batch, 3, z, y, x)."""
            missing = max(0, UNET_DEPTH - x.shape[2])
            logits: Tensor = super().forward(functional.pad(x, (0, 0, 0, 0, 0, missing), mode="replicate"))
            return logits[:, :, : x.shape[2]]

    network = Unet(3, 1, 3)  # 5.7 million parameters
    for module in network.modules():
        if type(module) is nn.Conv3d:  # oneDNN's bf16 gradients are wrong where a kernel is longer than its input
            module.__class__ = Conv3d
    return network


def range_for(network: Network, volume: Volume) -> IntensityRange:
    """Return the grey values that become 0 and 1, as the program chooses them."""
    known = network.card.intensity if network.card else None
    return choose_intensity(volume, None if known is None else IntensityRange(known.low, known.high))[0]


def task_for(network: Network, part: Labelled, seed: int) -> AffinityTask:
    """Return the training of a network on a part, at the voxel size it knows; nothing is stored or held out.

    Crops are those of `finetune`, the smallest it would take, as there is little time; for MONAI's network as flat as
    it can take them.
    """
    from napari_tokenunify.train.affinity_task import AffinityTask
    from napari_tokenunify.train.choices import candidate_crops

    volume, known, size = part.volume, part.annotations, own_size(network, part.volume)
    intensity = range_for(network, volume)
    if size is not None:
        how = Resampling(volume.voxel_size_nm, size)
        volume, known = resampled(volume, how), resampled_annotations(known, how)
    crop = candidate_crops(volume.voxel_size_nm, volume.shape, summarise(known).sections)[-1]
    if network.is_unet:
        crop = _deep_enough(crop)
    return AffinityTask(volume, known, intensity, known, (), crop, lambda *_: None, network.offsets, seed=seed)


def _deep_enough(crop: Triple) -> Triple:
    """Return a crop of about as many voxels, and as many sections as MONAI's network needs: it halves them often."""
    z, y, x = crop
    if z >= UNET_DEPTH:
        return crop
    narrower = (z / UNET_DEPTH) ** 0.5
    return UNET_DEPTH, round(y * narrower / 32) * 32, round(x * narrower / 32) * 32


def own_size(network: Network, volume: Volume) -> VoxelSize | None:
    """Return the voxel size at which a network is shown a volume, as the program does; None: at the volume's."""
    if network.card is None or voxel_size_mismatch(volume.voxel_size_nm, network.card.voxel_size_nm) is None:
        return None
    return network.card.voxel_size_nm


def task_on_several(network: Network, parts: list[Labelled], seed: int) -> AffinityTask:
    """Return the training on several data sets in turns."""
    from napari_tokenunify.train.affinity_task import AffinityTask

    @dataclass(frozen=True, eq=False)
    class OnSeveral(AffinityTask):
        others: tuple[AffinityTask, ...] = ()

        def samples(self, crop: Triple) -> Turns:
            return Turns((AffinityTask.samples(self, crop), *(other.samples(crop) for other in self.others)))

    tasks = [task_for(network, part, seed) for part in parts]
    crop = tuple(min(sizes) for sizes in zip(*(task.crop for task in tasks), strict=True))
    first, *others = (replace(task, crop=crop) for task in tasks)
    return OnSeveral(**vars(first), others=tuple(others))


@dataclass(frozen=True, eq=False)
class Turns:
    """Endless lists that take turns."""

    lists: tuple[Any, ...]

    def __getitem__(self, index: int, /) -> Any:
        """Return the next of the list whose turn it is."""
        return self.lists[index % len(self.lists)][index // len(self.lists)]


def train(network: Network, task: AffinityTask, budget: Budget, folder: Path) -> dict[str, Any]:
    """Train, and leave the average of the weights in the network; return what is to be told of it."""
    from napari_tokenunify.network.device import choose_device, choose_precision
    from napari_tokenunify.project import RunPaths
    from napari_tokenunify.train.choices import GENTLE, usual_learning_rate
    from napari_tokenunify.train.loop import Loop
    from napari_tokenunify.train.plan import Plan

    device = choose_device("auto")
    plan = Plan(
        budget,
        task.crop,
        batch=1 if device.type == "cpu" else 4,
        learning_rate=usual_learning_rate(network.module) * (GENTLE if network.knows_labels else 1),
        average=0.995,
        precision=choose_precision("auto", device),
        checkpoint_seconds=1e9,
        metric_seconds=10.0,
    )
    started = time.monotonic()
    loop = Loop(network.module.to(device), task, plan, RunPaths(folder), "benchmark")
    last: dict[str, float] = {}
    for event in (events := loop.run()):
        last = getattr(event, "values", last)
    events.close()
    loop.average.copy_to(network.module)
    return {
        "steps": loop.standing.step,
        "loss": last.get("loss"),
        "learning_rate": plan.learning_rate,
        "train_seconds": time.monotonic() - started,
    }


def predicted(
    network: Network, volume: Volume, tile: Triple, folder: Path, resample_to: VoxelSize | None = None
) -> NDArray[np.float32]:
    """Return the affinities (C, Z, Y, X) of a volume; tiles overlap by half."""
    from napari_tokenunify.network.device import choose_device, choose_precision
    from napari_tokenunify.segment import Prediction, open_affinities, predict_volume

    device = choose_device("auto")
    if resample_to is not None:
        tile = Resampling(resample_to, volume.voxel_size_nm).shape(tile)
    how = Prediction(
        network.offsets,
        range_for(network, volume),
        tile,
        0.5,
        precision=choose_precision("auto", device),
        device=device.type,
        network_voxel_size_nm=resample_to,
    )
    end(predict_volume(volume, network.module.eval().to(device), folder, how, overwrite=True))
    return open_affinities(folder).read(Box.whole(volume.shape))


def cut(
    affinities: NDArray[np.float32],
    voxel_size_nm: VoxelSize,
    offsets: tuple[Offset, ...] = DEFAULT_OFFSETS,
    boundary_threshold: float | None = None,
) -> Pieces:
    """Return fragments and graph, by default with the settings of `segment`."""
    config = FragmentsConfig(boundary_threshold=boundary_threshold)
    found = fragments(affinities, offsets, config, voxel_size_nm=voxel_size_nm)
    return Pieces(region_graph(found, affinities, offsets), found)


def sections_to_tune(labels: NDArray[np.uint64]) -> slice:
    """Return the stretch of `TUNED` sections with most labels, the last of several."""
    counts = np.r_[0, np.cumsum(np.count_nonzero(labels, axis=(1, 2)))]
    size = min(TUNED, len(labels))
    sums = counts[size:] - counts[: len(counts) - size]
    first = len(sums) - 1 - int(sums[::-1].argmax())
    return slice(first, first + size)


def tuned(name: str, pieces: Pieces, labels: NDArray[np.uint64]) -> tuple[AgglomerateConfig, float]:
    """Return a method with the threshold (beta) that is best on labels, and the VOI there."""
    config = AgglomerateConfig(method=name)  # type: ignore[arg-type]
    found = tune(pieces.graph, pieces.fragments, labels, config)
    field = "beta" if name in BETA_METHODS else "threshold"
    return config.replace(**{field: found.value}), min(point.voi_split + point.voi_merge for point in found.curve)


def from_intensity(volume: Volume, blur: float) -> NDArray[np.float32]:
    """Return affinities that take dark for membrane: the darker one of both voxels, after a blur."""
    size = np.array(volume.voxel_size_nm)
    grey = intensity_range(volume).normalise(volume.read(Box.whole(volume.shape)))
    grey = ndimage.gaussian_filter(grey, blur * size.min() / size)
    found = np.zeros((3, *grey.shape), np.float32)
    for axis in range(3):
        lines, ahead = np.moveaxis(grey, axis, 0), np.moveaxis(found[axis], axis, 0)
        np.minimum(lines[1:], lines[:-1], out=ahead[1:])
    return found


def floor(part: Labelled, unseen: Unseen, name: str) -> tuple[Pieces, AgglomerateConfig, dict[str, float]]:
    """Cut the unseen image by its grey values, with blur, boundary and threshold that suit the training labels best."""
    chosen = sections_to_tune(part.labels)
    size, image = part.volume.voxel_size_nm, _sections(part.volume, chosen)
    tries = []
    for blur in BLURS:
        affinities = from_intensity(image, blur)
        for boundary in BOUNDARIES:
            pieces = cut(affinities, size, boundary_threshold=boundary)
            tries.append((*tuned(name, pieces, part.labels[chosen]), blur, boundary))
    config, _, blur, boundary = min(tries, key=lambda one: one[1])
    found = cut(from_intensity(unseen.volume, blur), size, boundary_threshold=boundary)
    return found, config, {"blur": blur, "boundary_threshold": boundary}


def _sections(volume: Volume, chosen: slice) -> Volume:
    _, height, width = volume.shape
    block = volume.read(Box((chosen.start, 0, 0), (chosen.stop, height, width)))
    return type(volume).from_array(block, volume.voxel_size_nm, "tuning")


def tuning_pieces(network: Network, part: Labelled, tile: Triple, folder: Path) -> tuple[Pieces, NDArray[np.uint64]]:
    """Predict and cut a stretch of what was trained on; return its labels too."""
    chosen = sections_to_tune(part.labels)
    image = _sections(part.volume, chosen)
    pieces = cut(
        predicted(network, image, tile, folder, own_size(network, image)), image.voxel_size_nm, network.offsets
    )
    return pieces, part.labels[chosen]


def agglomerated(
    pieces: Pieces, config: AgglomerateConfig, counts: Contingency
) -> tuple[NDArray[np.uint64], dict[str, Any]]:
    """Return the table of segments, and what is to be told of how it was made."""
    started = time.monotonic()
    table = agglomerate(pieces.graph, config).table
    told: dict[str, Any] = {
        "threshold": config.beta if config.method in BETA_METHODS else config.threshold,
        "agglomerate_seconds": time.monotonic() - started,
    }
    if config.method in TREE_METHODS:  # what a threshold chosen on the truth itself would give
        told["best_voi"] = min(sum(point[1:3]) for point in tune_counts(pieces.graph, counts, config).curve)
    needed = edits_needed(counts, table)
    return table, {**told, "cuts": needed.cuts, "merges": needed.merges}


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores segments of an unseen image."""

    unseen: Unseen
    traced: Traced

    @classmethod
    def of(cls, unseen: Unseen) -> Judge:
        """Make skeletons of the truth."""
        box = Box.whole(unseen.truth.shape)
        read = lambda part: unseen.truth[part.slices]  # noqa: E731
        return cls(unseen, end(made_skeletons(read, box, unseen.volume.voxel_size_nm)))

    def scores(self, pieces: NDArray[np.uint64], table: NDArray[np.uint64]) -> dict[str, Any]:
        """Return the scores of the segments that a table makes of fragments.

        `on` has the scores on the voxels that a reference has segmented, for each that left some out.
        """
        told = _errors(contingency(self.unseen.truth, pieces).relabelled(table))
        told |= self.run_length(table[pieces])
        told["on"] = {}
        for name, reference in self.unseen.references.items():
            if not reference.all():
                there = np.where(reference > 0, self.unseen.truth, np.uint64(0))
                told["on"][name] = _errors(contingency(there, pieces).relabelled(table))
        return told

    def run_length(self, segments: NDArray[np.uint64]) -> dict[str, float]:
        """Return the expected run length, and that of the truth itself; 0 is no segment."""
        box, size = Box.whole(segments.shape), self.unseen.volume.voxel_size_nm
        found = end(run_length_scores(self.traced, lambda part: segments[part.slices], box, size, GRAZED))
        return {
            "run_length_um": found["expected_run_length_um"],
            "run_length_of_um": found["expected_run_length_of_um"],
        }


def _errors(counts: Contingency) -> dict[str, float]:
    split, merge = variation_of_information(counts)
    return {"voi_split": split, "voi_merge": merge, "voi": split + merge, "arand": adapted_rand_error(counts)[0]}


def filled(segments: NDArray[np.uint64], voxel_size_nm: VoxelSize) -> NDArray[np.uint64]:
    """Return segments that have grown into what was left out: the nearest one."""
    if segments.all():
        return segments
    places = ndimage.distance_transform_edt(
        segments == 0, sampling=voxel_size_nm, return_distances=False, return_indices=True
    )
    return segments[tuple(places)]
