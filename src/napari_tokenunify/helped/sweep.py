"""`pretrain --sweep`: the same pre-training with networks of several sizes, and what each gives for what it costs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.config import ComparePretrainingConfig
from napari_tokenunify.errors import ConfigError, ModelError, TrainError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.helped.comparison import compare_pretraining
from napari_tokenunify.helped.places import keep_apart
from napari_tokenunify.helped.scoring import SCORES
from napari_tokenunify.helped.sweep_table import Size, sentences_of, write_sweep
from napari_tokenunify.helped.told import told
from napari_tokenunify.network.cost import multiply_adds, parameter_count
from napari_tokenunify.network.device import choose_device
from napari_tokenunify.network.installed import installed_models
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.network.presets import NETWORK_PRESETS
from napari_tokenunify.project import RunPaths, whole_file
from napari_tokenunify.train.pretraining.pretraining import pretrain, usual_crop
from napari_tokenunify.train.pretraining.recipes import load_recipe
from napari_tokenunify.train.pretraining.sources import open_sources

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_tokenunify.config import PretrainConfig
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.train.pretraining.sources import Source

_LABELS: Final = {"annotations", "boundary_id", "zero_is_boundary", "finetune_minutes", "seeds"}
_FREE_TO_CHANGE: Final = {"out", "sweep", "model", "crop", "preview_seconds", "workers", "device", "licences", *_LABELS}
_FORWARD_AND_BACKWARD: Final = 3  # a backward pass computes twice what a forward pass does
_START: Final = "pre-trained"


def sweep(config: PretrainConfig) -> Generator[Event, None, dict[str, Any]]:
    """Pre-train each size for as long and on crops as large, and where there are annotations train and score it, too.

    What is done is not done again: the same settings go on with a sweep that was stopped, and more sizes
    or seeds add to it. Labels are copied first, so that painting on does not change what is compared. After each
    size table and plots are written anew.

    Parameters
    ----------
    config : PretrainConfig
        The settings; `sweep` names the sizes.

    Returns
    -------
    dict
        `out`, `table` (a Markdown file; table.csv and the plots lie beside it), `rows` (a dict for each size, ascending
        by parameters, see `sweep_table.Size`), `seconds`, `peak_memory_mb`. Each size is a run of its own, in `sizes/`.

    Raises
    ------
    TokenUnifyError
        In one sentence, before anything is trained, if sizes, data and settings do not allow it; and what
        pre-trainings, trainings and predictions raise.
    """
    began = time.monotonic()
    sizes = _sizes(config)
    out = Path(config.out).expanduser().resolve()
    sources = yield from open_sources(config)
    work = _Work(config, out, sources[0], len(sizes), _settled(config, sizes, sources, out))
    if config.annotations is not None:
        for name in sizes:  # what is wrong with the labels is to be said now, not after hours
            keep_apart(work.comparison(name), sources[0].volume, work.trained(name))
    done: list[Size] = []
    for number, name in enumerate(sizes):
        done.append((yield from work.measured(name, number)))
        length = f"{config.steps:,} steps" if config.steps is not None else f"{config.minutes:g} minutes"
        table = write_sweep(out, done, sentences_of(done, len(sizes), length))
        yield Message(done[-1].sentence)
    return {
        "out": str(out),
        "table": str(table),
        "rows": [size.row for size in sorted(done, key=lambda size: size.parameters)],
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def _sizes(config: PretrainConfig) -> tuple[str, ...]:
    """Return the sizes, each once.

    Raises
    ------
    TokenUnifyError
        If a sweep cannot be done with them, or as it was started.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":  # as torchrun says it
        raise TrainError("A sweep runs in one process: leave out --launch.gpus.")
    if not config.hold_out:
        raise ConfigError("Sizes are compared on sections that none has learnt from: give --hold-out more than 0.")
    for name in config.sweep:
        if name not in NETWORK_PRESETS:
            raise ConfigError(f"--sweep {name}: is no size; the sizes are {', '.join(NETWORK_PRESETS)}.")
        if name in installed_models():
            raise ModelError(f"{name}: is the name of a model here, so that size cannot start from scratch: rename it.")
    return tuple(dict.fromkeys(config.sweep))


