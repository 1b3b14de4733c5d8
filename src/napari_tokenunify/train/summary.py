"""The summary of a run: what was trained, on what, how it went and how to use it, as Markdown with curves."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Message, Metric
from napari_tokenunify.project import whole_file
from napari_tokenunify.train.curves import Line, curve_svg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.project import RunPaths

CURVES: Final = "curves"  # folder of the pictures


def _of_objectives(pattern: str) -> dict[str, str]:
    """Return the names of metrics of pre-training with their legends."""
    legends = {"random": "random token", "next": "next token", "next_all": "next-all"}
    return {pattern.format(name): legend for name, legend in legends.items()}


# file, title, names of metrics with their legend, whether values may be shown on a logarithmic axis
_FIGURES: Final = (
    ("loss", "Training loss for each known pair", {"loss": "loss"}, True),
    ("validation_loss", "Validation loss", {"validation_loss": "validation loss"}, True),
    (
        "scores",
        "F1 on what was held out",
        {"affinity_f1": "mean", "boundary_f1": "boundaries", "joined_f1": "insides"},
        False,
    ),
    ("voi", "Variation of information on what was held out, bits", {"voi": "VOI"}, False),
    ("objectives", "Training loss of each objective", _of_objectives("loss_{}"), True),
    ("weights", "Weight of each objective", _of_objectives("weight_{}"), False),
    ("validation_objectives", "Loss of each objective on what was held out", _of_objectives("validation_{}"), True),
    ("rivals", "Loss as a share of what plain inpainting loses", _of_objectives("{}_against_inpainting"), True),
    ("learning_rate", "Learning rate", {"learning_rate": "learning rate"}, False),
)
_MOST_MESSAGES: Final = 100


def write_summary(
    paths: RunPaths, settings: Mapping[str, Any], events: Iterable[Event], ending: str = "The training is done."
) -> Path:
    """Write `summary.md` and the curves it shows; what was there before is replaced in one step each.

    Parameters
    ----------
    paths : RunPaths
        Where the run lies.
    settings : mapping
        What the run settled on, as it stands in `training.json`; what is missing there is left out here.
    events : iterable of Event
        All events of the run so far. Where a step was done twice, after a crash, the later one counts.
    ending : str
        A sentence on how the run ended.

    Returns
    -------
    Path
        The summary.

    Raises
    ------
    TrainError
        If it cannot be written.
    """
    events = list(events)
    measured = _by_name(event for event in events if isinstance(event, Metric))
    best = _best_step(measured)
    pictures = _write_curves(paths, measured, best)
    sections = [
        f"# {settings.get('name') or paths.folder.name}",
        ending,
        _best_section(settings, measured, best),
        "## What was trained\n\n" + _table(("setting", "value"), _setting_rows(settings, measured)),
        _data_section(settings),
        *([] if not pictures else ["## How it went\n\n" + "\n\n".join(pictures)]),
        _message_section(events),
        _use_section(paths, settings),
    ]
    with whole_file(paths.summary, TrainError) as part:
        part.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return paths.summary


def _by_name(metrics: Iterable[Metric]) -> dict[str, dict[int, float]]:
    """Return for each name its values by step, ascending."""
    found: dict[str, dict[int, float]] = {}
    for metric in metrics:
        for name, value in metric.values.items():
            found.setdefault(name, {})[metric.step] = value
    return {name: dict(sorted(values.items())) for name, values in found.items()}


def _best_step(measured: Mapping[str, Mapping[int, float]]) -> int | None:
    losses = {step: loss for step, loss in measured.get("validation_loss", {}).items() if math.isfinite(loss)}
    return min(losses, key=losses.__getitem__) if losses else None


def _write_curves(paths: RunPaths, measured: Mapping[str, Mapping[int, float]], best: int | None) -> list[str]:
    """Write a picture for each figure that there are numbers for, and return what shows it."""
    shown = []
    for file, title, names, log in _FIGURES:
        lines = [Line(legend, list(measured[name].items())) for name, legend in names.items() if name in measured]
        lines = [line for line in lines if any(math.isfinite(value) for _, value in line.points)]
        if not lines:
            continue
        with whole_file(paths.folder / CURVES / f"{file}.svg", TrainError) as part:
            mark = None if file == "learning_rate" else best
            part.write_text(curve_svg(title, lines, log=log, mark=mark), encoding="utf-8")
        shown.append(f"![{title}]({CURVES}/{file}.svg)")
    return shown


def _best_section(settings: Mapping[str, Any], measured: Mapping[str, Mapping[int, float]], best: int | None) -> str:
    if best is None:
        return "Nothing was held out to measure on, so the last weights are the ones to use."
    scores = {"validation_loss": "loss", "affinity_f1": "affinity F1", "boundary_f1": "boundary F1", "voi": "VOI"}
    values = [f"{title} {measured[name][best]:.4g}" for name, title in scores.items() if best in measured.get(name, {})]
    kept = "sections" if settings.get("stage") == "pretrain" else "annotations"
    return f"Best after step {best:,}, on the {kept} held out: {', '.join(values)}."


def _setting_rows(settings: Mapping[str, Any], measured: Mapping[str, Mapping[int, float]]) -> list[tuple[str, str]]:
    config, plan, model = (settings.get(name) or {} for name in ("config", "plan", "model"))
    seconds = max(measured.get("seconds", {}).values(), default=None)
    steps = max((step for values in measured.values() for step in values), default=None)
    versions = ", ".join(f"{name} {version}" for name, version in (settings.get("versions") or {}).items())
    rows = {
        "stage": settings.get("stage"),
        "recipe": config.get("recipe"),
        "model": config.get("model"),
        "starting weights (SHA-256)": _code((model.get("weights_sha256") or "")[:16]),
        "what learns": settings.get("parts"),
        "loss": config.get("loss"),
        "learnt at nm (z, y, x)": _extent(settings.get("resampled_to_nm")),
        "crop (z, y, x)": _extent(plan.get("crop")),
        "batch": plan.get("batch"),
        "learning rate": plan.get("learning_rate"),
        "precision": plan.get("precision"),
        "device": settings.get("device"),
        "started": settings.get("started"),
        "minutes": None if seconds is None else f"{seconds / 60:.1f}",
        "steps": None if steps is None else f"{steps:,}",
        "seed": config.get("seed"),
        "held out (z, y, x)": ", ".join(map(_code, settings.get("held_out") or ())),
        "versions": versions,
    }
    return [(name, str(value)) for name, value in rows.items() if value not in {None, ""}]


def _data_section(settings: Mapping[str, Any]) -> str:
    rows = [
        (
            str(each.get("role", "")),
            _code(str(each.get("uri", ""))),
            _extent(each.get("shape")),
            str(each.get("dtype", "")),
            _extent(each.get("voxel_size_nm")),
            _code(str(each.get("hash", ""))),
        )
        for each in settings.get("data") or ()
    ]
    head = ("data", "address", "voxels (z, y, x)", "type", "voxel size (nm)", "fingerprint")
    return "## Data\n\n" + _table(head, rows) if rows else ""


def _message_section(events: Iterable[Event]) -> str:
    messages = dict.fromkeys(event for event in events if isinstance(event, Message))  # each once
    lines = [f"- {'**Warning:** ' * (m.level == 'warning')}{_one_line(m.text)}" for m in messages]
    if len(lines) > _MOST_MESSAGES:
        lines = [*lines[:_MOST_MESSAGES], f"- and {len(lines) - _MOST_MESSAGES:,} more, in events.jsonl"]
    return "## What was said\n\n" + "\n".join(lines) if lines else ""


def _use_section(paths: RunPaths, settings: Mapping[str, Any]) -> str:
    model = ["--model", str(paths.folder), "--out"]
    if settings.get("stage") == "pretrain":
        words = ["napari-tokenunify", "finetune", "--volume", "VOLUME", "--annotations", "LABELS", *model, "RUN"]
    else:
        volume = (settings.get("config") or {}).get("volume") or "VOLUME"
        words = ["napari-tokenunify", "predict", "--volume", volume, *model, "affinities.zarr"]
    return f"## How to use it\n\n```\n{shlex.join(words)}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _extent(numbers: Any) -> str:
    return "" if numbers is None else " x ".join(f"{number:g}" for number in numbers)
