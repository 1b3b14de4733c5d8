"""The table of a comparison: means and spreads over seeds, in Markdown and CSV, and what they say, in a sentence."""

from __future__ import annotations

import csv
import io
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import TrainError
from napari_tokenunify.helped.scoring import SCORES
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SHOWN: Final = ("validation_loss", "affinity_f1", "voi", "adapted_rand_error")
_ENOUGH_SEEDS: Final = 3  # without any effect, all of three are better one time in eight
_LARGER_IS_BETTER: Final = frozenset({"affinity_f1"})


@dataclass(frozen=True)
class Trained:
    """One training of a comparison.

    Attributes
    ----------
    start : str
        What it started from, as the table calls it.
    seed : int
        Its seed.
    scores : mapping of str to float
        By the names of `SCORES`.
    about : mapping of str to Any
        What it settled on: `parts`, `learning_rate`, `steps`, `seconds`.
    """

    start: str
    seed: int
    scores: Mapping[str, float]
    about: Mapping[str, Any]


def rows_of(trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return a row for each start: `start`, `seeds`, mean and `NAME_spread` of each score, and what it settled on.

    The spread is the standard deviation over seeds; it is left out where there is one seed.
    """
    rows: list[dict[str, Any]] = []
    for start in dict.fromkeys(one.start for one in trained):
        own = [one for one in trained if one.start == start]
        row: dict[str, Any] = {"start": start, "seeds": len(own)}
        for name in SCORES:
            values = [one.scores[name] for one in own if name in one.scores]
            if len(values) == len(own):
                row[name] = statistics.fmean(values)
                if len(values) > 1:
                    row[f"{name}_spread"] = statistics.stdev(values)
        row["steps"] = round(statistics.fmean(one.about["steps"] for one in own))
        row["minutes"] = statistics.fmean(one.about["seconds"] for one in own) / 60
        row["learning_rate"], row["parts"] = own[0].about["learning_rate"], own[0].about["parts"]
        rows.append(row)
    return rows


def verdict(trained: Sequence[Trained], of: str, scratch: str) -> str:
    """Say in a sentence or two whether a start beats another, seed by seed.

    Parameters
    ----------
    trained : sequence of Trained
        All that is done.
    of, scratch : str
        The start in question, and the one to beat.
    """
    ours, theirs = ({one.seed: one.scores for one in trained if one.start == start} for start in (of, scratch))
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return "Nothing can be said yet."
    name = "voi" if all("voi" in scores[seed] for scores in (ours, theirs) for seed in both) else "validation_loss"
    better = sum(ours[seed][name] < theirs[seed][name] for seed in both)
    means = [statistics.fmean(scores[seed][name] for seed in both) for scores in (ours, theirs)]
    change = (means[0] - means[1]) / means[1] if means[1] else 0.0
    by = f"{SCORES[name]} is {abs(change):.0%} {'lower' if change < 0 else 'higher'} than from {scratch}"
    if len(both) < _ENOUGH_SEEDS:
        many = f"{len(both)} seed{'s' * (len(both) > 1)}"
        return f"{by[0].upper()}{by[1:]}, with {many}; that may be chance: use {_ENOUGH_SEEDS} or more."
    if better == len(both):
        return f"It helped: {by}, and better with each of {len(both)} seeds."
    if not better:
        return f"It did not help: {by}, and no better with any of {len(both)} seeds."
    return f"No clear difference: {by} on average, but better with {better} of {len(both)} seeds only."


def write_table(folder: Path, trained: Sequence[Trained], sentences: Sequence[str]) -> Path:
    """Write `table.md` and `table.csv`; what was there before is replaced in one step each.

    Parameters
    ----------
    folder : Path
        Where.
    trained : sequence of Trained
        All that is done.
    sentences : sequence of str
        What it says, and how it was measured; each a paragraph below the table.

    Returns
    -------
    Path
        The Markdown.

    Raises
    ------
    TrainError
        If it cannot be written.
    """
    with whole_file(folder / "table.csv", TrainError) as part:
        part.write_text(_as_csv(trained), encoding="utf-8")
    rows = rows_of(trained)
    names = [name for name in _SHOWN if any(name in row for row in rows)]
    head = ("start", *(f"{SCORES[name]} {'↑' if name in _LARGER_IS_BETTER else '↓'}" for name in names))
    lines = [
        (
            str(row["start"]),
            *(shown(row, name) for name in names),
            str(row["seeds"]),
            str(row["steps"]),
            f"{row['minutes']:.1f}",
            f"{row['learning_rate']:g}",
            str(row["parts"]),
        )
        for row in rows
    ]
    table = markdown((*head, "seeds", "steps", "minutes", "learning rate", "what learns"), lines)
    each = [(one.start, str(one.seed), *(_number(one.scores.get(name)) for name in names)) for one in trained]
    seeds = markdown((head[0], "seed", *head[1:]), each)
    text = "\n\n".join(["# Did pre-training help?", table, *sentences, "## Each training", seeds])
    with whole_file(folder / "table.md", TrainError) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return folder / "table.md"


def shown(row: Mapping[str, Any], name: str) -> str:
    """Return a score of a row as people read it: `0.912 ± 0.010`."""
    spread = row.get(f"{name}_spread")
    return _number(row.get(name)) + ("" if spread is None else f" ± {spread:.3f}")


def _as_csv(trained: Sequence[Trained]) -> str:
    """Return a line for each training, then mean and spread of each start."""
    text = io.StringIO()
    file = csv.writer(text, lineterminator="\n")
    file.writerow(("start", "seed", *SCORES))
    for one in trained:
        file.writerow((one.start, one.seed, *(one.scores.get(name, "") for name in SCORES)))
    for row in rows_of(trained):
        file.writerow((row["start"], "mean", *(row.get(name, "") for name in SCORES)))
        file.writerow((row["start"], "spread", *(row.get(f"{name}_spread", "") for name in SCORES)))
    return text.getvalue()


def markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table of cells as Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"
