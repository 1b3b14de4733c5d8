"""Table, figure and text of the segmentation benchmark, from its rows."""

from __future__ import annotations

import csv
import math
import statistics
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = dict[str, Any]

GROUP = ("set", "arm", "method", "asked_minutes", "asked_steps")
COLUMNS = {  # of the Markdown table: what a column is called, and how many digits its numbers have
    "labelled": ("labelled voxels", 0),
    "steps": ("steps", 0),
    "voi_split": ("VOI split", 2),
    "voi_merge": ("VOI merge", 2),
    "voi": ("VOI", 3),
    "best_voi": ("VOI, best threshold", 2),
    "arand": ("ARAND", 3),
    "run_length_um": ("run length, um", 2),
    "cuts": ("cuts", 0),
    "merges": ("merges", 0),
    "answers_to_half": ("answers to half VOI", 0),
    "edits_to_half": ("edits to half VOI", 0),
    "answers_to_goal": ("answers to goal", 0),
    "edits_to_goal": ("edits to goal", 0),
    "train_seconds": ("training, s", 0),
    "predict_seconds": ("prediction, s", 0),
    "segment_seconds": ("segmentation, s", 0),
    "peak_memory_mb": ("memory, MB", 0),
    "peak_gpu_memory_mb": ("GPU memory, MB", 0),
}
NOTE = """Means over seeds, with the range where they differ. VOI in bits; "best threshold" is what one chosen on the
test would give. Run length: expected, on skeletons of the truth, where 20 nodes of another are no merge yet; a perfect
segmentation has {best}. Cuts and merges are edits on the fragments that lead to the truth. "on X": where the result X
has segments. Results of others have their gaps filled, but where the run length is measured."""
NO_MEASURES = (*GROUP, "seed", "cores", "proofread", "until")


def flat(rows: Iterable[Row]) -> list[Row]:
    """Return a row a method, with all scores beside each other."""
    found = []
    for row in rows:
        for method, scores in row["scores"].items():
            on = {f"{what} on {name}": value for name, some in scores["on"].items() for what, value in some.items()}
            common = {name: value for name, value in row.items() if name != "scores"}
            found.append({**common, "method": method, **{k: v for k, v in scores.items() if k != "on"}, **on})
    return found


def grouped(rows: Iterable[Row]) -> list[list[Row]]:
    """Return rows that differ in the seed alone together, as they came; of the same seed the last counts."""
    groups: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in GROUP), {})[row["seed"]] = row
    order = {name: place for place, name in enumerate(dict.fromkeys(key[0] for key in groups))}
    return [list(groups[key].values()) for key in sorted(groups, key=lambda key: order[key[0]])]


def spread(same: list[Row], name: str) -> tuple[float, float, float] | None:
    """Return mean, least and largest of what the seeds have; None if one of them has none."""
    values = [row.get(name) for row in same]
    if any(not isinstance(value, int | float) or isinstance(value, bool) for value in values):
        return None
    return statistics.mean(values), min(values), max(values)


def markdown(groups: list[list[Row]]) -> str:
    """Return a table for each data set, without the columns that nobody has."""
    parts = []
    for name, some in groupby(groups, key=lambda same: same[0]["set"]):
        mine = list(some)
        columns = {key: how for key, how in _columns(mine).items() if any(key in row for same in mine for row in same)}
        heads = ["arm", "method", "min", "seeds", *(title for title, _ in columns.values())]
        lines = [f"## {name}", "", f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * (len(heads) - 2)]
        for same in mine:
            first = same[0]
            words = [shown(first["arm"]), first["method"], f"{first['asked_minutes'] or 0:g}", str(len(same))]
            words += [_told(same, key, digits) for key, (_, digits) in columns.items()]
            lines.append(f"| {' | '.join(words)} |")
        best = mine[0][0].get("run_length_of_um", math.nan)
        parts.append("\n".join([*lines, "", NOTE.format(best=f"{best:.2f} um")]))
    return "\n\n".join(parts) + "\n"


