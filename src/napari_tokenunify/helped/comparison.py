"""The stage `compare-pretraining`: the same training from several starts, and a table of how good each has become."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.config import FinetuneConfig
from napari_tokenunify.data import data_hash, open_volume
from napari_tokenunify.errors import ConfigError, ModelError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.helped.places import keep_apart
from napari_tokenunify.helped.scoring import SCORES, scores_of
from napari_tokenunify.helped.table import Trained, rows_of, verdict, write_table
from napari_tokenunify.helped.told import told
from napari_tokenunify.network.card import read_card
from napari_tokenunify.network.installed import find_model, installed_models
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.project import RunPaths, whole_file
from napari_tokenunify.train import finetune

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from napari_tokenunify.config import ComparePretrainingConfig
    from napari_tokenunify.data import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.helped.places import Kept
    from napari_tokenunify.network.card import ModelCard

_FREE_TO_CHANGE: Final = {"out", "seeds", "workers", "device"}
_TRAINING: Final = 0.9  # of a training and its scores


def compare_pretraining(config: ComparePretrainingConfig) -> Generator[Event, None, dict[str, Any]]:
    """Train from each start with each seed, and score all at places that no training sees.

    What is done is not done again: the same command goes on with a comparison that was stopped, and more seeds add to
    it. After each training the table is written anew.

    Parameters
    ----------
    config : ComparePretrainingConfig
        The settings.

    Returns
    -------
    dict
        `out`, `table` (a Markdown file; table.csv lies beside it), `verdict` (a sentence), `rows` (see
        `table.rows_of`), `places` (boxes), `seconds`, `peak_memory_mb`.

    Raises
    ------
    TokenUnifyError
        In one sentence, before anything is trained, if starts, data and settings do not allow it; and what trainings
        and predictions raise.
    """
    began = time.monotonic()
    if os.environ.get("WORLD_SIZE", "1") != "1":  # as torchrun says it
        raise TrainError("A comparison runs in one process: leave out --launch.gpus.")
    out = Path(config.out).expanduser().resolve()
    yield Progress(0, 1, "looking at the data")
    volume = open_volume(config.volume, parse_voxel_size(config.voxel_size) if config.voxel_size else None)
    starts = list(_starts(config))
    _check_same(config, starts, volume, out)
    kept = keep_apart(config, volume, out)
    yield from _remarks(starts, kept)
    work = _Work(config, volume, kept, out, starts)
    seeds = range(config.seed, config.seed + config.seeds)
    done: list[Trained] = []
    for seed in seeds:
        for start in starts:
            done.append((yield from work.trained(start, seed, len(done))))
            table = write_table(out, done, _sentences(config, starts, done, kept))
            scores = ", ".join(f"{SCORES[name]} {value:.3f}" for name, value in done[-1].scores.items())
            yield Message(f"{start.name}, seed {seed}: {scores}.")
    return {
        "out": str(out),
        "table": str(table),
        "verdict": verdict(done, starts[0].name, starts[1].name),
        "rows": rows_of(done),
        "places": [str(place.box) for place in kept.places],
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }


@dataclass(frozen=True)
class _Start:
    """What trainings start from.

    Attributes
    ----------
    name : str
        What the table calls it.
    model : str
        What `finetune` is told.
    card : ModelCard or None
        Of its weights; None from scratch.
    """

    name: str
    model: str
    card: ModelCard | None = None


def _starts(config: ComparePretrainingConfig) -> Iterator[_Start]:
    """Yield the pre-training in question, scratch, and the others.

    Raises
    ------
    ModelError
        If one cannot be found.
    ConfigError
        If there is no named size like the first one's network, so that nothing can start from scratch.
    """
    names: set[str] = set()
    for number, model in enumerate((config.model, *config.others)):
        card = read_card(find_model(model))
        name = _name(model, card)
        while name in names:
            name += "'"
        names.add(name)
        yield _Start(
            name, str(Path(model).expanduser().resolve()) if Path(model).expanduser().exists() else model, card
        )
        if number == 0:
            yield _Start("scratch", _size_like(card, model))


def _name(model: str, card: ModelCard) -> str:
    """Return the name of a start, and by which recipe it was made."""
    short = Path(model).name or model
    recipe = next((run.settings.get("recipe") for run in reversed(card.history) if run.stage == "pretrain"), None)
    return short if recipe is None else f"{short} ({Path(str(recipe)).name})"


def _size_like(card: ModelCard, model: str) -> str:
    """Return the name of the size that a network has."""
    shape = card.network.replace(offsets=DEFAULT_OFFSETS, voxel_size_nm=None, scan_backend="auto")
    size = next((name for name, preset in NETWORK_PRESETS.items() if preset == shape), None)
    if size is None:
        sizes = ", ".join(NETWORK_PRESETS)
        raise ConfigError(f"{model}: its network has none of the named sizes ({sizes}), so none starts from scratch.")
    if size in installed_models():
        raise ModelError(f"{size}: is the name of a model here, so that size cannot start from scratch: rename it.")
    return size


def _remarks(starts: Sequence[_Start], kept: Kept) -> Generator[Event, None, None]:
    """Say what is easily overlooked."""
    first = starts[0].card
    for start in starts:
        if start.card is None or first is None:
            continue
        if start.card.network.replace(voxel_size_nm=None) != first.network.replace(voxel_size_nm=None):
            yield Message(f"{start.name}: its network has another shape than {starts[0].name}.", "warning")
    before = {start.name: _seconds(start.card) for start in starts if start.card is not None and start.card.history}
    least, most = min(before.values(), default=0.0), max(before.values(), default=0.0)
    if most > 1.2 * least:
        times = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in before.items())
        yield Message(f"The starts were not trained equally long before (minutes: {times}).", "warning")
    many = len(kept.places)
    dense = sum(place.is_dense for place in kept.places)
    yield Message(
        f"Scores are of {many} place{'s' * (many > 1)} that no training sees; segments are compared in {dense}."
    )


def _seconds(card: ModelCard) -> float:
    return sum(run.seconds for run in card.history)


def _check_same(config: ComparePretrainingConfig, starts: Sequence[_Start], volume: Volume, out: Path) -> None:
    """Refuse to go on with another comparison."""
    weights = [start.card.weights_sha256 if start.card is not None else start.model for start in starts]
    chosen = config.model_dump(mode="json", exclude=_FREE_TO_CHANGE)
    if chosen["transfer"] == "all":
        del chosen["transfer"]  # comparisons of before there was a choice go on
    data = data_hash(volume)
    without = {name: value for name, value in chosen.items() if name != "others"}
    settings = {"comparison": _digest([without, data]), "starts": weights}
    file = out / "comparison.json"
    try:
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else settings
    except (OSError, ValueError) as error:
        raise TrainError(f"{file}: cannot be read; start a new comparison in another folder.") from error
    known = before.get("starts", weights)  # more starts may be added to those that are there
    same = (
        {settings["comparison"]} if "starts" in before else {settings["comparison"], _digest([chosen, weights, data])}
    )
    if before.get("comparison") not in same or weights[: len(known)] != known:
        raise TrainError(
            f"{out}: holds a comparison with other settings, data or starts; choose another --out, or give the same "
            "settings to go on with it."
        )
    with whole_file(file, TrainError) as part:
        part.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class _Work:
    """A comparison that is ready to start."""

    config: ComparePretrainingConfig
    volume: Volume
    kept: Kept
    out: Path
    starts: Sequence[_Start]

    def trained(self, start: _Start, seed: int, number: int) -> Generator[Event, None, Trained]:
        """Train and score, or read what was scored before."""
        folder = self._folder(start, seed)
        record = folder / "scores.json"
        if not record.exists():
            what = f"{start.name}, seed {seed}"
            total = len(self.starts) * self.config.seeds
            result = yield from told(finetune(self._training(start, seed)), number, _TRAINING, total, what)
            found = scores_of(result["model"], self.config, self.volume, self.kept, folder / "places")
            scores = yield from told(found, number + _TRAINING, 1 - _TRAINING, total, f"{what}, scores")
            plan = json.loads(RunPaths(folder).settings.read_text(encoding="utf-8"))["plan"]
            about = {name: result[name] for name in ("parts", "steps", "seconds")}
            one = Trained(start.name, seed, scores, {**about, "learning_rate": plan["learning_rate"]})
            with whole_file(record, TrainError) as part:
                part.write_text(json.dumps(asdict(one), indent=1) + "\n", encoding="utf-8")
        return Trained(**json.loads(record.read_text(encoding="utf-8")))

    def _folder(self, start: _Start, seed: int) -> Path:
        return self.out / "trainings" / f"{self.starts.index(start)}-seed-{seed}"

    def _training(self, start: _Start, seed: int) -> FinetuneConfig:
        """Return the settings of a training; all have the crop and the batch that the first one has chosen."""
        own = set(type(self.config).model_fields) - set(FinetuneConfig.model_fields)
        settings = self.config.model_dump(exclude=own)
        first = self._folder(self.starts[0], self.config.seed)
        folder = self._folder(start, seed)
        if folder != first:
            plan = json.loads(RunPaths(first).settings.read_text(encoding="utf-8"))["plan"]
            settings |= {"crop": tuple(plan["crop"]), "batch": plan["batch"]}
        return FinetuneConfig(
            **{
                **settings,
                "annotations": self.kept.annotations,
                "boundary_id": self.kept.boundary_id,
                "zero_is_boundary": False,
                "model": start.model,
                "resample": False,  # or each start would learn at another voxel size
                "seed": seed,
                "out": str(folder),
            }
        )


def _sentences(
    config: ComparePretrainingConfig, starts: Sequence[_Start], done: Sequence[Trained], kept: Kept
) -> list[str]:
    """Say what the table says, and how it was measured."""
    length = f"{config.steps:,} steps" if config.steps is not None else f"{config.minutes:g} minutes"
    expected = len(starts) * config.seeds
    partial = "" if len(done) == expected else f" {len(done)} of {expected} trainings are done."
    dense = sum(place.is_dense for place in kept.places)
    boxes = ", ".join(f"`{place.box}`" for place in kept.places)
    return [
        f"**{verdict(done, starts[0].name, starts[1].name)}**{partial}",
        f"Each training had {length}. Mean ± standard deviation over seeds, at places that no training saw: {boxes}; "
        f"segments were compared in {dense} of them, each at its best threshold.",
    ]
