"""Processes by number and time of birth, as numbers are used again."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

_SAME_S: Final = 2.0  # the clock may have been set meanwhile, and births are counted from the boot


def this_host() -> str:
    """Return the name of this machine."""
    return platform.node()


def identity(pid: int | None = None) -> dict[str, Any]:
    """Return pid, created and host of a process of this machine, by default this one; created is 0 if it has ended."""
    created = 0.0
    with suppress(psutil.Error):
        created = psutil.Process(pid).create_time()
    return {"pid": pid or os.getpid(), "created": created, "host": this_host()}


def find(process: dict[str, Any]) -> psutil.Process | None:
    """Return the process of this machine that `identity` described, if it lives still; a zombie does not."""
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["created"]) < _SAME_S
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, ValueError):
        return None


def end(process: dict[str, Any]) -> bool:
    """Kill a process and its descendants, if it lives; return whether it did."""
    found = find(process)
    if found is None:
        return False
    family = [found]
    with suppress(psutil.Error):
        family = [*found.children(recursive=True), found]
    for member in family:
        with suppress(psutil.Error):
            member.kill()
    return True
