"""Edits and their history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from napari_tokenunify.config.base import BoxText, Config, PlacesText, VoxelSizeText


class ProofreadConfig(Config):
    """What every verb of proofreading has to know."""

    segmentation: CliPositionalArg[str]
    """Folder that `segment` has made; its edits lie in it, and nothing else there changes."""
    author: str | None = None
    """Who edits; by default the name of the account."""


class ProofreadAtConfig(ProofreadConfig):
    """An edit of what lies at some places."""

    at: PlacesText
    """Where: voxels z,y,x of the segmentation or ids of fragments, separated by spaces: "10,20,30 10,40,50"."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Which segments are meant: those at this threshold instead of the saved ones; a larger value means larger ones."""


class ProofreadMergeConfig(ProofreadAtConfig):
    """Join the segments at two places or more into one; they need not touch."""


class ProofreadSplitConfig(ProofreadAtConfig):
    """Cut a segment between sides where affinities are least; a / separates the places of two sides or more."""


class ProofreadDetachConfig(ProofreadAtConfig):
    """Take the fragment at a place out of its segment."""


class ProofreadCutConfig(ProofreadConfig):
    """Divide a fragment along a line, where no split can, as the error is inside of it."""

    along: PlacesText | None = None
    """Corners z,y,x of the line from edge to edge, separated by spaces: "10,20,30 10,40,50"; voxels, no fragments."""
    mask: str | None = None
    """In place of corners, a volume that is not 0 on the line: as large as the segmentation, or as the box."""
    box: BoxText | None = None
    """Where a smaller mask lies, z0:z1,y0:y1,x0:x1 in voxels of the segmentation."""
    fragment: Annotated[int, Field(ge=1)] | None = None
    """Which to divide; by default the one that most of the line lies in."""
    through: Literal["z", "y", "x", "nothing"] = "z"
    """The axis along which the line is carried on through as many sections as it takes; nothing takes it as it is."""


class ProofreadDeleteConfig(ProofreadAtConfig):
    """Make the segments at some places background."""


class ProofreadLockConfig(ProofreadAtConfig):
    """Mark the segment at a place correct: no edit and no threshold changes it from now on."""


class ProofreadUnlockConfig(ProofreadAtConfig):
    """Let the segment at a place be changed again."""


class ProofreadCommentConfig(ProofreadConfig):
    """Keep a remark in the history."""

    text: str
    """What to say."""
    at: PlacesText | None = None
    """What it is about: voxels z,y,x of the segmentation or ids of fragments, separated by spaces."""


class ProofreadStepsConfig(ProofreadConfig):
    """A walk through the history."""

    steps: Annotated[int, Field(ge=1)] = 1
    """How many edits; a larger value goes further."""


class ProofreadUndoConfig(ProofreadStepsConfig):
    """Take the last edit back; there is no limit, and nothing is lost."""


class ProofreadRedoConfig(ProofreadStepsConfig):
    """Make the edit again that was taken back last."""


class ProofreadGoConfig(ProofreadConfig):
    """Go to the state after any edit of any branch."""

    to: str
    """The name of the edit, or how it begins, or start for the state before the first."""


class ProofreadLogConfig(ProofreadConfig):
    """List the edits in force, the branches and the pace; write all edits to a file."""

    out: str | None = None
    """A JSON file to write all edits to, those of other branches too."""


class ProofreadReplayConfig(ProofreadConfig):
    """Take over the edits of a log; where there are edits already, those that agree, and list what contradicts."""

    log: str
    """A file that `proofread log --out` has written for the same fragments."""


class ProofreadCarryConfig(ProofreadConfig):
    """Make the edits of another segmentation of the same volume again on this one, by pointing at the same places."""

    source: str
    """The segmentation whose edits are carried over."""


class ProofreadLabelsConfig(ProofreadConfig):
    """Write what edits say as labels for `finetune --annotations`: merges, splits and segments marked correct."""

    volume: str
    """The image that was segmented."""
    out: str
    """The OME-Zarr to make, e.g. edits.zarr."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """At which you have seen the segments, instead of the saved one; what is joined there becomes one label."""
    annotations: str | None = None
    """Your own labels on the image; where there are any they win."""
    boundary_id: Annotated[int, Field(ge=1)] | None = None
    """The id in the annotations that stands for membrane or outside."""
    zero_is_boundary: bool = False
    """Read 0 in the annotations as boundary: for dense labels in which 0 is background and nothing is unlabelled."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm of the image, e.g. 40,4,4; overrides what the file says."""
