"""What a check of the data found, kept in the project, so that it is not computed twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from napari_tokenunify.data import Finding
from napari_tokenunify.errors import ProjectError
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_tokenunify.data import Volume
    from napari_tokenunify.events import Event


def check_and_keep(volume: Volume, path: Path) -> Generator[Event, None, list[Finding]]:
    """Run `check_volume`, and write what it finds to a file; for a thread.

    Raises
    ------
    ProjectError
        If it cannot be written.
    """
    from napari_tokenunify.data import check_volume  # here, as it loads much of SciPy

    findings = yield from check_volume(volume)
    with whole_file(path, ProjectError) as part:
        part.write_text(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n", encoding="utf-8")
    return findings


def kept_findings(path: Path) -> list[Finding] | None:
    """Return what was kept; None if there is nothing that can be read."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return [
            Finding(
                str(record["kind"]),
                record["severity"],
                str(record["message"]),
                tuple(map(int, record["sections"])),
                tuple((int(z), int(y), int(x)) for z, y, x in record["places"]),
            )
            for record in records
            if record["severity"] in {"info", "warning", "error"}
        ]
    except (OSError, ValueError, LookupError, TypeError):
        return None
