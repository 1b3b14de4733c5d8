"""The stage `export`: segments or affinities in, a file that other programs read out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tokenunify.errors import ConfigError, ExportError
from napari_tokenunify.events import Message
from napari_tokenunify.export.affinity_files import Affinities, open_part
from napari_tokenunify.export.content import Segments
from napari_tokenunify.export.formats import write_export
from napari_tokenunify.geometry import Box
from napari_tokenunify.network.peak_memory import peak_memory_mb
from napari_tokenunify.project import whole_file
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


def export_once(config: ExportConfig, record: Path) -> Generator[Event, None, dict[str, Any]]:
    """Export, unless just this was exported to the same place before and is still there.

    Parameters
    ----------
    config : ExportConfig
        With `overwrite` it is exported anyway.
    record : Path
        A file that remembers what was exported where; made if missing.

    Returns
    -------
    dict
        As `export`; of an export that was there, what it returned then.

    Raises
    ------
    TokenUnifyError
        As `export`.
    """
    out = Path(config.out).expanduser().absolute()
    mark = f"{config.format} {_content(config).fingerprint()}"
    known = _exported(record)
    before = known.get(str(out), {})
    if out.exists() and before.get("mark") == mark and not config.overwrite:
        yield Message(f"{out} is there already, of the same content.")
        return dict(before.get("result") or {"out": str(out), "format": config.format})
    if not out.exists():  # a kill between the export and the note of it would leave one that nobody knows
        _remember(record, {**known, str(out): {"mark": mark}})
    result = yield from export(config)
    _remember(record, {**known, str(out): {"mark": mark, "result": result}})
    return result


def _exported(record: Path) -> dict[str, Any]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(record: Path, known: dict[str, Any]) -> None:
    with whole_file(record, ExportError) as part:
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")


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
