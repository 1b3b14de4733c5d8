"""What a speed benchmark finds: rows with a target, printed as one Markdown table and kept as JSON for `run_all.py`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse

HEAD = "| what | found | target | met | |\n|---|---:|---:|---|---|"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes
    ----------
    what : str
        The same words in each run: it is compared by them.
    found : float
        The number.
    target : float or None
        What it has to be at least or at most; None if it is only told.
    at_least : bool
        Whether more is better.
    is_ratio : bool
        Whether it holds two things of one run against each other, so that it says the same on another machine.
    unit, note : str
        For people.
    """

    what: str
    found: float
    target: float | None = None
    at_least: bool = False
    is_ratio: bool = False
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met, if there is one."""
        if self.target is None:
            return True
        return self.found >= self.target if self.at_least else self.found <= self.target

    def line(self) -> str:
        """Return a line of a Markdown table."""
        unit = f" {self.unit}" if self.unit else ""
        target = met = ""
        if self.target is not None:
            target, met = f"{'>=' if self.at_least else '<='} {self.target:g}{unit}", "yes" if self.met else "NO"
        return f"| {self.what} | {number(self.found)}{unit} | {target} | {met} | {self.note} |"

    def fallen(self, stored: float) -> float:
        """Return by what share it is worse than a stored one; 0 or less if it is not."""
        return 1 - (self.found / stored if self.at_least else stored / self.found)


def number(value: float) -> str:
    """Return three digits that count, and whole numbers above."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Rows:
    """The rows of one benchmark, printed as they come."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Print a row, and the head before the first."""
        if not self.rows:
            print(HEAD)
        self.rows.append(row)
        print(row.line(), flush=True)

    def end(self, path: Path | None) -> NoReturn:
        """Keep the rows in a file, if there is to be one; end the process, with 1 if a target is missed."""
        if path is not None:
            path.write_text(json.dumps([asdict(row) for row in self.rows], indent=1) + "\n")
        sys.exit(not all(row.met for row in self.rows))


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark take `--json FILE`."""
    parser.add_argument("--json", type=Path, help="keep the rows in this file too")
