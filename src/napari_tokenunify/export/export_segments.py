"""The stage `export`: the segments of a segmentation in, a file that other programs read out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.events import Message
from napari_tokenunify.export.content import Segments
from napari_tokenunify.export.formats import write_export
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.segment.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import ExportConfig
    from napari_tokenunify.events import Event


def export(config: ExportConfig) -> Generator[Event, None, dict[str, Any]]:
    """Write the segments at a threshold in a format of others; all of it or nothing.

    Returns
    -------
    dict
        `out`, `format`, `shape` (z, y, x), `segments` (how many are in it), `seconds`, `peak_memory_mb`.

    Raises
    ------
    ExportError, SegmentError
        If there is no such segmentation, it has no threshold to move, something else is at `out`, or it cannot be
        written.
    ConfigError
        If the box reaches outside.
    """
    started = time.monotonic()
    segmentation = Segmentation.open(config.segmentation)
    out = Path(config.out).expanduser().absolute()
    content = Segments.of(segmentation, config.threshold, Box.parse(config.box) if config.box else None)
    yield from write_export(content, out, config.format, overwrite=config.overwrite)
    if content.count == 0:
        yield Message(f"{out} holds no segment: nothing was segmented there.", "warning")
    return {
        "out": str(out),
        "format": config.format,
        "shape": list(content.shape),
        "segments": content.count,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }
