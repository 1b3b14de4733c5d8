"""Config: the one place where a setting is named, limited and explained.

The command line's flags, the forms of the plugin and the saved YAML are all made from these models.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import CliPositionalArg

from napari_tokenunify.geometry import Box, parse_voxel_size


class Config(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again (pydantic's own copy is not)."""
        return type(self).model_validate({**self.model_dump(), **changes})


def what_is_wrong(error: ValidationError, flag: bool = False) -> str:
    """Return in one sentence what a Config did not accept; the first thing, if it is more than one.

    Parameters
    ----------
    error : ValidationError
        Of pydantic.
    flag : bool
        Whether to name the field as the command line does.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "a setting"
    if flag:
        field = "--" + field.rpartition(".")[2].replace("_", "-")
    if first["type"] == "missing":
        return f"{field} is missing."
    if first["type"] == "extra_forbidden":
        return f"there is no setting {field}."
    said = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{field}: {said} (given: {first['input']!r})."


def _is_voxel_size(text: str) -> str:
    parse_voxel_size(text)
    return text


def _is_box(text: str) -> str:
    Box.parse(text)
    return text


def _are_places(text: str) -> str:
    words = text.replace("/", " ").split()
    if not words or not all(_PLACE.fullmatch(word) for word in words):
        raise ValueError("a place is a voxel z,y,x or the id of a fragment; several are separated by spaces")
    return text


_PLACE = re.compile(r"\d+(,\d+,\d+)?")
VoxelSizeText = Annotated[str, AfterValidator(_is_voxel_size)]
BoxText = Annotated[str, AfterValidator(_is_box)]
PlacesText = Annotated[str, AfterValidator(_are_places)]


class VolumeConfig(Config):
    """What every verb that reads a volume has to know."""

    uri: CliPositionalArg[str]
    """The volume: a path, path::inner for a dataset inside a file, path::c=0 for one channel, or an address."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm, e.g. 40,4,4; overrides what the file says."""


class InfoConfig(VolumeConfig):
    """Show shape, data type, voxel size, chunks and levels of a volume, and a checksum of its middle."""


class CheckConfig(VolumeConfig):
    """Look for what spoils a segmentation: blank, doubled or shifted sections, contrast jumps, inversion."""


class DemoConfig(Config):
    """Run the main job on the bundled sample, or on your own volume, and show or write the result."""

    volume: str | None = None
    """Your own volume instead of the bundled sample."""
    annotations: str | None = None
    """Labels that go with it; 0 = unlabelled."""
    out: str = "demo.tokenunify"
    """Folder for the results, a project; made if missing."""
    minutes: Annotated[float, Field(gt=0)] = 1.0
    """How long to train, if there are labels; a larger value gives better segments."""
    headless: bool = False
    """Write results and pictures, and open no window."""


class RunConfig(Config):
    """Do what a file says in a project: train, predict, segment, compare, export; done again, only what is missing."""

    file: CliPositionalArg[str]
    """A YAML file that names `project`, `volume`, `annotations` and the steps with their settings."""


class ModelsListConfig(Config):
    """List the models that have a name: those that are here, and the official ones that can be had."""

    online: bool = False
    """Ask the hub for sizes and licences of the official ones; needs a connection."""


class ModelsInfoConfig(Config):
    """Show all that is known of a model: its network, voxel size, licence, training and origin."""

    model: CliPositionalArg[str]
    """A name, or a path to weights or to the folder of a training run."""


class ModelsGetConfig(Config):
    """Download a model and keep it under its name; shows licence and size first, and goes on where it was cut off."""

    name: CliPositionalArg[str]
    """One of those that `models list` shows, or any name together with --file."""
    yes: bool = False
    """Agree to the licence and download; without it, nothing is."""
    repository: str = "cyd0806/TokenUnify"
    """Repository of the Hugging Face hub, OWNER/NAME."""
    file: str | None = None
    """Path of the weights in the repository; by default the one that has the name in its path."""


class ModelsImportConfig(Config):
    """Take weights from a file under a name: a .pth of any TokenUnify training, or a checkpoint of this package."""

    path: CliPositionalArg[str]
    """The file, or the folder of a checkpoint or a training run. Nothing in it is executed."""
    name: str
    """What to call it."""
    licence: str | None = None
    """What may be done with the weights, best as an SPDX identifier, e.g. CC-BY-4.0."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm that the weights were trained at."""
    offsets: str | None = None
    """What the outputs stand for; needed if there are neither one nor three: --offsets="-1,0,0 0,-1,0"."""
    partial: bool = False
    """Take the weights even if less than 90 % of the network's tensors are in the file; the others are random."""


