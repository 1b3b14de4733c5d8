"""How much memory a process has had."""

from __future__ import annotations

import sys

import psutil  # type: ignore[import-untyped]


def peak_memory_mb() -> float:
    """Return the most memory (resident, in MB) that this process has had so far."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
