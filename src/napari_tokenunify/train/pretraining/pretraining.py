"""The stage `pretrain`: volumes without labels and a recipe in; a network that knows what tissue looks like out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file

from napari_tokenunify.errors import ConfigError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import as_triple, voxel_size_mismatch
from napari_tokenunify.network.card import ModelCard, head_file, package_versions
from napari_tokenunify.network.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from napari_tokenunify.network.device import choose_device, choose_precision
from napari_tokenunify.network.heap import keep_freed_memory
from napari_tokenunify.network.installed import find_model, installed_models
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.network.tokenunify import build_network
from napari_tokenunify.project import RunPaths, whole_file
from napari_tokenunify.train.choices import candidate_crops, fits_in_memory, usual_learning_rate, usual_workers
from napari_tokenunify.train.loop import Loop
from napari_tokenunify.train.plan import Plan
from napari_tokenunify.train.pretraining.heads import PretrainingNetwork, build_head, load_head
from napari_tokenunify.train.pretraining.pretraining_task import PretrainingTask
from napari_tokenunify.train.pretraining.recipes import Recipe, load_recipe
from napari_tokenunify.train.pretraining.sources import open_sources, parts_of
from napari_tokenunify.train.pretraining.tokens import TokenGrid, scales
from napari_tokenunify.train.ranks import Ranks, join_ranks
from napari_tokenunify.train.record import grown_card, recorded
from napari_tokenunify.train.schedule import Budget
from napari_tokenunify.train.starting import check_disk, measured_intensity, settings_of, with_new_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from napari_tokenunify.config import PretrainConfig
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.network.tokenunify import TokenUnify
    from napari_tokenunify.train.pretraining.sources import Source
    from napari_tokenunify.train.state import Standing

_ITSELF: Final = ((0, 0, 0),)  # the one output of a network that predicts grey values
_OF_A_SWEEP: Final = {"sweep", "annotations", "boundary_id", "zero_is_boundary", "finetune_minutes", "seeds"}
_FREE_TO_CHANGE: Final = {"out", "minutes", "steps", "preview_seconds", "workers", "device", "licences", *_OF_A_SWEEP}
_BATCH_ON_GPU: Final = 4


def pretrain(config: PretrainConfig) -> Generator[Event, None, dict[str, Any]]:
    """Train a network without labels; go on with the run that is in the folder, if there is one.

    Parameters
    ----------
    config : PretrainConfig
        The settings.

    Returns
    -------
    dict
        `out`, `model` (the weights to use), `recipe`, `steps`, `seconds`, `crop`, `validation_loss` and what else was
        measured on the sections held out, `peak_memory_mb`.

    Raises
    ------
    VolumeError, ModelError, ConfigError, TrainError
        In one sentence, before training starts, if data, recipe, model and settings do not allow it; TrainError also
        if memory, disk or loss give out on the way.
    """
    paths = RunPaths(Path(config.out).expanduser().resolve())
    return (yield from recorded(_train(config, paths), paths))


def _train(config: PretrainConfig, paths: RunPaths) -> Generator[Event, None, dict[str, Any]]:
    keep_freed_memory()
    recipe = _recipe(config)
    sources = yield from open_sources(config)
    yield Progress(0, 1, "preparing the network")
    ranks, device = join_ranks(choose_device(config.device))
    run = yield from _prepare(config, recipe, paths, sources, (ranks, device))
    standing = yield from Loop(run.network, run.task, run.plan, paths, run.id, ranks).run()
    best = paths.best if paths.best.exists() else paths.last
    measured = standing.best_metrics if best == paths.best else standing.metrics
    return {
        "out": str(paths.folder),
        "model": str(best),
        "recipe": config.recipe,
        "steps": standing.step,
        "seconds": round(standing.seconds, 1),
        "crop": list(standing.crop),
        **{name: round(value, 5) for name, value in measured.items()},
        "peak_memory_mb": round(peak_memory_mb()),
    }


@dataclass(frozen=True, eq=False)
class _Run:
    """A pre-training that is ready to start."""

    id: str
    network: PretrainingNetwork
    task: PretrainingTask
    plan: Plan


def _recipe(config: PretrainConfig) -> Recipe:
    """Read the recipe, with what the user wants otherwise."""
    recipe = load_recipe(config.recipe)
    chosen = {name: getattr(config, name) for name in ("token", "order", "unit") if getattr(config, name) is not None}
    return recipe.replace(**chosen) if chosen else recipe


def _prepare(
    config: PretrainConfig,
    recipe: Recipe,
    paths: RunPaths,
    sources: Sequence[Source],
    place: tuple[Ranks, torch.device],
) -> Generator[Event, None, _Run]:
    """Load the network, hold sections out, and settle on a plan, or on that of the run that is gone on with."""
    ranks, device = place
    started = datetime.now(UTC).isoformat(timespec="seconds")
    network, card, trained = yield from _network(config, recipe, sources[0])
    run_id = _run_id(config, recipe, card, sources)
    before = settings_of(paths, run_id)
    network.to(device)
    check_disk(paths, network)
    plan = _plan(config, recipe, sources[0], network, before["plan"] if before else {}, trained=trained)
    plan = Plan(**{**ranks.agree(asdict(plan)), "budget": plan.budget, "crop": plan.crop})
    _check_crop(recipe, plan.crop)
    yield Message(_sentence(config, recipe, plan, device))
    training, held_out = yield from parts_of(sources, config.hold_out, plan.crop, card)
    settings: dict[str, Any] = {
        "run": run_id,
        "stage": "pretrain",
        "name": paths.folder.name,
        "started": before["started"] if before else started,
        "config": config.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "plan": asdict(plan),
        "parts": "all",
        "device": str(device),
        "model": {"name": card.name, "weights_sha256": card.weights_sha256, "trained": trained},
        "intensity": measured_intensity(training[0].volume, training[0].intensity, plan.crop),
        "held_out": [f"{part.volume.uri} from section {part.first_section}" for part in held_out],
        "data": [source.described() for source in sources],
        "versions": package_versions(),
    }
    if ranks.first:
        with whole_file(paths.settings, TrainError) as part:
            part.write_text(json.dumps(settings, indent=1) + "\n")
    store = _store(network, card, settings, f"Pre-trained without labels, by the recipe {recipe.title!r}")
    folder = paths.previews
    task = PretrainingTask(recipe, training, held_out, plan.crop, store, config.seed, plan.precision, folder)
    return _Run(run_id, network, task, plan)


def _network(
    config: PretrainConfig, recipe: Recipe, first: Source
) -> Generator[Event, None, tuple[PretrainingNetwork, ModelCard, bool]]:
    """Make the network with its head: random ones of a size, or what a training left."""
    torch.manual_seed(config.seed)
    size = first.volume.voxel_size_nm
    if config.model in NETWORK_PRESETS and config.model not in installed_models():
        shape = NETWORK_PRESETS[config.model].replace(offsets=_ITSELF, voxel_size_nm=size)
        network: TokenUnify = build_network(shape)
        return PretrainingNetwork(network, build_head(recipe, network)), ModelCard(network=shape), False
    weights = find_model(config.model)
    network, card = load_checkpoint(weights)
    if card.network.offsets != _ITSELF:
        network = with_new_outputs(network, _ITSELF)
        yield Message(f"{config.model} predicts affinities: it gets a new last layer for grey values.")
    different = voxel_size_mismatch(size, card.voxel_size_nm)
    if different:
        yield Message(f"{different.rstrip('.')}; it has to learn the difference.", "warning")
    network.config = network.config.replace(voxel_size_nm=size or network.config.voxel_size_nm)
    head = build_head(recipe, network)
    beside = head_file(weights)
    if head is not None and not (beside.exists() and load_head(head, read_tensors(beside))):
        what = "does not fit this recipe" if beside.exists() else "is missing"
        yield Message(f"The head for next tokens beside these weights {what}: it starts from random ones.")
    return PretrainingNetwork(network, head), card, True


def _plan(
    config: PretrainConfig,
    recipe: Recipe,
    first: Source,
    network: PretrainingNetwork,
    before: dict[str, Any],
    *,
    trained: bool,
) -> Plan:
    """Choose what the user and the recipe leave open; a run that is gone on with keeps its choices."""
    device = next(network.parameters()).device
    seconds = None if config.steps is not None else 60 * config.minutes
    free: dict[str, Any] = {"budget": Budget(config.steps, seconds), "preview_seconds": config.preview_seconds}
    workers = usual_workers(device) if config.workers is None else config.workers
    if before:
        return Plan(**{**before, **free, "crop": as_triple(before["crop"]), "workers": workers})
    few = config.steps or 1_000_000
    return Plan(
        crop=config.crop or recipe.crop or usual_crop(first.volume, network.network.config.widths[0], device),
        batch=config.batch or (_BATCH_ON_GPU if device.type == "cuda" else 1),
        learning_rate=config.learning_rate or usual_learning_rate(network) / (3 if trained else 1),
        warmup=max(1, min(recipe.warmup, few // 10)),
        weight_decay=recipe.weight_decay,
        beta2=recipe.beta2,
        clip=recipe.clip,
        average=min(0.999, max(0.9, 1 - 10 / few)),
        precision=choose_precision(config.precision, device),
        workers=workers,
        validate_seconds=max(10.0, (seconds or 600.0) / 20),
        **free,
    )


def usual_crop(volume: Volume, first_width: int, device: torch.device) -> Triple:
    """Return the largest usual crop on a GPU, and a middling one of those that memory has room for on a CPU."""
    crops = candidate_crops(volume.voxel_size_nm, volume.shape)
    fitting = [crop for crop in crops if fits_in_memory(crop, first_width, device)] or crops[-1:]
    return fitting[0] if device.type == "cuda" else fitting[len(fitting) // 2]


def _check_crop(recipe: Recipe, crop: Triple) -> None:
    """Refuse before training what the head or the units could not do with a crop."""
    if recipe.head == "official" and "next" in recipe.objectives and crop != recipe.crop:
        raise ConfigError(
            f"This recipe's head works on crops of {recipe.crop} voxels alone, not of {crop}: leave out --crop, or "
            "choose a recipe with `head: resampler`."
        )
    if set(recipe.objectives) == {"random"}:
        TokenGrid(crop, recipe.token).units("token", (1, 1, 1))
    elif recipe.unit == "scale":
        scales(recipe.token, recipe.unit_size)
    else:
        TokenGrid(crop, recipe.token).units(recipe.unit, recipe.unit_size)


def _sentence(config: PretrainConfig, recipe: Recipe, plan: Plan, device: torch.device) -> str:
    size, token = ("x".join(map(str, extent)) for extent in (plan.crop, recipe.token))
    length = f"{config.steps:,} steps" if config.steps is not None else f"{config.minutes:g} minutes"
    many = TokenGrid(plan.crop, recipe.token).count
    return (
        f"{recipe.title}: {length}, {plan.batch} crop{'s' * (plan.batch > 1)} of {size} voxels a step, each of {many} "
        f"tokens of {token}, in {plan.precision} on {device.type}, learning rate {plan.learning_rate:g}."
    )


def _store(
    network: PretrainingNetwork, card: ModelCard, settings: dict[str, Any], what: str
) -> Callable[[Path, dict[str, Tensor], Standing], None]:
    """Return what stores the network as a model of its own, and its head beside it."""
    aside = " The head for next tokens lies beside the weights, in heads/." if network.head is not None else ""

    def store(path: Path, weights: dict[str, Tensor], standing: Standing) -> None:
        """Save weights with their card."""
        head, own = (
            {
                name.removeprefix(prefix): t.detach().cpu().contiguous()
                for name, t in weights.items()
                if name.startswith(prefix)
            }
            for prefix in ("head.", "network.")
        )
        if head:
            with whole_file(head_file(path), TrainError) as part:
                save_file(head, part)
        grown = grown_card(card, network.network.config, settings, standing)
        grown = grown.replace(description=f"{what}; fine-tune it before use.{aside}")
        save_checkpoint(path, network.network, grown, weights=own)

    return store


def _run_id(config: PretrainConfig, recipe: Recipe, card: ModelCard, sources: Sequence[Source]) -> str:
    """Return a hash over everything that decides which steps are taken."""
    chosen = config.model_dump(mode="json", exclude=_FREE_TO_CHANGE)
    if "next" in recipe.objectives and recipe.head == "resampler":
        chosen["head"] = "decoder and what it lacks"  # a run with the head of before cannot go on with this one
    parts = [chosen, recipe.model_dump(mode="json"), card.weights_sha256, *(source.hash for source in sources)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