class ModelsExportConfig(Config):
    """Write a model for other programs: a .pth with the official names, or a bioimage.io package (.zip)."""

    model: CliPositionalArg[str]
    """A name, or a path to weights or to the folder of a training run."""
    out: str
    """The file to make; its ending says what: .pth for the official code, .zip for bioimage.io."""
    authors: tuple[str, ...] = ()
    """Who made the weights, for the package."""


class DoctorConfig(Config):
    """Look at Python, packages, Qt, OpenGL, GPU, scan kernels, memory, disk and weights, and say what to mend."""


class FragmentsConfig(Config):
    """How affinities are cut into fragments, the smallest pieces that are ever joined or told apart."""

    fragment_mode: Literal["auto", "sections", "volume"] = "auto"
    """Each section for itself as in the paper, or in 3-D; auto takes sections where z is 2.5 times coarser than y."""
    boundary_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Boundary, 1 - affinity, from which on nothing hangs together; a larger value gives fewer, larger fragments. By
    default 0.5 in sections (paper) and 0.85 in volumes."""
    seed_smoothing: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Blur of the distance to the boundary, in voxels; a larger value gives fewer, larger fragments (paper: 0)."""
    min_fragment_size: Annotated[int, Field(ge=0)] = 10
    """Fragments of fewer voxels go to the neighbour they hang on, if any; a larger value gives fewer, larger ones."""


class AgglomerateConfig(Config):
    """How fragments are joined into segments."""

    method: Literal["waterz", "mean", "multicut", "lifted", "mutex", "gasp"] = "waterz"
    """waterz and mean give a threshold that can be moved afterwards; the others solve once for the whole volume."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Pairs are joined up to this score, 1 - affinity; a larger value gives fewer, larger segments (not multicuts)."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """For multicut and lifted alone: a larger value gives more, smaller segments."""


class EvaluateConfig(Config):
    """Compare a segmentation with labels: variation of information, adapted Rand error, and the worst neurons."""

    segmentation: str
    """What is judged: a label volume (a path, path::inner or an address), or a folder that `segment` made."""
    labels: str
    """What is true: a label volume, or a CSV or SWC file, of the same shape. Sparse labels will do."""
    box: BoxText | None = None
    """Compare only here, z0:z1,y0:y1,x0:x1 in voxels; a larger box gives steadier numbers."""
    ignore: tuple[Annotated[int, Field(ge=0, lt=2**64)], ...] = (0,)
    """Ids of the labels that do not count, e.g. 0,255; replaces the 0 that stands for unlabelled, so name it too."""
    ignore_segments: tuple[Annotated[int, Field(ge=0, lt=2**64)], ...] = ()
    """Segments whose voxels do not count; 0 compares only where something was segmented."""
    min_size: Annotated[int, Field(ge=0)] = 0
    """Ignore ids of the labels with fewer voxels in the whole label volume; a larger value forgives more specks."""
    widen_borders: bool = False
    """Ignore labels that touch another neuron in their section, as TokenUnify does; gives lower, kinder errors."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """For a folder, judge the segments at this threshold instead of the saved ones; larger merges more."""
    ignore_edits: bool = False
    """Take the segments as they were agglomerated, without the edits that were made in proofreading."""
    worst: Annotated[int, Field(ge=0)] = 10
    """How many of the worst neurons to list, with places to look at; 0 saves reading everything a second time."""
    skeletons: str | None = None
    """Skeletons of true neurons, for the expected run length: an SWC file, a folder of these, or CSV of drawn paths."""
    skeleton_unit: Literal["voxel", "nm", "um"] | None = None
    """What the coordinates of the skeletons count; an SWC file does not say it, a CSV file is in voxels by default."""
    run_length: bool = False
    """Measure the expected run length, on skeletons made of the labels where none are given; takes long."""
    merge_nodes: Annotated[int, Field(ge=0)] = 0
    """A segment merges neurons if it holds more nodes than this of two skeletons; a larger value forgives more."""


class PredictConfig(Config):
    """Predict the affinities of a volume; a run that was stopped goes on with the same command."""

    volume: str
    """The image: a path, path::inner for a dataset inside a file, or an address."""
    model: str
    """Name of a model, or a path to weights or to the folder of a training run."""
    out: str
    """Where the affinities go, by custom NAME.zarr."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm of the volume, e.g. 40,4,4; overrides what the file says."""
    box: BoxText | None = None
    """Only this part of the volume, z0:z1,y0:y1,x0:x1 in voxels; a larger box takes longer."""
    tile: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Voxels z,y,x that the network sees at once; larger ones give more context and fewer borders, and take memory."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Part of a tile that the next one covers too; a larger value gives smoother joins and takes longer."""
    start_at: tuple[int, int, int] | None = None
    """Voxel z,y,x near which to start; what is near comes first."""
    tta: Literal["none", "flips", "flips+transpose"] = "none"
    """Look at each tile in 1, 8 or 16 orientations and average; better, many times slower, with an uncertainty map."""
    dtype: Literal["uint8", "float16"] = "uint8"
    """How affinities are stored; float16 is finer and takes twice the room."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What the network computes in; auto takes half precision where the device is made for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it computes; auto takes a GPU if there is one."""
    resample: bool = False
    """If the voxel size differs by more than a fifth from the network's, show it the volume at its own size."""
    overwrite: bool = False
    """Start anew where affinities are already; without it, a run goes on, or stops if its settings are others."""