def _settled(config: PretrainConfig, sizes: Sequence[str], sources: Sequence[Source], out: Path) -> Triple:
    """Return the crop that all sizes learn from: what was settled on before, else what suits the widest of them.

    Raises
    ------
    TrainError
        If another sweep lies in the folder.
    """
    recipe = load_recipe(config.recipe)
    settings = config.model_dump(mode="json", exclude=_FREE_TO_CHANGE)
    asked = [settings, recipe.model_dump(mode="json"), [source.hash for source in sources]]
    identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    file = out / "sweep.json"
    try:
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise TrainError(f"{file}: cannot be read; start a new sweep in another folder.") from error
    crop = config.crop or (before and tuple(before["crop"])) or recipe.crop
    if crop is None:
        width = max(NETWORK_PRESETS[name].widths[0] for name in sizes)
        crop = usual_crop(sources[0].volume, width, choose_device(config.device))
    settled = {"sweep": identity, "crop": list(crop)}
    if before and before != settled:
        raise TrainError(
            f"{out}: holds a sweep with other settings or data; choose another --out, or give the same settings to go "
            "on with it."
        )
    with whole_file(file, TrainError) as part:
        part.write_text(json.dumps(settled) + "\n", encoding="utf-8")
    z, y, x = crop
    return z, y, x


@dataclass(frozen=True, eq=False)
class _Work:
    """A sweep that is ready to start."""

    config: PretrainConfig
    out: Path
    first: Source
    many: int
    crop: Triple

    def measured(self, name: str, number: int) -> Generator[Event, None, Size]:
        """Pre-train a size and train it on, or read what was measured before."""
        config, folder = self.config, self._run(name)
        record = folder / "measured.json"
        tuned = 2 * config.seeds * config.finetune_minutes if config.annotations is not None else 0.0
        share = config.minutes / (config.minutes + tuned)
        if not record.exists():
            alone = config.replace(sweep=(), annotations=None, model=name, crop=self.crop, out=str(folder))
            result = yield from told(pretrain(alone), number, share, self.many, f"{name}, pre-training")
            with whole_file(record, TrainError) as part:
                part.write_text(json.dumps(self._costs(name, result), indent=1) + "\n", encoding="utf-8")
        yield Progress(round(1000 * (number + share)), 1000 * self.many, name)
        measured = json.loads(record.read_text(encoding="utf-8"))
        if config.annotations is None:
            return Size(**measured)
        stage = compare_pretraining(self.comparison(name))
        found = yield from told(stage, number + share, 1 - share, self.many, f"{name}, training on the annotations")
        starts = zip((_START, "scratch"), found["rows"], strict=True)
        scores = {start: {key: row[key] for key in _scores() if key in row} for start, row in starts}
        return Size(**measured, tuned=scores)

    def _run(self, name: str) -> Path:
        return self.out / "sizes" / name

    def _costs(self, name: str, result: dict[str, Any]) -> dict[str, Any]:
        """Return what a pre-training cost, and how good it became."""
        shape = NETWORK_PRESETS[name].replace(offsets=((0, 0, 0),))
        plan = json.loads(RunPaths(Path(result["out"])).settings.read_text(encoding="utf-8"))["plan"]
        z, y, x = result["crop"]
        crops = result["steps"] * plan["batch"] * load_recipe(self.config.recipe).passes
        work = multiply_adds(shape, (z, y, x))
        about = {"out", "model", "recipe", "steps", "seconds", "crop", "peak_memory_mb"}
        return {
            "name": name,
            "parameters": parameter_count(shape),
            "multiply_adds": work,
            "crop": result["crop"],
            "batch": plan["batch"],
            "steps": result["steps"],
            "seconds": result["seconds"],
            "flop": 2.0 * _FORWARD_AND_BACKWARD * work * crops,
            "learning_rate": plan["learning_rate"],
            "metrics": {key: value for key, value in result.items() if key not in about},
        }

    def trained(self, name: str) -> Path:
        """Return the folder of a size's trainings on the annotations."""
        return self.out / "trained" / name

    def comparison(self, name: str) -> ComparePretrainingConfig:
        """Return how a size is trained on the annotations, from its pre-training and from scratch."""
        config, size = self.config, self.first.volume.voxel_size_nm
        return ComparePretrainingConfig(
            volume=config.volumes[0],
            voxel_size=None if size is None else ",".join(map(str, size)),
            annotations=str(config.annotations),
            boundary_id=config.boundary_id,
            zero_is_boundary=config.zero_is_boundary,
            model=str(self._run(name)),
            out=str(self.trained(name)),
            minutes=config.finetune_minutes,
            seeds=config.seeds,
            seed=config.seed,
            precision=config.precision,
            device=config.device,
            workers=config.workers,
        )


def _scores() -> list[str]:
    return [key for name in SCORES for key in (name, f"{name}_spread")]