def _columns(groups: list[list[Row]]) -> dict[str, tuple[str, int]]:
    """Return the columns, with those of references after ARAND."""
    names = dict.fromkeys(name for same in groups for row in same for name in row if " on " in name)
    more = {name: (f"{name.replace('voi', 'VOI').replace('arand', 'ARAND')}", 3) for name in names}
    more = {name: how for name, how in more.items() if name.startswith(("voi on", "arand on"))}
    places = list(COLUMNS.items())
    after = [name for name, _ in places].index("arand") + 1
    return dict([*places[:after], *more.items(), *places[after:]])


def _told(same: list[Row], name: str, digits: int) -> str:
    found = spread(same, name)
    if found is None:
        reached = [row[name] for row in same if row.get(name) is not None]
        return f"{len(reached)} of {len(same)} get there" if name in same[0] and "_to_" in name else ""
    mean, least, most = found
    text = f"{mean:,.{digits}f}"
    return text if f"{least:.{digits}f}" == f"{most:.{digits}f}" else f"{text} ({least:,.{digits}f}-{most:,.{digits}f})"


def shown(arm: str) -> str:
    """Return an arm without the folders of a model's path."""
    network, slash, labels = arm.rpartition("/")
    return Path(network).name + slash + labels


def write_csv(groups: list[list[Row]], path: Path) -> None:
    """Write a row an arm and method: mean, least and largest of each number."""
    names = list(dict.fromkeys(name for same in groups for row in same for name in row if name not in NO_MEASURES))
    numbers = [name for name in names if any(spread(same, name) for same in groups)]
    heads = [f"{name}{what}" for name in numbers for what in ("", " least", " most")]
    with whole_file(path, TokenUnifyError) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*GROUP, "seeds", *heads])
        for same in groups:
            cells = [spread(same, name) or ("", "", "") for name in numbers]
            writer.writerow(
                [*(same[0][name] for name in GROUP), len(same), *(cell for cells_ in cells for cell in cells_)]
            )


def draw(groups: list[list[Row]], path: Path) -> None:
    """Draw VOI against the number of labelled voxels: a panel a data set, a line a network."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {name: list(some) for name, some in groupby(groups, key=lambda same: same[0]["set"])}
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False, layout="constrained")
    for axis, (name, mine) in zip(axes[0], panels.items(), strict=True):
        method = mine[0][0]["method"] if mine[0][0]["method"] != "segments" else mine[-1][0]["method"]
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for same in mine:
            arm, first = same[0]["arm"], same[0]
            mean, least, most = spread(same, "voi") or (math.nan,) * 3
            if "/" not in arm:
                if first["method"] in {method, "segments"}:
                    axis.axhline(mean, linestyle="--", linewidth=0.9, color="grey")
                    axis.annotate(
                        arm, (1.0, mean), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom"
                    )
            elif first["method"] == method and not arm.endswith(("/others", "/resampled")):
                labelled = (spread(same, "labelled") or (0.0,))[0]
                lines.setdefault(_line(first), []).append((labelled, mean, mean - least, most - mean))
        for network, points in lines.items():
            x, y, below, above = zip(*sorted(points), strict=True)
            axis.errorbar(x, y, (below, above), marker="o", markersize=4, capsize=2, label=network)
        most = max((point[0] for points in lines.values() for point in points), default=0)
        axis.set_xscale("symlog", linthresh=1000, linscale=0.5)
        axis.minorticks_off()
        axis.set_xticks([0, *(10**power for power in range(3, 12) if 10**power <= max(1000, most))])
        axis.set(title=f"{name}, {method}", xlabel="labelled voxels (0: as it is)", ylabel="VOI (bits)")
        axis.set_ylim(0, None)
        axis.spines[["top", "right"]].set_visible(False)
        if lines:
            axis.legend(frameon=False, fontsize=8)
    with whole_file(path, TokenUnifyError) as part:
        figure.savefig(part, dpi=100, format="png")
    plt.close(figure)


def _line(row: Row) -> str:
    return shown(row["arm"]).rpartition("/")[0]


def write_report(rows: list[Row], folder: Path) -> str:
    """Write table.md, table.csv and effort.png into a folder; return the text of the first."""
    if not rows:
        return "There are no results yet."
    folder.mkdir(parents=True, exist_ok=True)
    groups = grouped(flat(rows))
    text = markdown(groups)
    with whole_file(folder / "table.md", TokenUnifyError) as part:
        part.write_text(text)
    write_csv(groups, folder / "table.csv")
    draw(groups, folder / "effort.png")
    return text
