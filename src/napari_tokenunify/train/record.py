"""What a training leaves behind besides weights: the model's card, TensorBoard's curves, and the summary."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tensorboardX import SummaryWriter

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.events import Metric, Preview, Progress, from_json, to_json
from napari_tokenunify.network.card import DataUsed, Intensity, ModelCard, TrainingRun
from napari_tokenunify.train.ranks import is_first
from napari_tokenunify.train.summary import write_summary

if TYPE_CHECKING:
    from collections.abc import Generator
    from io import TextIOWrapper
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.network.presets import NetworkConfig
    from napari_tokenunify.project import RunPaths
    from napari_tokenunify.train.state import Standing


def grown_card(card: ModelCard, network: NetworkConfig, settings: dict[str, Any], standing: Standing) -> ModelCard:
    """Return the card of weights that were trained further.

    Parameters
    ----------
    card : ModelCard
        Of the weights the training began with.
    network : NetworkConfig
        Of the weights as they are now.
    settings : dict
        What the run has written to `training.json`.
    standing : Standing
        How far it came.
    """
    done = TrainingRun(
        stage=settings["stage"],
        steps=standing.step,
        started=settings["started"],
        seconds=round(standing.seconds, 1),
        settings={**settings["config"], "crop": list(settings["plan"]["crop"]), "parts": settings["parts"]},
    )
    used = [
        DataUsed(name=each["uri"], licence=each.get("licence") or "unknown")
        for each in settings["data"]
        if each["role"] == "volume"
    ]
    changes: dict[str, Any] = {
        "network": network,
        "name": settings["name"],
        "description": f"Trained further from {card.name or 'other weights'}." if settings["model"]["trained"] else "",
        "step": card.step + standing.step,
        "intensity": Intensity(**settings["intensity"]),
        "data": (*card.data, *used),
        "history": (*card.history, done),
        "metrics": {name: value for name, value in standing.metrics.items() if math.isfinite(value)},
    }
    if settings["model"]["trained"]:
        changes["lineage"] = (*card.lineage, card.as_ancestor())
    return card.replace(**{name: _plain(value) for name, value in changes.items()})


def _plain(value: Any) -> Any:
    """Models to dicts, which validation takes in any place."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def recorded(events: Generator[Event, None, dict[str, Any]], paths: RunPaths) -> Generator[Event, None, dict[str, Any]]:
    """Pass the events of a training on, write its metrics for TensorBoard on the way, and at the end the summary.

    However it ends, a summary is written: done, stopped (the generator is closed) or failed; but not if it was refused
    before it began, as the folder may hold another run.
    """
    record = _Record(paths)
    ending = "The training was stopped; the same command goes on with it."
    try:
        result = yield from record.follow(events)
        ending, record.has_begun = "The training is done.", True
    except TokenUnifyError as error:
        ending = f"The training has failed: {error}"
        raise
    else:
        return result
    finally:
        events.close()  # a training that is stopped writes its checkpoint here
        record.close()
        if record.has_begun:
            with suppress(TokenUnifyError, OSError):  # nothing may hide how the training itself ended
                _summarise(paths, record.seen, ending)


class _Record:
    """What a run has said, also before this process; a Job keeps it, without one it is kept here."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._writer: SummaryWriter | None = None
        self._file: TextIOWrapper | None = None
        self._is_kept = paths.events.exists()
        self.seen = [*_read(paths.said), *_read(paths.events)]
        self.has_begun = False

    def follow(self, events: Generator[Event, None, dict[str, Any]]) -> Generator[Event, None, dict[str, Any]]:
        """Pass events on until they end."""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: dict[str, Any] = end.value
                return result
            self._note(event)
            yield event

    def close(self) -> None:
        """Write what is not written yet."""
        for opened in (self._writer, self._file):
            if opened is not None:
                opened.close()

    def _note(self, event: Event) -> None:
        self.has_begun = self.has_begun or isinstance(event, Metric | Preview) or _is_of_training(event)
        if isinstance(event, Metric):
            if self._writer is None:
                self._writer = SummaryWriter(str(self._paths.tensorboard), flush_secs=10, write_to_disk=is_first())
            for name, value in event.values.items():
                self._writer.add_scalar(name, value, event.step)
        if isinstance(event, Progress):
            return
        self.seen.append(event)
        if isinstance(event, Metric) and not self._is_kept and is_first():
            if self._file is None:
                self._file = self._paths.said.open("a", encoding="utf-8")
            self._file.write(f"{json.dumps(to_json(event))}\n")
            self._file.flush()


def _is_of_training(event: Event) -> bool:
    """Whether an event says that steps are made: before, the run may still be refused."""
    return isinstance(event, Progress) and event.what.startswith("training")


def _read(path: Path) -> list[Event]:
    """Return what earlier processes of a run said."""
    if not path.exists():
        return []
    found: list[Event] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # a line that a kill cut off
            event = from_json(json.loads(line))
            if event is not None and not isinstance(event, Progress):
                found.append(event)
    return found


def _summarise(paths: RunPaths, events: list[Event], ending: str) -> None:
    if is_first() and paths.settings.exists():
        write_summary(paths, json.loads(paths.settings.read_text(encoding="utf-8")), events, ending)
