"""Which jobs this user has started, and how they compare."""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.events import Metric, from_json
from napari_tokenunify.jobs.lanes import state_folder
from napari_tokenunify.jobs.records import RecordReader
from napari_tokenunify.jobs.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALLER_IS_BETTER: Final = ("loss", "voi", "error")
_LARGER_IS_BETTER: Final = ("f1", "precision", "recall", "accuracy")


def register(folder: Path) -> None:
    """Remember that a job was started in a folder; a state folder that cannot be written is no reason to fail."""
    with suppress(OSError):
        known = state_folder() / "jobs"
        known.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        (known / f"{name}.json").write_text(json.dumps({"folder": str(folder), "started": time.time()}))


def known_jobs() -> list[Path]:
    """Return the folders of all jobs started by this user, the last started first.

    Those whose folder is no more are forgotten.
    """
    found: dict[Path, float] = {}
    for path in (state_folder() / "jobs").glob("*.json"):
        try:
            record = json.loads(path.read_text())
            folder, started = Path(record["folder"]), float(record["started"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written
        if RunFolder(folder).spec.exists():
            found[folder] = started
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda folder: found[folder], reverse=True)


class Curves:
    """All that was measured in a run, over all its starts.

    A run that goes on from a checkpoint repeats some steps; their values are those of the last start.

    Parameters
    ----------
    folder : Path
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._reader = RecordReader(RunFolder(folder).events)
        self._measured: dict[str, dict[int, float]] = {}

    def read(self) -> dict[str, dict[int, float]]:
        """Return the value at each step, for each name; of the file only what is new since the last time is read.

        What is returned is not changed afterwards.
        """
        found = [event for event in map(from_json, self._reader.read()) if isinstance(event, Metric)]
        if found:
            self._measured = {name: dict(values) for name, values in self._measured.items()}
        for event in found:
            for name, value in event.values.items():
                self._measured.setdefault(name, {})[event.step] = value
        return self._measured


def compare(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Put runs side by side: the settings in which they differ, and what was measured.

    Parameters
    ----------
    folders : sequence of Path
        The run folders.

    Returns
    -------
    list of dict
        A row each: `kind` ("setting" or "metric"), `name` (e.g. "learning_rate", "loss, last", "loss, best"), and
        `values`, one for each folder in their order; None where a run has none.

    Raises
    ------
    JobError
        If there is no job in one of them.
    """
    settings = [_flat(RunFolder(folder).read_spec().config) for folder in folders]
    for one in settings:
        one.pop("out", None)  # the folder itself
    rows = [
        {"kind": "setting", "name": name, "values": [one.get(name) for one in settings]} for name in _names(settings)
    ]
    rows = [row for row in rows if any(value != row["values"][0] for value in row["values"])]
    measured = [_figures(Curves(folder).read()) for folder in folders]
    return rows + [
        {"kind": "metric", "name": name, "values": [one.get(name) for one in measured]} for name in _names(measured)
    ]


def _flat(config: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return flat


def _names(dicts: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in dicts for name in one))


def _figures(measured: dict[str, dict[int, float]]) -> dict[str, float]:
    """Return the last value of each metric, and the best where it is known which way is better."""
    figures: dict[str, float] = {}
    for name, values in measured.items():
        figures[f"{name}, last"] = values[max(values)]
        best = _best_of(name)
        numbers = [value for value in values.values() if not math.isnan(value)]
        if best is not None and numbers:
            figures[f"{name}, best"] = best(numbers)
    return figures


def _best_of(name: str) -> Any:
    if any(word in name for word in _SMALLER_IS_BETTER):
        return min
    return max if any(word in name for word in _LARGER_IS_BETTER) else None