Extent = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Margin = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class SegmentConfig(FragmentsConfig, AgglomerateConfig):
    """Cut affinities into fragments and join them to segments; a run that was stopped goes on with the same command."""

    affinities: str
    """What `predict` has made, or any array (c, z, y, x) of affinities, uint8 or float."""
    out: str
    """Folder to make for the segmentation."""
    offsets: tuple[tuple[int, int, int], ...] | None = None
    """What the channels stand for, one z,y,x each, where the affinities do not say."""
    mask: str | None = None
    """A volume that is 0 where nothing is to be segmented, e.g. cell bodies or empty resin."""
    box: BoxText | None = None
    """Only this part of the affinities, z0:z1,y0:y1,x0:x1 in voxels; a larger box takes longer."""
    tune: str | None = None
    """Labels, 0 = unlabelled: try many thresholds (betas) on them and take the best; more labels give a better one."""
    block: Extent | None = None
    """Voxels z,y,x that are done at once; larger blocks have fewer borders and take more memory."""
    halo: Margin = (16, 32, 32)
    """Voxels z,y,x around a block that it sees too; a larger halo gives better joins at borders and takes longer."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes (or Slurm jobs) that share the blocks; more are faster and take more memory, the result is the same."""
    cluster: str | None = None
    """Address of a dask scheduler, tcp://host:8786, or slurm:queue=NAME,cores=1,memory=8GB to start jobs."""
    overwrite: bool = False
    """Start anew where a segmentation is already; without it, a run goes on, or stops if its settings are others."""


class AffinityTrainingConfig(Config):
    """What every training on labels has to know."""

    volume: str
    """The image: a path, path::inner for a dataset inside a file, or an address."""
    annotations: str
    """Labels on it, 0 = unlabelled: a label volume, or a CSV or SWC file; more labels give a better network."""
    out: str
    """Folder of the run: checkpoints, curves, previews, summary."""
    model: str = "small"
    """What to start from: a model's name, a path to weights or a run, or the name of a size to start from scratch."""
    minutes: Annotated[float, Field(gt=0)] = 5.0
    """How long to train; crop, batch and schedule are chosen to suit. A larger value gives a better network."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Train for so many steps instead; a larger value takes longer and gives a better network."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm of the volume, e.g. 40,4,4; overrides what the file says."""
    boundary_id: Annotated[int, Field(ge=1)] | None = None
    """The id in the annotations that stands for membrane or outside."""
    zero_is_boundary: bool = False
    """Read 0 in the annotations as boundary: for dense labels in which 0 is background and nothing is unlabelled."""
    parts: Literal["auto", "all", "decoder", "head", "adapters"] = "auto"
    """What learns; auto lets all of it learn, or the decoder alone where a trained network meets few labels."""
    loss: Literal["mse", "bce", "dice", "focal"] = "bce"
    """mse is the paper's, bce learns faster in short runs; dice and focal weigh rare borders more."""
    widen_borders: bool = False
    """Take voxels beside another neuron for boundary, as TokenUnify does; segments get apart more surely."""
    hold_out: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of the labels kept back to measure on; a larger value measures better and leaves less to learn from."""
    patience: Annotated[int, Field(ge=0)] = 10
    """End early after so many measurements without a better one; a larger value waits longer, 0 for ever."""
    crop: Extent | None = None
    """Voxels z,y,x of a training crop; larger ones show more context, and take time and memory."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Crops of a step; a larger value gives steadier and fewer steps."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far a step goes at most; a larger value learns faster until it breaks down."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What the network computes in; auto takes half precision where the device is made for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it computes; auto takes a GPU if there is one."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Threads (or, with a GPU, processes) that make crops ahead; more help where the network waits for crops."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed gives other crops, and other weights where one starts from scratch."""


