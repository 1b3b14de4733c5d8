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
    from napari_tokenunify.export.affinity_files import Affinities
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
    group : str
        What is written: voxels, meshes, skeletons or a table.
    """

    path: str
    suffix: str
    title: str
    about: str
    is_folder: bool = False
    sidecar: bool = False
    group: str = "voxels"

    def write(self, content: Content | Affinities, path: Path) -> Generator[Event, None, None]:
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
    "n5": Format("n5:write", ".n5", "N5", "For BigDataViewer, Paintera and MoBIE; any size.", is_folder=True),
    "precomputed": Format(
        "precomputed:write",
        ".precomputed",
        "Neuroglancer precomputed",
        "For Neuroglancer and CloudVolume; any size. Needs tensorstore.",
        is_folder=True,
    ),
    "precomputed-fragments": Format(
        "precomputed:write_fragments",
        ".precomputed",
        "Neuroglancer precomputed, fragments",
        "The fragments, and which segment each is in: for proofreading elsewhere. Needs tensorstore.",
        is_folder=True,
    ),
    "obj": Format(
        "mesh_files:write_obj",
        ".meshes",
        "Meshes, OBJ",
        "A folder with a surface for each segment; text, for any program.",
        True,
        group="meshes",
    ),
    "ply": Format(
        "mesh_files:write_ply",
        ".meshes",
        "Meshes, PLY",
        "A folder with a surface for each segment; small and fast to read.",
        True,
        group="meshes",
    ),
    "glb": Format(
        "mesh_files:write_glb",
        ".meshes",
        "Meshes, GLB",
        "A folder with a surface for each segment, for Blender and browsers.",
        True,
        group="meshes",
    ),
    "precomputed-meshes": Format(
        "mesh_files:write_precomputed",
        ".meshes",
        "Meshes, Neuroglancer",
        "A folder of surfaces that Neuroglancer shows, alone or with a volume.",
        True,
        group="meshes",
    ),
    "swc": Format(
        "skeleton_files:write",
        ".skeletons",
        "Skeletons, SWC",
        "A folder with a skeleton for each segment, in nm: for NAVis, NEURON and others.",
        True,
        group="skeletons",
    ),
    "csv": Format(
        "tables:write",
        ".csv",
        "Table of segments, CSV",
        "A row a segment: size, fragments, bounding box, uncertainty.",
        sidecar=True,
        group="tables",
    ),
    "csv-contacts": Format(
        "contacts:write",
        ".csv",
        "Table of contacts, CSV",
        "A row for each pair of segments that touch: how far, and how sure.",
        sidecar=True,
        group="tables",
    ),
    "edits": Format(
        "edit_log:write",
        ".json",
        "Edits, JSON",
        "All edits of proofreading, undone ones too: for a colleague, or the record.",
        group="tables",
    ),
}
"""The formats by their names in ExportConfig."""

AFFINITY_FORMATS: Final[dict[str, Format]] = {
    "ome-zarr": Format("affinity_files:write_zarr", ".zarr", "OME-Zarr", "All channels; any size.", is_folder=True),
    "hdf5": Format("affinity_files:write_hdf5", ".h5", "HDF5", "All channels, for PlantSeg, elf and Python."),
}
"""The formats of affinities."""


def write_export(
    content: Content | Affinities, path: Path, kind: str, *, overwrite: bool = False
) -> Generator[Event, None, None]:
    """Write a Content to a file or folder, all of it or nothing; block by block, so that its size does not matter.

    Parameters
    ----------
    content : Content or Affinities
        What to write.
    path : Path
        Where; its parent folder is made if missing.
    kind : str
        A key of FORMATS; for affinities, of AFFINITY_FORMATS.
    overwrite : bool
        Whether an export of the same kind that is there may be replaced; nothing else ever is.

    Yields
    ------
    Event
        Progress.

    Notes
    -----
    What a kill left of a folder is gone on with, if it is the same that is to be written; see `resume`.

    Raises
    ------
    ExportError
        If it may not, or cannot, be written, or the voxels cannot be read.
    VolumeError
        If the voxels cannot be read.
    """
    from napari_tokenunify.export.target import check_target, whole_export
    from napari_tokenunify.project import whole_file

    table = FORMATS if hasattr(content, "is_labels") else AFFINITY_FORMATS
    if kind not in table:
        raise ExportError(f"Affinities are not written as {kind}: choose {' or '.join(table)}.")
    form = table[kind]
    check_target(path, form.is_ours, overwrite=overwrite)
    known = content.fingerprint()
    with whole_export(path, is_folder=form.is_folder, fingerprint=known and f"{kind} {known}") as part:
        yield from form.write(content, part)
        if form.sidecar:
            with whole_file(path.with_name(f"{path.name}.json"), ExportError) as beside:
                beside.write_text(json.dumps(content.provenance, indent=1), encoding="utf-8")
