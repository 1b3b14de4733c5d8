"""Files for other programs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_tokenunify.config.base import BoxText, Config

ExportFormat = Literal[
    "ome-zarr",
    "ome-zarr-0.4",
    "tiff",
    "hdf5",
    "n5",
    "precomputed",
    "precomputed-fragments",
    "obj",
    "ply",
    "glb",
    "precomputed-meshes",
    "swc",
    "csv",
    "csv-contacts",
    "edits",
]


class ExportConfig(Config):
    """Write segments in a format that other programs read; all of it or nothing."""

    segmentation: str | None = None
    """Folder that `segment` has made."""
    affinities: str | None = None
    """Write affinities that `predict` has made instead, as ome-zarr or hdf5, with all channels."""
    out: str
    """The file or folder to make, e.g. segments.zarr, segments.tif, segments.h5 or segments.csv."""
    format: ExportFormat = "ome-zarr"
    """Voxels (ome-zarr to precomputed-fragments), surfaces (obj to precomputed-meshes), skeletons, tables, or edits."""
    segments: tuple[Annotated[int, Field(ge=1, lt=2**64)], ...] = ()
    """Only these segments, by their ids; by default all."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Write the segments at this threshold instead of the saved ones; a larger value merges more."""
    box: BoxText | None = None
    """Only this part of the segmentation, z0:z1,y0:y1,x0:x1 in voxels; a larger box takes longer."""
    ignore_edits: bool = False
    """Take the segments as they were agglomerated, without the edits that were made in proofreading."""
    overwrite: bool = False
    """Replace an earlier export of the same format; anything else that is there stays."""
