"""Fine-tuning, pre-training, and whether that helped."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_tokenunify.config.base import BoxText, Config, Extent, VoxelSizesText, VoxelSizeText
from napari_tokenunify.errors import ConfigError


class AffinityTrainingConfig(Config):
    """What every training on labels has to know."""

    volume: str
    """The image: a path, path::inner for a dataset inside a file, or an address."""
    annotations: str
    """Labels on it, 0 = unlabelled: a label volume, or a CSV or SWC file; more labels give a better network."""
    out: str
    """Folder of the run: checkpoints, curves, previews, summary."""
    model: str = "auto"
    """What to start from: a model's name, a path to weights or a run, or the name of a size to start from scratch; auto
    takes the model in the package that was trained on the most similar voxels, or small from scratch."""
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
    transfer: Literal["all", "encoder"] = "all"
    """What is taken from weights that were only pre-trained: all, as in the paper, or the encoder alone, as the decoder
    has learnt to paint grey values; try it after a short pre-training."""
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

    @model_validator(mode="after")
    def _new_decoder_learns(self) -> Self:
        if self.transfer == "encoder" and self.parts in {"head", "adapters"}:
            raise ConfigError(
                "--transfer encoder gives a new decoder, which has to learn: choose --parts all or --parts decoder."
            )
        return self


class FinetuneConfig(AffinityTrainingConfig):
    """Teach a network your data from sparse labels, in the background; a run that was stopped goes on as it was."""

    resample: bool = True
    """Learn at the voxel size that the model was trained at, where the volume's differs by more than a fifth."""
    preview: BoxText | None = None
    """Part of the volume to predict now and then while training, z0:z1,y0:y1,x0:x1; a larger one takes longer."""
    preview_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Time between two previews; a larger value leaves more of it to training."""


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
    voxel_size: VoxelSizesText | None = None
    """Voxel size z,y,x in nm, e.g. 40,4,4; overrides what the files say. One for all volumes, or one for each with
    spaces between; the word file stands for what a file says."""
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
    sweep: tuple[str, ...] = ()
    """Pre-train these sizes in place of --model, each for as long, e.g. tiny,small,base: a table and plots show what
    more parameters and more computing give. A sweep that was stopped goes on; a size that is done stays so."""
    annotations: str | None = None
    """With --sweep: labels on the first volume; each size is then trained on them, from its pre-training and from
    scratch, and its segments are scored at places that no training sees."""
    boundary_id: Annotated[int, Field(ge=1)] | None = None
    """The id in these annotations that stands for membrane or outside."""
    zero_is_boundary: bool = False
    """Read 0 in these annotations as boundary: for dense labels in which 0 is background and nothing is unlabelled."""
    finetune_minutes: Annotated[float, Field(gt=0)] = 5.0
    """How long each training on these annotations takes; a larger value scores better networks."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Trainings on these annotations of each size and start; more tell skill from chance, and take longer."""

    @model_validator(mode="after")
    def _has_labels_for_a_sweep_alone(self) -> Self:
        if self.annotations is not None and not self.sweep:
            raise ConfigError("Pre-training learns from no labels: leave out --annotations, or give --sweep, too.")
        return self


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
