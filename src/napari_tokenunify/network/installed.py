"""The models that are on this machine, by name or path; no torch, and weights are not read.

A model is a folder with `model.safetensors`, or a run folder of a training, in the folder of models.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.card import WEIGHTS, read_card
from napari_tokenunify.network.presets import NETWORK_PRESETS

if TYPE_CHECKING:
    from napari_tokenunify.geometry import VoxelSize

FOLDER_VARIABLE: Final = "NAPARI_TOKENUNIFY_MODELS"
BUNDLED: Final = Path(__file__).parents[1] / "weights"
FROM_SCRATCH: Final = "small"
OFFICIAL: Final = {
    f"TokenUnify{kind}-{size}": f"{what}, network {size}"
    for kind, what in (("", "fine-tuned on several EM data sets"), ("_pretrained", "pre-trained without labels"))
    for size in ("100M", "200M", "500M", "1B")
}
"""The labels that the authors' page lists, and what it says of them. Not checked here; `models info` asks the hub."""


@dataclass(frozen=True)
class InstalledModel:
    """A model that is on this machine.

    Attributes
    ----------
    name : str
        What it is called.
    kind : str
        "bundled": came with the package; "local": imported, downloaded or trained.
    path : Path
        Its weights, a .safetensors file.
    """

    name: str
    kind: str
    path: Path


def models_folder() -> Path:
    """Return the folder of models: what NAPARI_TOKENUNIFY_MODELS names, else one in the user's data folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("napari-tokenunify") / "models"


def installed_models() -> dict[str, InstalledModel]:
    """Return the models that are on this machine by their names; one of the user's hides a bundled one."""
    found = {}
    for kind, folder in (("bundled", BUNDLED), ("local", models_folder())):
        for inside in sorted(folder.iterdir()) if folder.is_dir() else ():
            weights = _weights_in(inside)
            if weights is not None:
                found[inside.name] = InstalledModel(inside.name, kind, weights)
    return found


def suggested_model(voxel_size_nm: VoxelSize | None) -> str:
    """Return what to start from where nobody says: the bundled model that was trained on the most similar voxels.

    Parameters
    ----------
    voxel_size_nm : tuple of float or None
        Voxel size (z, y, x) of the volume in nm; if it is unknown, cubes of 10 nm are assumed.

    Returns
    -------
    str
        The name of the model whose voxel size differs least on the axis where it differs most; of a size to start from
        scratch where no model came with the package.
    """
    size = voxel_size_nm or (10.0, 10.0, 10.0)
    differences = {}
    for model in installed_models().values():
        trained = read_card(model.path).voxel_size_nm if model.kind == "bundled" else None
        if trained is not None:
            differences[model.name] = max(abs(math.log(a / b)) for a, b in zip(size, trained, strict=True))
    return min(differences, key=differences.__getitem__, default=FROM_SCRATCH)


def find_model(name_or_path: str | Path) -> Path:
    """Return the weights that a user means.

    Parameters
    ----------
    name_or_path : str or Path
        The name of a model that is here; or a path to a .safetensors file, to a folder with `model.safetensors`, or
        to a run folder, of which the best checkpoint is taken, or the one with the most steps if none was measured.

    Returns
    -------
    Path
        A file for `load_checkpoint`.

    Raises
    ------
    ModelError
        If there is none; the message lists what there is, or says how to get it.
    """
    text, path = str(name_or_path), Path(name_or_path).expanduser()
    installed = installed_models()
    if text in installed:
        return installed[text].path
    if path.is_file() and path.suffix != ".safetensors":
        raise ModelError(f"{path}: import it first, with `napari-tokenunify models import {path} --name NAME`.")
    weights = _weights_in(path)
    if weights is not None:
        return weights
    if text in OFFICIAL:
        raise ModelError(f"{text}: is not here yet; get it with `napari-tokenunify models get {text}`.")
    if path.exists():
        raise ModelError(f"{path}: holds no {WEIGHTS} and no checkpoints.")
    here = ", ".join(installed) or "none"
    if text in NETWORK_PRESETS:
        raise ModelError(
            f"{text}: is a network without weights yet; train it with `napari-tokenunify finetune --model {text}` and "
            f"give that run's folder here, or get weights with `napari-tokenunify models list`; here are {here}."
        )
    raise ModelError(f"{text}: is no model and no path; here are {here}, see `napari-tokenunify models list`.")


def _weights_in(path: Path) -> Path | None:
    """Return the weights that a path holds: itself, model.safetensors in it, or its run's best or latest checkpoint."""
    if path.is_file():
        return path if path.suffix == ".safetensors" else None
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    best = path / "checkpoints" / "best.safetensors"
    steps = {}
    for checkpoint in (path / "checkpoints").glob("*.safetensors"):
        with suppress(ModelError):  # a damaged one: take the one before
            steps[checkpoint] = read_card(checkpoint).step
    return best if best in steps else max(steps, key=steps.__getitem__, default=None)
