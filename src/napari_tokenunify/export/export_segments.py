"""The stage `export`: segments or affinities in, a file that other programs read out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.events import Message
from napari_tokenunify.export.affinity_files import Affinities, open_part
from napari_tokenunify.export.content import Segments
from napari_tokenunify.export.formats import write_export
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.proofread.edited import open_edited
from napari_tokenunify.segment.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import ExportConfig
    from napari_tokenunify.events import Event


def export(config: ExportConfig) -> Generator[Event, None, dict[str, Any]]:
    """Write the segments at a threshold, or affinities, in a format of others; all of it or nothing.

    Returns
    -------
    dict
        `out`, `format`, `shape` (z, y, x), `segments` (how many are in it) or, of affinities, `channels`, `seconds`,
        `peak_memory_mb`.

    Raises
    ------
    ExportError, SegmentError
        If there is no such segmentation, it has no threshold to move, something else is at `out`, or it cannot be
        written.
    ConfigError
        If the box reaches outside, or not one of segmentation and affinities is named.
    """
    started = time.monotonic()
    out = Path(config.out).expanduser().absolute()
    content = _content(config)
    yield from write_export(content, out, config.format, overwrite=config.overwrite)
    if isinstance(content, Segments) and content.count == 0:
        yield Message(f"{out} holds no segment: nothing was segmented there.", "warning")
    counted = {"segments": content.count} if isinstance(content, Segments) else {"channels": content.channels}
    return {
        "out": str(out),
        "format": config.format,
        "shape": list(content.shape),
        **counted,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def _content(config: ExportConfig) -> Segments | Affinities:
    box = Box.parse(config.box) if config.box else None
    if (config.segmentation is None) == (config.affinities is None):
        raise ConfigError("Say what to export: --segmentation or --affinities, one of them.")
    if config.segmentation is not None:
        opened = Segmentation.open if config.ignore_edits else open_edited
        content = Segments.of(opened(config.segmentation), config.threshold, box)
        return content.only(config.segments) if config.segments else content
    if config.segments or config.threshold is not None:
        raise ConfigError("Affinities have no segments and no threshold: leave out --segments and --threshold.")
    return open_part(str(config.affinities), box)
