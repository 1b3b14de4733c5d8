"""Run every speed benchmark, write one table with their targets, and compare the ratios with those of before.

Absolute times are those of the machine; a ratio holds two things of one run against each other and should be much the
same anywhere. `ratios.json` has them for each size: one that has fallen by more than 30 % makes this fail (exit 1), as
does a benchmark that breaks. What has fallen is measured up to twice again first, and the best counts: a machine that
was busy for a moment is no fault. A target that is missed is told in the table.

    python benchmarks/run_all.py --size small --table speed.md      # some minutes
    python benchmarks/run_all.py --size full --only scan predict
    python benchmarks/run_all.py --size small --store               # what is found becomes what is compared with

Of several runs with `--store` the worst ratio is kept, so that a busy machine alone does not make a later one fail;
after a change that makes things faster, remove the old lines first.

What needs data or a screen that is not there is skipped with a word. Quality is measured by `segmentation.py` and
`suggestions.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rows import HEAD, Row, number

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.project import whole_file

HERE = Path(__file__).parent
DATA = Path(os.environ.get("NTU_DATA", HERE.parent / "../shared/data"))
RATIOS = HERE / "ratios.json"
ALLOWED = 0.3  # by how much a ratio may fall
AGAIN = 2


@dataclass(frozen=True)
class Benchmark:
    """A script, what it is given at both sizes (None: it is not run), and what it needs."""

    small: str | None = ""
    full: str = ""
    file: str = ""  # of the data
    takes_data: bool = False
    screen: bool = False


BENCHMARKS = {
    "scan": Benchmark("--length 2048"),
    "network_forward": Benchmark("--rounds 3 --train-steps 3", file="fib25_train_test.npz", takes_data=True),
    "pretraining": Benchmark("--recipes paper --steps 6", file="fib25_raw.npz", takes_data=True),
    "predict": Benchmark(
        "--only speed --rounds 3 --shape 48 160 160", "--rounds 3", file="fib25_raw.npz", takes_data=True
    ),
    "agglomerate": Benchmark("--rounds 3 --sections 30"),
    "segment": Benchmark("table slice"),
    "proofread": Benchmark("--side 60 --edits 100 --undone 1000"),
    "open_volume": Benchmark("--gigabytes 1"),
    "gui": Benchmark(None, screen=True),
}


@dataclass
class Found:
    """What the benchmarks found, and which broke."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def ratios(self) -> dict[str, Row]:
        """Return the ratios by the names that they are stored under."""
        return {f"{name}: {row.what}": row for name, rows in self.rows.items() for row in rows if row.is_ratio}


def why_not(benchmark: Benchmark, size: str, data: Path) -> str:
    """Return why a benchmark is not run; "" if it is."""
    if size == "small" and benchmark.small is None:
        return "as it has no small size"
    if benchmark.file and not (data / benchmark.file).exists():
        return f"as {data} does not hold {benchmark.file}"
    if benchmark.screen and sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "as there is no screen"
    return ""


def run(name: str, size: str, data: Path) -> list[Row] | None:
    """Run one benchmark in a process of its own; None if it breaks."""
    benchmark = BENCHMARKS[name]
    words = (benchmark.small if size == "small" else benchmark.full) or ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / f"{name}.py"), *words.split(), "--json", str(path)]
        command += ["--data", str(data)] if benchmark.takes_data else []
        # what it prints goes to where words go; the table comes at the end
        subprocess.run(command, stdout=sys.stderr, check=False, env={**os.environ, "NTU_DATA": str(data)})
        return [Row(**row) for row in json.loads(path.read_text())] if path.exists() else None


def table(found: Found) -> str:
    """Return all rows in one Markdown table."""
    lines = [row.line().replace("|", f"| {name} |", 1) for name, rows in found.rows.items() for row in rows]
    head = HEAD.replace("| what", "| benchmark | what").replace("|---", "|---|---", 1)
    return "\n".join([head, *lines]) + "\n"


def fallen(found: dict[str, Row], stored: dict[str, float]) -> list[str]:
    """Return a sentence for each ratio that is worse than the stored one by more than is allowed."""
    return [
        f"{name}: {number(row.found)}, stored {number(stored[name])}: worse by {row.fallen(stored[name]):.0%}"
        for name, row in found.items()
        if name in stored and row.fallen(stored[name]) > ALLOWED
    ]


def stored_ratios(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what is stored, by size and name."""
    stored = json.loads(options.ratios.read_text()) if options.ratios.exists() else {}
    stored.setdefault(options.size, {})
    return stored


def measure_again(found: Found, options: argparse.Namespace) -> None:
    """Run those benchmarks again of which a ratio has fallen, and keep the better of each two rows."""
    stored = stored_ratios(options)[options.size]
    for name in [name for name, rows in found.rows.items() if fallen(Found({name: rows}).ratios(), stored)]:
        print(f"\n{name}, again", file=sys.stderr, flush=True)
        again = {row.what: row for row in run(name, options.size, options.data) or ()}
        found.rows[name] = [better(row, again.get(row.what, row)) for row in found.rows[name]]


def better(one: Row, other: Row) -> Row:
    """Return the one of two measurements of the same that found more, or less where that is better."""
    return other if (other.found > one.found) == one.at_least else one


def main() -> None:
    """Run, tell, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data")
    parser.add_argument("--ratios", type=Path, default=RATIOS, help="file of the stored ratios")
    parser.add_argument("--table", type=Path, help="write the table here too")
    parser.add_argument("--store", action="store_true", help="store the ratios instead of comparing them")
    options = parser.parse_args()
    found = Found()
    for name in options.only:
        if reason := why_not(BENCHMARKS[name], options.size, options.data):
            print(f"{name}: skipped, {reason}", file=sys.stderr, flush=True)
            continue
        print(f"\n{name}", file=sys.stderr, flush=True)
        rows = run(name, options.size, options.data)
        if rows is None:
            found.broken.append(name)
        else:
            found.rows[name] = rows
    for _ in range(0 if options.store else AGAIN):
        measure_again(found, options)
    print(text := table(found))
    if options.table:
        options.table.write_text(text)
    sys.exit(not compared(found, options))


def compared(found: Found, options: argparse.Namespace) -> bool:
    """Store the ratios, or hold them against the stored ones; return whether all is well."""
    ratios = found.ratios()
    stored = stored_ratios(options)
    same = stored[options.size]
    worse = []
    if options.store:
        same |= {
            name: float(f"{row.found:.3g}")
            for name, row in ratios.items()
            if name not in same or row.fallen(same[name]) > 0
        }
        with whole_file(options.ratios, TokenUnifyError) as part:
            part.write_text(json.dumps(stored, indent=1) + "\n")
    else:
        worse = fallen(ratios, same)
        new = sorted(ratios.keys() - same.keys())
        print(f"{len(ratios) - len(new)} ratios compared, {len(worse)} worse by more than {ALLOWED:.0%}.")
        print(*(f"- not stored yet: {name}" for name in new), *(f"- {text}" for text in worse), sep="\n")
    for name in found.broken:
        print(f"{name}: broke, see above", file=sys.stderr)
    return not worse and not found.broken


if __name__ == "__main__":
    main()