class FinetuneConfig(AffinityTrainingConfig):
    """Teach a network your data from sparse labels, in the background; a run that was stopped goes on as it was."""

    preview: BoxText | None = None
    """Part of the volume to predict now and then while training, z0:z1,y0:y1,x0:x1; a larger one takes longer."""
    preview_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Time between two previews; a larger value leaves more of it to training."""


class JobConfig(Config):
    """What every verb about one job has to know."""

    run: CliPositionalArg[str]
    """The folder of the run."""


class JobsListConfig(Config):
    """List the jobs that were started here, the last one first, and how they stand."""

    running: bool = False
    """Only those that have not ended."""


class JobsShowConfig(JobConfig):
    """Show how a job stands: state, progress, last metrics, memory, settings, the end of its log."""


class JobsWatchConfig(JobConfig):
    """Watch a job until it ends; Ctrl-C leaves off watching, and the job goes on."""


class JobsPauseConfig(JobConfig):
    """Let a job wait after its step, with all it has in memory; `jobs resume` lets it go on."""


class JobsStopConfig(JobConfig):
    """End a job after its step, with a checkpoint; `jobs resume` goes on from there."""

    now: bool = False
    """End it at once; what it did since its last checkpoint is lost."""


class JobsResumeConfig(JobConfig):
    """Let a job go on that is paused, was stopped, failed or crashed."""


class JobsLogConfig(JobConfig):
    """Show the end of what a job and its libraries printed."""

    lines: Annotated[int, Field(ge=1)] = 40
    """How many lines; a larger value goes further back."""


class JobsCompareConfig(Config):
    """Put runs side by side: settings that differ, the last and the best of what was measured."""

    runs: CliPositionalArg[tuple[str, ...]]
    """The folders of two runs or more."""


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
    """Voxels (from ome-zarr to precomputed), surfaces (obj to precomputed-meshes), skeletons (swc) or tables."""
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


class PretrainConfig(Config):
    """Teach a network what tissue looks like, without any label; a run that was stopped goes on as it was."""

    volumes: Annotated[tuple[str, ...], Field(min_length=1)]
    """The images: paths, path::inner for a dataset inside a file, or addresses; more, and more different ones, help."""
    out: str
    """Folder of the run: checkpoints, curves, reconstructions, summary."""
    recipe: str = "paper"
    """What is predicted from what: paper, official-code, mae, autoregressive, random+next, random+next-all, or a path
    to a YAML file of your own."""
    model: str = "small"
    """The name of a size to start from scratch, or a model's name, a path to weights or a run to go on from."""
    minutes: Annotated[float, Field(gt=0)] = 60.0
    """How long to train; the recipe's phases end with it. A larger value gives a better network."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Train for so many steps instead; a larger value takes longer and gives a better network."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """How often crops are taken from each volume, in proportion; a larger value takes more. By default all alike."""
    licences: tuple[str, ...] = ()
    """What may be done with each volume, best as an SPDX identifier; kept with the weights."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm of all volumes, e.g. 40,4,4; overrides what the files say."""
    resample: bool = True
    """Bring crops of volumes whose voxel size differs by more than a fifth from the first one's to that one."""
    hold_out: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the sections, the last of each volume, that is only measured on; a larger value measures better."""
    crop: Extent | None = None
    """Voxels z,y,x of a training crop; larger ones show more context, and take time and memory."""
    token: Extent | None = None
    """Voxels z,y,x of a token, in place of the recipe's; larger ones hide more at a stretch, which is harder."""
    order: Literal["raster", "hilbert", "near-to-far"] | None = None
    """In which order tokens come, in place of the recipe's."""
    unit: Literal["token", "cell", "spread", "scale"] | None = None
    """What is predicted next, in place of the recipe's: a token, a cell of neighbours, a subsample, a finer scale."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Crops of a step; a larger value gives steadier and fewer steps."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far a step goes at most; a larger value learns faster until it breaks down."""
    preview_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Time between two reconstructions; a larger value leaves more of it to training."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What the network computes in; auto takes half precision where the device is made for it."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it computes; auto takes a GPU if there is one."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Threads (or, with a GPU, processes) that make crops ahead; more help where the network waits for crops."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed gives other crops, and other weights where one starts from scratch."""


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
    annotations: str | None = None
    """Your own labels on the image; where there are any they win."""
    boundary_id: Annotated[int, Field(ge=1)] | None = None
    """The id in the annotations that stands for membrane or outside."""


class ComparePretrainingConfig(AffinityTrainingConfig):
    """Train alike from a pre-training, from scratch and from others, and score each on labels that none has seen."""

    model: str
    """The pre-training in question: a run of `pretrain`, a path to weights, or a model's name."""
    others: tuple[str, ...] = ()
    """Further starts to hold beside it, best a plain masked autoencoder (recipe mae) of the same budget."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Trainings from each start, with the seeds seed, seed + 1, ...; more tell skill from chance, and take longer."""
    test: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the labels that no training sees and all are scored on; a larger value leaves less to learn from."""
    box: BoxText | None = None
    """Score in this part of the volume instead, z0:z1,y0:y1,x0:x1 in voxels; no training sees its labels."""
    truth: str | None = None
    """What is true in that box, where the annotations do not say it, e.g. dense labels; a path or an address."""
    patience: Annotated[int, Field(ge=0)] = 0
    """End a training early after so many measurements without a better one; 0 gives each its whole budget."""
