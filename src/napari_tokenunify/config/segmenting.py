"""From a volume to segments, and how good these are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_tokenunify.config.base import BoxText, Config, Extent, Margin, VoxelSizeText


class FragmentsConfig(Config):
    """How affinities are cut into fragments, the smallest pieces that are ever joined or told apart."""

    fragment_mode: Literal["auto", "sections", "volume"] = "auto"
    """Each section for itself as in the paper, or in 3-D; auto takes sections where z is 2.5 times coarser than y."""
    boundary_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Boundary, 1 - affinity, from which on nothing hangs together; a larger value gives fewer, larger fragments. By
    default 0.3 in sections (paper: 0.5) and 0.85 in volumes, or less where the network is unsure of all boundaries."""
    seed_smoothing: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Blur of the distance to the boundary, in voxels; a larger value gives fewer, larger fragments (paper: 0)."""
    min_fragment_size: Annotated[int, Field(ge=0)] = 10
    """Fragments of fewer voxels go to the neighbour they hang on, if any; a larger value gives fewer, larger ones."""


class AgglomerateConfig(Config):
    """How fragments are joined into segments."""

    method: Literal["waterz", "mean", "multicut", "lifted", "mutex", "gasp"] = "mean"
    """mean and waterz (the paper's) give a threshold that can be moved afterwards; the others solve once for all."""
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
    resample: bool = True
    """If the voxel size differs by more than a fifth from the network's, show it the volume at its own size, and bring
    the affinities back; off, the volume is taken as it is."""
    overwrite: bool = False
    """Start anew where affinities are already; without it, a run goes on, or stops if its settings are others."""


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
    ignore: tuple[Annotated[int, Field(ge=0, lt=2**64)], ...] = ()
    """Ids of these labels that do not count either, e.g. that of the membrane."""
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


class ImportConfig(FragmentsConfig):
    """Take over segments that were made elsewhere, so that they can be proofread and exported here."""

    segments: str
    """A label volume, 0 = nothing: segments, or with `mapping` supervoxels. Any format that opens here."""
    out: str
    """Folder to make for the segmentation."""
    mapping: str | None = None
    """Which supervoxel belongs to which segment: a CSV with a header and two columns, or a .npy of shape (N, 2)."""
    affinities: str | None = None
    """Of the same volume: segments are cut into fragments along them, and likely errors are found by them."""
    offsets: tuple[tuple[int, int, int], ...] | None = None
    """What the channels of the affinities stand for, one z,y,x each, where they do not say."""
    volume: str | None = None
    """The image that the segments lie over; they may be of a part of it if their file says where that begins."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm, where the files do not say it."""
    block: Extent | None = None
    """Voxels z,y,x that are done at once; fragments that are cut end at the faces of blocks."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes (or Slurm jobs) that share the blocks; more are faster and take more memory, the result is the same."""
    cluster: str | None = None
    """Address of a dask scheduler, tcp://host:8786, or slurm:queue=NAME,cores=1,memory=8GB to start jobs."""
    overwrite: bool = False
    """Start anew where a segmentation is already; without it, a run goes on, or stops if its settings are others."""
