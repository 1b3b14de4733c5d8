"""The verbs on models that have a name: those that are here (`installed.py`), and the official ones on the hub.

The official weights lie in a repository whose file names are not fixed, so a file is looked up by the label in its
path. Nothing here needs torch before a model is imported.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import ConfigError, ModelError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import parse_voxel_size
from napari_tokenunify.network.card import ModelCard, head_file, read_card, weights_file
from napari_tokenunify.network.installed import (
    OFFICIAL,
    InstalledModel,
    find_model,
    installed_models,
    models_folder,
)
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.config import (
        ModelsExportConfig,
        ModelsGetConfig,
        ModelsImportConfig,
        ModelsInfoConfig,
        ModelsListConfig,
    )
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import VoxelSize
    from napari_tokenunify.network.hub import HubFile

OFFICIAL_REPOSITORY: Final = "cyd0806/TokenUnify"
_PRETRAINED: Final = "Pre-trained without labels; fine-tune it before use."
_NAME: Final = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*")


def list_models(config: ModelsListConfig) -> Generator[Event, None, dict[str, Any]]:
    """List the models by name.

    Returns
    -------
    dict
        `folder`, and `models`: a list of dicts with `name`, `kind`, `here`, `bytes`, `licence` and `message`. Bytes
        and licence of the official ones are None unless the hub was asked.
    """
    yield Progress(0, 1, "looking for models")
    rows = [_installed_row(model) for model in installed_models().values()]
    here = {row["name"] for row in rows}
    files = _hub_files(OFFICIAL_REPOSITORY) if config.online else []
    for name, what in OFFICIAL.items():
        if name not in here:
            file = next(iter(_labelled(name, files)), None)
            size, licence = (file.bytes, file.licence) if file else (None, None)
            rows.append(_row(name, "official", what, size, licence))
    return {"folder": str(models_folder()), "models": rows}


def show_model(config: ModelsInfoConfig) -> Generator[Event, None, dict[str, Any]]:
    """Say all that is known of a model; of an official one that is not here, what the hub says.

    Returns
    -------
    dict
        `name`, `here`, and either `path`, `bytes` and the fields of the ModelCard, or those of the HubFile.
    """
    yield Progress(0, 1, "reading")
    try:
        path = find_model(config.model)
    except ModelError:
        if config.model not in OFFICIAL:
            raise
        file = _labelled_file(config.model, OFFICIAL_REPOSITORY)
        return {"name": config.model, "here": False, "description": OFFICIAL[config.model], **asdict(file)}
    card = read_card(path)
    found = {"name": config.model, "here": True, "path": str(path), "bytes": path.stat().st_size}
    return {**card.model_dump(mode="json"), **found}


def get_model(config: ModelsGetConfig) -> Generator[Event, None, dict[str, Any]]:
    """Download a model, check its hash, and keep it under its name.

    Without `yes` nothing is downloaded: the error says what would be, how large it is and under which licence.

    Returns
    -------
    dict
        As `import_model`'s; if the model was here already, `name`, `out` and `downloaded` false.
    """
    _check_name(config.name)
    if config.name in installed_models():
        yield Message(f"{config.name} is here already.")
        return {"name": config.name, "out": str(find_model(config.name).parent), "downloaded": False}
    yield Progress(0, 1, "asking the hub")
    file = _wanted_file(config)
    what = f"{config.name}: {file.path} of {file.repository}, {file.megabytes:.1f} MB, licence: {file.licence}"
    if not config.yes:
        raise ModelError(f"{what}; add --yes if you agree to the licence and want to download it.")
    yield Message(what)
    from napari_tokenunify.network.hub import download

    path = yield from download(file, models_folder() / ".downloads")
    facts = {"licence": file.licence, "source": file.page}
    if config.name in OFFICIAL:
        facts["description"] = OFFICIAL[config.name]
    result = yield from _store(path, config.name, facts)
    path.unlink()  # what was made of it is kept
    return {**result, "downloaded": True}


def import_model(config: ModelsImportConfig) -> Generator[Event, None, dict[str, Any]]:
    """Take weights of any kind into the folder of models, under a name.

    Returns
    -------
    dict
        `name`, `out` (the folder), `loaded` (how many tensors of how many), `head` (what became of a head for next
        tokens), and the names of the tensors that were `missing`, `mismatched` and `skipped`.
    """
    _check_name(config.name)
    if config.name in installed_models():
        raise ModelError(f"There is a model {config.name} already; choose another name, or remove its folder.")
    path = Path(config.path).expanduser()
    facts: dict[str, Any] = {"licence": config.licence} if config.licence else {}
    voxel_size = parse_voxel_size(config.voxel_size) if config.voxel_size else None
    offsets = tuple(_offset(text) for text in config.offsets.split()) if config.offsets else None
    result = yield from _store(
        find_model(path) if path.is_dir() else path,
        config.name,
        facts,
        voxel_size_nm=voxel_size,
        allow_partial=config.partial,
        offsets=offsets,
    )
    return result


def export_model(config: ModelsExportConfig) -> Generator[Event, None, dict[str, Any]]:
    """Write a model in a form that other programs read.

    Returns
    -------
    dict
        `model` (its name), `out` (the file).

    Raises
    ------
    ModelError
        If there is no such model, or the file has another ending or cannot be written.
    """
    out = Path(config.out).expanduser()
    if out.suffix not in {".pth", ".zip"}:
        raise ModelError(f"{out}: end the name with .pth for the official code, or with .zip for bioimage.io.")
    weights = find_model(config.model)
    yield Progress(0, 1, f"reading {weights.name}")
    from napari_tokenunify.network.bioimageio import export_bioimageio
    from napari_tokenunify.network.checkpoint import load_checkpoint
    from napari_tokenunify.network.official import HEAD_SHAPES, export_pth

    module, card = load_checkpoint(weights)
    yield Progress(0, 1, f"writing {out.name}")
    if out.suffix == ".pth":
        head = _head_beside(weights)
        export_pth(out, module, card, head if head.keys() == HEAD_SHAPES.keys() else None)
    else:
        export_bioimageio(out, module, card, authors=config.authors)
    yield Progress(1, 1, f"wrote {out.name}")
    return {"model": card.name or config.model, "out": str(out)}


def _store(
    path: Path, name: str, facts: dict[str, Any], *, voxel_size_nm: VoxelSize | None = None, **reading: Any
) -> Generator[Event, None, dict[str, Any]]:
    """Read weights, ours or official, and save them as ours with what is known of them."""
    yield Progress(0, 2, f"reading {path.name}")
    from safetensors.torch import save_file

    from napari_tokenunify.network.checkpoint import save_checkpoint
    from napari_tokenunify.network.official import HEAD_PREFIX, read_official

    module, report = read_official(path, **reading)
    yield Message(str(report))
    yield Progress(1, 2, f"writing {name}")
    if voxel_size_nm:
        module.config = module.config.replace(voxel_size_nm=voxel_size_nm)
    what = _PRETRAINED if module.config.is_pretrained else ""
    card = report.card or ModelCard(network=module.config, source=path.name, description=what)
    out = models_folder() / name
    head = report.head or _head_beside(path)
    if head:
        with whole_file(head_file(weights_file(out)), ModelError) as part:
            save_file({key: tensor.contiguous().clone() for key, tensor in head.items()}, part)
    save_checkpoint(out, module, card.replace(network=module.config, name=name, **facts))
    not_whole = any(key.startswith(HEAD_PREFIX) for key in (*report.missing, *report.mismatched))
    return {
        "name": name,
        "out": str(out),
        "loaded": f"{len(report.matched)} of {report.wanted} tensors",
        "head": "kept, to go on with pre-training" if head else "left out: it is not whole" if not_whole else "none",
        "missing": list(report.missing),
        "mismatched": list(report.mismatched),
        "skipped": list(report.skipped),
    }


def _head_beside(weights: Path) -> dict[str, Tensor]:
    """Return the head for next tokens that one of our own pre-trainings left beside its weights, if there is one."""
    from napari_tokenunify.network.checkpoint import read_tensors

    file = head_file(weights)
    return read_tensors(file) if file.suffix == ".safetensors" and file.is_file() else {}


def _installed_row(model: InstalledModel) -> dict[str, Any]:
    size = model.path.stat().st_size
    try:
        card = read_card(model.path)
    except ModelError as error:
        return _row(model.name, model.kind, str(error), size, None)
    return _row(model.name, model.kind, card.description, size, card.licence)


def _row(name: str, kind: str, what: str, size: int | None, licence: str | None) -> dict[str, Any]:
    here = kind != "official"
    words = [f"{name} ({kind}{'' if here else ', not here'})", what]
    words += [f"{size / 1e6:.1f} MB"] if size else []
    words += [f"licence {licence or 'unknown'}"]
    message = ", ".join(filter(None, words))
    return {"name": name, "kind": kind, "here": here, "bytes": size, "licence": licence, "message": message}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a model: use letters, digits, and . _ + - after the first.")


def _wanted_file(config: ModelsGetConfig) -> HubFile:
    """Ask the hub for the file that is to be downloaded."""
    if not config.file:
        return _labelled_file(config.name, config.repository)
    files = _hub_files(config.repository)
    file = next((file for file in files if file.path == config.file), None)
    if file is None:
        raise ModelError(f"{config.repository}: has no weights {config.file}; it has {_paths(files)}.")
    return file


def _labelled_file(name: str, repository: str) -> HubFile:
    """Ask the hub for the one file of weights with a name in its path."""
    files = _hub_files(repository)
    labelled = _labelled(name, files)
    if len(labelled) != 1:
        raise ModelError(
            f"{repository}: {len(labelled) or 'none'} of its files go by the name {name}; choose one with --file: "
            f"{_paths(labelled or files)}."
        )
    return labelled[0]


def _labelled(name: str, files: list[HubFile]) -> list[HubFile]:
    """Return the files with a name in their path as a whole word, whatever its case and whether it has - or _."""
    label = re.compile(rf"(?<![a-z0-9-]){re.escape(_flat(name))}(?![a-z0-9])")
    return [file for file in files if label.search(_flat(file.path))]


def _flat(text: str) -> str:
    return text.lower().replace("_", "-")


def _paths(files: list[HubFile]) -> str:
    return ", ".join(file.path for file in files) or "none at all"


def _hub_files(repository: str) -> list[HubFile]:
    from napari_tokenunify.network.hub import list_weights  # loads the whole library of the hub

    return list_weights(repository)


def _offset(text: str) -> Offset:
    try:
        z, y, x = map(int, text.split(","))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no offset: write z,y,x, several between spaces, e.g. -1,0,0 0,-1,0.") from error
    return z, y, x
