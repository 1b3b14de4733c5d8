"""How long the event loop of Qt stands still, apart from what other programs on the machine take from it."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

TICK_MS = 10
_STEAL = 8  # the column of /proc/stat


class Stalls:
    """Between `with` and its end, the longest time in which the event loop answered nothing.

    On Linux the time in which the main thread, or another one of this process that it may wait for, could have run but
    other work had the processors does not count, nor what a virtual machine's host took from it: a busy machine is
    nobody's mistake. Other waiting counts: for a file, a lock, a thread that works.

    Attributes
    ----------
    longest : float
        Seconds.
    where : str
        Where the main thread was when a stall had lasted for `suspect` seconds; of the longest.

    Parameters
    ----------
    suspect : float
        Seconds after which the main thread is looked at.
    """

    def __init__(self, suspect: float = 0.06) -> None:
        self.longest, self.where, self._suspect, self._excused = 0.0, "", suspect, 0.0
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._main, self._seen, self._over = threading.get_ident(), "", threading.Event()
        self._watchdog = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Stalls:
        self._last, self._queued = time.monotonic(), _lost_seconds()
        self._timer.start()
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._over.set()
        self._watchdog.join()

    def excusing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time does not count: what is not ours to make faster."""

        def excused(*arguments: Any, **settings: Any) -> Any:
            began, queued = time.monotonic(), _lost_seconds()
            try:
                return function(*arguments, **settings)
            finally:
                self._excused += time.monotonic() - began - _grown(queued, _lost_seconds())

        return excused

    def _tick(self) -> None:
        now, queued = time.monotonic(), _lost_seconds()
        stall = now - self._last - _grown(self._queued, queued) - self._excused
        if stall > self.longest:
            self.longest, self.where = stall, self._seen
        self._last, self._queued, self._seen, self._excused = now, queued, "", 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            if not self._seen and time.monotonic() - self._last > self._suspect:
                self._seen = "".join(traceback.format_stack(sys._current_frames()[self._main])[-12:])


def _lost_seconds() -> tuple[dict[str, float], dict[str, float]]:
    """Return how long each thread of this process has waited for a processor, and how long each processor was away.

    A processor of a virtual machine is away while its host gives the real one to others ("steal", in hundredths of a
    second). Nothing is in the dicts where that is not known.
    """
    waited, away = {}, {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # ended meanwhile
            waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    with suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            words = line.split()
            if re.fullmatch(r"cpu\d+", words[0]) and len(words) > _STEAL:
                away[words[0]] = int(words[_STEAL]) / os.sysconf("SC_CLK_TCK")
    return waited, away


def _grown(before: tuple[dict[str, float], ...], now: tuple[dict[str, float], ...]) -> float:
    """Return the longest time that a thread has waited for a processor since, and a processor was away."""
    return sum(
        max((seconds - old.get(name, 0.0) for name, seconds in new.items()), default=0.0)
        for old, new in zip(before, now, strict=True)
    )


def bearable(viewer: Viewer) -> float:
    """Return a stall (s) that is no mistake of ours: 0.1, and on a slow machine what two layers take to be added.

    That is what napari itself lets a user wait here and now, the least of three; work in the wrong thread takes longer.
    """
    active, taken = viewer.layers.selection.active, []
    for _ in range(3):
        began = time.monotonic()
        layer = viewer.add_points(np.zeros((1, viewer.dims.ndim)))
        taken.append(time.monotonic() - began)
        viewer.layers.remove(layer)
    viewer.layers.selection.active = active
    return max(0.1, 2 * min(taken))
