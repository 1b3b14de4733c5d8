"""The whole chain of a project, from annotations to an export, as a file says it or as the window does step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import Field, ValidationError

from napari_tokenunify.config import Config, ExportConfig, VoxelSizeText, what_is_wrong
from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.events import Message
from napari_tokenunify.export.formats import FORMATS
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.network.installed import suggested_model
from napari_tokenunify.pipeline import STAGES
from napari_tokenunify.project import Project, ProjectState

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_tokenunify.config import RunConfig
    from napari_tokenunify.events import Event

CHAIN: Final = ("finetune", "predict", "segment", "evaluate", "export")
_PATHS: Final = {  # settings of its steps that name files
    "finetune": ("volume", "annotations"),
    "predict": ("volume", "out"),
    "segment": ("affinities", "mask", "tune", "out"),
    "evaluate": ("segmentation", "labels", "skeletons", "out"),
    "export": ("segmentation", "affinities", "out"),
}
_RUN: Final = "run"  # the folder of the chain's training, among those of the project's other runs


class Chain(Config):
    """What is done with a volume. A step is done if it is named; its settings are those of the verb of that name."""

    project: str
    """The project folder; made if missing. What is done there already is not done again."""
    volume: str
    """The image: a path, path::inner for a dataset inside a file, or an address."""
    voxel_size: VoxelSizeText | None = None
    """Voxel size z,y,x in nm, where the file does not say it."""
    annotations: str | None = None
    """Labels that training learns from."""
    boundary_id: int | None = Field(None, ge=1)
    """The id in the annotations that stands for membrane or outside."""
    zero_is_boundary: bool = False
    """Read 0 in the annotations as boundary, for dense labels; else 0 is unlabelled."""
    model: str = "auto"
    """What training starts from, or what predicts if nothing is trained; auto as in `finetune`."""
    finetune: dict[str, Any] | None = None
    """Train a network on the annotations."""
    predict: dict[str, Any] | None = None
    """Predict affinities."""
    segment: dict[str, Any] | None = None
    """Cut them into fragments and join these."""
    evaluate: dict[str, Any] | None = None
    """Compare the segments with labels; by default with the annotations."""
    export: dict[str, Any] | None = None
    """Write the segments for other programs."""


def run(config: RunConfig) -> Generator[Event, None, dict[str, Any]]:
    """Do what a file says.

    Returns
    -------
    dict
        `out` (the project folder), and for each step that was done what it returned.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a setting in it cannot be used; the sentence names it.
    TokenUnifyError
        What a step raises.
    """
    return (yield from run_chain(read_chain(Path(config.file).expanduser())))


def read_chain(path: Path) -> Chain:
    """Read a chain from YAML; paths in it count from the file's folder.

    Raises
    ------
    ConfigError
        If it cannot be read, or a setting in it cannot be used.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = str(error).replace("\n", " ")
        raise ConfigError(f"{path}: is no YAML: {said}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must say `volume: ...`, `project: ...` and the steps; see docs/chain.md.")
    steps = {step: content[step] or {} for step in CHAIN if step in content}  # `predict:` alone means as by default
    try:
        chain = Chain(**{**content, **steps})
    except ValidationError as error:
        raise ConfigError(f"{path}: {what_is_wrong(error)}") from error
    except TypeError as error:  # a key that is no word
        raise ConfigError(f"{path}: {error}.") from error
    here = path.resolve().parent
    paths: dict[str, Any] = {name: _from(here, getattr(chain, name)) for name in ("project", "volume", "annotations")}
    paths["model"] = _model_from(here, chain.model)
    for step, fields in _PATHS.items():
        settings = dict(getattr(chain, step) or {})
        for field in [field for field in fields if settings.get(field) is not None]:
            settings[field] = _from(here, str(settings[field]))
        if "model" in settings:
            settings["model"] = _model_from(here, str(settings["model"]))
        if settings:
            paths[step] = settings
    return chain.replace(**paths)


