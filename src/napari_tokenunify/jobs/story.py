"""What a worker's records say, taken together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from napari_tokenunify.events import Progress, from_json
from napari_tokenunify.jobs.spec import JobState


@dataclass
class Story:
    """One start of a job, as far as it has been told. A record changes it; `JobStatus` explains most fields."""

    started: float | None = None
    state: JobState = JobState.QUEUED
    reason: str | None = None
    progress: Progress | None = None
    eta_seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    step: int | None = None
    memory_mb: float | None = None
    gpu_memory_mb: float | None = None
    ended: float | None = None
    result: dict[str, Any] | None = None
    worker: dict[str, Any] = field(default_factory=dict)
    """pid, created and host, once the worker has said them."""
    last_sign: float = 0.0
    """When the worker said something last, seconds since 1970."""
    log: tuple[str, ...] = ()
    news: list[dict[str, Any]] = field(default_factory=list)
    """Records of events that nobody has fetched yet."""

    def take(self, record: dict[str, Any]) -> None:
        """Add a record of this start."""
        self.last_sign = float(record.get("time", 0.0))
        self.memory_mb = record.get("memory_mb", self.memory_mb)
        self.gpu_memory_mb = record.get("gpu_memory_mb", self.gpu_memory_mb)
        if record["event"] == "State":
            self._take_state(record)
        elif record["event"] == "Start":
            self.worker = {key: record.get(key) for key in ("pid", "created", "host")}
            self.state = JobState.STARTING
        else:
            self._take_event(record)

    def _take_state(self, record: dict[str, Any]) -> None:
        self.state = JobState(record["state"])
        self.reason = record.get("reason")
        if self.state is JobState.QUEUED:
            first = record.get("at_work") or "another job of its lane"
            self.reason = f"Place {record.get('place')} in line: {first} is at work."
        if self.state.final:
            self.ended = self.last_sign
            self.result = record.get("result")

    def _take_event(self, record: dict[str, Any]) -> None:
        self.news.append(record)
        if record["event"] == "Metric":
            self.step = record.get("step")
            self.metrics.update(record.get("values", {}))
        elif record["event"] == "Progress":
            event = from_json(record)
            self.progress = event if isinstance(event, Progress) else self.progress
            self.eta_seconds = record.get("eta_seconds")

    def seconds_left(self) -> float | None:
        """Return how long the present phase will take still, from now."""
        if self.eta_seconds is None or self.state is not JobState.RUNNING:
            return None
        return max(0.0, self.eta_seconds - max(0.0, time.time() - self.last_sign))

    def conclude(self, state: JobState, reason: str, log: tuple[str, ...] = ()) -> None:
        """End a story that the worker left without an end."""
        self.state, self.reason, self.log, self.ended = state, reason, log, time.time()
