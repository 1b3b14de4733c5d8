"""The table of formats: a new one is a file with `write` and `is_ours`, and a line here (and in ExportConfig)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from napari_tokenunify.events import Event
    from napari_tokenunify.export.content import Content


@dataclass(frozen=True)
class Format:
    """One way to write a Content.

    Attributes
    ----------
    path : str
        `module:function` in this room; the function takes a Content and a Path, yields Events and writes. The module
        has a function `is_ours(path)`, too, which says whether something there is an export of this kind.
    suffix : str
        Ending of a name, e.g. ".tif".
    title, about : str
        For people: a name, and a sentence.
    is_folder : bool
        Whether it is a folder.
    sidecar : bool
        Whether the format has no place for provenance, so that it lies beside it, in `NAME.json`.
    """

    path: str
    suffix: str
    title: str
    about: str
    is_folder: bool = False
    sidecar: bool = False

    def write(self, content: Content, path: Path) -> Generator[Event, None, None]:
        """Write, to a name that may be taken."""
        generator: Generator[Event, None, None] = self._named(self.path.partition(":")[2])(content, path)
        return generator

    def is_ours(self, path: Path) -> bool:
        """Return whether what is at a path is an export of this kind."""
        return bool(self._named("is_ours")(path))

    def _named(self, function: str) -> Callable[..., Any]:
        module = import_module(f"napari_tokenunify.export.{self.path.partition(':')[0]}")
        named: Callable[..., Any] = getattr(module, function)
        return named


FORMATS: Final[dict[str, Format]] = {
    "ome-zarr": Format(
        "ome_zarr:write", ".zarr", "OME-Zarr", "For napari, Neuroglancer and most others; any size.", is_folder=True
    ),
    "ome-zarr-0.4": Format(
        "ome_zarr:write_04", ".zarr", "OME-Zarr 0.4", "For programs that read no Zarr v3 yet.", is_folder=True
    ),
    "tiff": Format("tiff:write", ".tif", "TIFF", "One stack of sections, for Fiji and nearly everything else."),
    "hdf5": Format("hdf5:write", ".h5", "HDF5", "As CREMI has it, for ilastik, PlantSeg and Python."),
    "csv": Format(
        "tables:write", ".csv", "Table (CSV)", "A row a segment: size, fragments, bounding box.", sidecar=True
    ),
}
"""The formats by their names in ExportConfig."""


def write_export(content: Content, path: Path, kind: str, *, overwrite: bool = False) -> Generator[Event, None, None]:
    """Write a Content to a file or folder, all of it or nothing; block by block, so that its size does not matter.

    Parameters
    ----------
    content : Content
        What to write.
    path : Path
        Where; its parent folder is made if missing.
    kind : str
        A key of FORMATS.
    overwrite : bool
        Whether an export of the same kind that is there may be replaced; nothing else ever is.

    Yields
    ------
    Event
        Progress.

    Raises
    ------
    ExportError
        If it may not, or cannot, be written, or the voxels cannot be read.
    VolumeError
        If the voxels cannot be read.
    """
    from napari_tokenunify.export.target import check_target, whole_export
    from napari_tokenunify.project import whole_file

    form = FORMATS[kind]
    check_target(path, form.is_ours, overwrite=overwrite)
    with whole_export(path, is_folder=form.is_folder) as part:
        yield from form.write(content, part)
        if form.sidecar:
            with whole_file(path.with_name(f"{path.name}.json"), ExportError) as beside:
                beside.write_text(json.dumps(content.provenance, indent=1), encoding="utf-8")
