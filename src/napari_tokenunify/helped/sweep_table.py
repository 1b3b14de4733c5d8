"""What a sweep over sizes leaves behind: a row for each size, as Markdown and CSV, and plots of them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from napari_tokenunify.errors import TrainError
from napari_tokenunify.helped.scoring import SCORES
from napari_tokenunify.helped.table import markdown, shown
from napari_tokenunify.project import whole_file
from napari_tokenunify.train.curves import Line, curve_svg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_ENOUGH_SIZES: Final = 3  # to speak of a slope


@dataclass(frozen=True)
class Size:
    """One size of a sweep.

    Attributes
    ----------
    name : str
        Of the size.
    parameters : int
        How many numbers it learns.
    multiply_adds : int
        Multiplications, each with its addition, of a forward pass over one crop; see `network.cost`.
    crop : sequence of int
        Voxels (z, y, x) of a crop.
    batch, steps : int
        Crops of a step, and how many steps the pre-training made.
    seconds : float
        How long it took.
    flop : float
        Floating-point operations of it: two for each multiplication, forward and backward, over all crops.
    learning_rate : float
        The highest.
    metrics : mapping of str to float
        What was measured on the sections held out.
    tuned : mapping of str to mapping
        By "pre-trained" and "scratch", the scores after training on annotations: mean and spread over seeds by the
        names of `SCORES`; empty where there are no annotations.
    """

    name: str
    parameters: int
    multiply_adds: int
    crop: Sequence[int]
    batch: int
    steps: int
    seconds: float
    flop: float
    learning_rate: float
    metrics: Mapping[str, float]
    tuned: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """On the sections held out; NaN if none was measured."""
        return self.metrics.get("validation_loss", math.nan)

    @property
    def row(self) -> dict[str, Any]:
        """All of it as one flat dict."""
        row: dict[str, Any] = {
            "size": self.name,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "crop": "x".join(map(str, self.crop)),
            "batch": self.batch,
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "flop": self.flop,
            "seconds": self.seconds,
            **self.metrics,
        }
        for start, scores in self.tuned.items():
            row |= {f"{start.replace('-', '')}_{name}": value for name, value in scores.items()}
        return row

    @property
    def sentence(self) -> str:
        """What to say when it is done."""
        size = f"{self.name}, {self.parameters / 1e6:.3g} M parameters"
        words = [f"{size}: loss {self.loss:.4g} after {self.steps:,} steps"]
        words += [f"VOI {scores['voi']:.3f} {start}" for start, scores in self.tuned.items() if "voi" in scores]
        return ", ".join(words) + "."


_AXES: Final[dict[str, tuple[str, Callable[[Size], float]]]] = {
    "parameters": ("parameters, millions", lambda size: size.parameters / 1e6),
    "compute": ("computed in pre-training, 10^12 floating-point operations", lambda size: size.flop / 1e12),
}


def sentences_of(done: Sequence[Size], many: int, length: str) -> list[str]:
    """Say what the table says, and how it was measured.

    Parameters
    ----------
    done : sequence of Size
        Those that are done.
    many : int
        How many there will be.
    length : str
        How long each was pre-trained.
    """
    found = [size for size in sorted(done, key=lambda size: size.parameters) if size.loss > 0]
    first = []
    if len(found) >= _ENOUGH_SIZES:
        slope = np.polyfit(np.log2([size.parameters for size in found]), np.log2([size.loss for size in found]), 1)[0]
        first = [f"**Twice the parameters: {2**slope:.3f} times the loss**, as a straight line through all says it."]
    elif len(found) > 1:
        ratio = found[-1].loss / found[0].loss
        first = [f"**{found[-1].name} has {ratio:.3f} times the loss of {found[0].name}.**"]
    partial = f" {len(done)} of {many} sizes are done." if len(done) < many else ""
    crop = "x".join(map(str, done[0].crop))
    sentences = [
        *first,
        f"Each size had {length} of pre-training on crops of {crop} voxels; the loss is the best on sections that none "
        f"learnt from. Operations are those of convolutions and matrices, forward and backward.{partial}",
    ]
    if any(size.tuned for size in done):
        sentences.append("VOI, affinity F1: after training on the annotations, at places that no training saw.")
    return sentences


def write_sweep(folder: Path, done: Sequence[Size], sentences: Sequence[str]) -> Path:
    """Write `table.md`, `table.csv` and the plots; what was there before is replaced in one step each.

    Parameters
    ----------
    folder : Path
        Where.
    done : sequence of Size
        Those that are done.
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
    sizes = sorted(done, key=lambda size: size.parameters)
    with whole_file(folder / "table.csv", TrainError) as part:
        part.write_text(_as_csv(sizes), encoding="utf-8")
    pictures = [f"![{title}]({file})" for title, file in _draw(folder, sizes)]
    text = "\n\n".join(["# What larger networks give", _table(sizes), *sentences, *pictures])
    with whole_file(folder / "table.md", TrainError) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return folder / "table.md"


def _table(sizes: Sequence[Size]) -> str:
    scores = [
        (start, name)
        for name in ("voi", "affinity_f1")
        for start in ("pre-trained", "scratch")
        if any(name in size.tuned.get(start, {}) for size in sizes)
    ]
    scored = [f"{SCORES[name]} {start} {'↓' if name == 'voi' else '↑'}" for start, name in scores]
    head = ("size", "parameters", "loss ↓", "against inpainting ↓", *scored)
    rows = [
        (
            size.name,
            f"{size.parameters / 1e6:.3g} M",
            f"{size.loss:.5f}",
            _against_inpainting(size),
            *(shown(size.tuned.get(start, {}), name) for start, name in scores),
            f"{size.steps:,}",
            f"{size.multiply_adds / 1e9:.3g}",
            f"{size.flop / 1e12:,.3g}",
            f"{size.seconds / 60:.1f}",
        )
        for size in sizes
    ]
    return markdown((*head, "steps", "10^9 multiplications a crop", "10^12 operations", "minutes"), rows)


def _against_inpainting(size: Size) -> str:
    """Return the loss as a share of what plain inpainting loses, the mean over the objectives."""
    found = [value for name, value in size.metrics.items() if name.endswith("_against_inpainting")]
    return f"{sum(found) / len(found):.3f}" if found else ""


def _as_csv(sizes: Sequence[Size]) -> str:
    rows = [size.row for size in sizes]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    file = csv.DictWriter(text, names, restval="", lineterminator="\n")
    file.writeheader()
    file.writerows(rows)
    return text.getvalue()


def _draw(folder: Path, sizes: Sequence[Size]) -> list[tuple[str, str]]:
    """Draw loss and VOI against parameters and computing; return title and file of each plot."""
    drawn = []
    for axis, (against, place) in _AXES.items():
        ordered = sorted(sizes, key=place)
        names = [size.name for size in ordered]
        losses = Line("loss", [(place(size), size.loss) for size in ordered], names)
        vois = [
            Line(start, [(place(size), size.tuned.get(start, {}).get("voi", math.nan)) for size in ordered], names)
            for start in ("pre-trained", "scratch")
        ]
        for what, title, lines in (
            ("loss", "Loss on sections held out", [losses]),
            ("voi", "VOI after training on annotations, bits", vois),
        ):
            lines = [line for line in lines if any(math.isfinite(value) for _, value in line.points)]
            if lines:
                file = f"{what}_by_{axis}.svg"
                with whole_file(folder / file, TrainError) as part:
                    part.write_text(curve_svg(title, lines, log=what == "loss", against=against), encoding="utf-8")
                drawn.append((f"{title}, against {axis}", file))
    return drawn