def run_chain(chain: Chain) -> Generator[Event, None, dict[str, Any]]:
    """Do the steps of a chain that are named, one after the other, in its project.

    Returns
    -------
    dict
        As `run`.

    Raises
    ------
    ConfigError
        If a setting of a step cannot be used; before anything is done.
    TokenUnifyError
        What a step raises.
    """
    from napari_tokenunify.export.export_segments import export_once  # here, as a window that opens would wait for it

    project = _project(chain)
    wanted = {step: settings for step in CHAIN if (settings := getattr(chain, step)) is not None}
    for step, settings in wanted.items():
        stage_config(project, step, **settings)  # so that a slip in the last step does not cost the first
    results: dict[str, Any] = {"out": str(project.folder)}
    for step, settings in wanted.items():
        yield Message(f"{step}:")
        config = stage_config(project, step, **settings)
        if isinstance(config, ExportConfig):
            results[step] = yield from export_once(config, project.exported)
        else:
            results[step] = yield from STAGES[step].run(config)
        if step == "finetune":
            project.change(trained=results[step]["out"])
    return results


def stage_config(project: Project, stage: str, **changes: Any) -> Config:
    """Return the settings of a stage in a project: what the project knows, and what is given beside it.

    Parameters
    ----------
    project : Project
        Where it works.
    stage : {"finetune", "predict", "segment", "import", "evaluate", "export", "pretrain", "compare-pretraining"}
        A verb of the chain, or of what leads to its model.
    **changes
        Fields of its Config.

    Raises
    ------
    ConfigError
        If a value cannot be used.
    """
    state = project.state
    annotations = state.annotations or str(project.annotations)
    training = {
        "volume": state.volume,
        "voxel_size": state.voxel_size,
        "annotations": annotations,
        "boundary_id": state.boundary_id,
        "zero_is_boundary": state.zero_is_boundary,
        "minutes": state.minutes,
        "out": str(project.folder / "runs" / _RUN),
    }
    known: dict[str, dict[str, Any]] = {
        "finetune": {**training, "model": state.model},
        "pretrain": {"volumes": (state.volume,), "voxel_size": state.voxel_size, "out": training["out"]},
        "compare-pretraining": training,
        "predict": {
            "volume": state.volume,
            "voxel_size": state.voxel_size,
            "model": state.trained or state.model,
            "box": state.box,
            "out": str(project.affinities),
        },
        "segment": {
            "affinities": str(project.affinities),
            "out": str(project.segmentation),
            "method": state.method,
            "threshold": state.threshold,
            **({"ignore": (state.boundary_id,)} if changes.get("tune") and state.boundary_id else {}),
        },
        "import": {"volume": state.volume, "voxel_size": state.voxel_size, "out": str(project.segmentation)},
        "evaluate": {
            "segmentation": str(project.segmentation),
            "labels": annotations,
            **({"ignore": (0, state.boundary_id)} if state.boundary_id and _are_ours(changes, annotations) else {}),
        },
        "export": {
            "segmentation": str(project.segmentation),
            "out": str(project.folder / "exports" / f"segments{_suffix(changes)}"),
        },
    }
    try:
        return STAGES[stage].config(**{**known[stage], **changes})
    except ValidationError as error:
        raise ConfigError(f"{stage}: {what_is_wrong(error)}") from error


def _are_ours(changes: dict[str, Any], annotations: str) -> bool:
    """Whether segments are compared with the project's own annotations, whose membrane is no neuron."""
    return str(changes.get("labels", annotations)) == annotations


def _project(chain: Chain) -> Project:
    """Open the chain's project, or make it."""
    folder = Path(chain.project)
    state = {name: getattr(chain, name) for name in Chain.model_fields.keys() & ProjectState.model_fields.keys()}
    if chain.model == "auto":
        del state["model"]
    if not (folder / "project.json").exists():
        if chain.model == "auto":
            size = parse_voxel_size(chain.voxel_size) if chain.voxel_size else open_volume(chain.volume).voxel_size_nm
            state["model"] = suggested_model(size)
        return Project.create(folder, ProjectState(**state))
    project = Project(folder)
    if project.state.volume != chain.volume:
        raise ConfigError(f"{folder}: is a project of {project.state.volume}: name another folder for {chain.volume}.")
    project.change(**state)
    return project


def _suffix(changes: dict[str, Any]) -> str:
    kind = changes.get("format", "ome-zarr")
    return FORMATS[kind].suffix if kind in FORMATS else ""


def _model_from(folder: Path, model: str) -> str:
    """Return the path of weights that lie there, else the name that it is."""
    return str(folder / Path(model).expanduser()) if (folder / Path(model).expanduser()).exists() else model


def _from(folder: Path, uri: str | None) -> str | None:
    """Return a path of a file as one that holds anywhere; addresses and what is absolute stay."""
    if uri is None or "://" in uri:
        return uri
    return str(folder / Path(uri).expanduser())
