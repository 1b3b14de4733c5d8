"""ModelCard: what is known of a network's weights. It travels inside their file; reading it needs no torch."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from napari_tokenunify.config import Config
from napari_tokenunify.errors import ConfigError, ModelError
from napari_tokenunify.network.presets import NetworkConfig

WEIGHTS: Final = "model.safetensors"
CARD_KEY: Final = "napari_tokenunify"
_PACKAGES: Final = ("napari-tokenunify", "numpy", "safetensors", "torch")


class _Record(Config):
    """Part of a card: frozen, and what a newer version adds is left out, not refused."""

    model_config = ConfigDict(extra="ignore")


class Intensity(_Record):
    """The grey values that a network was trained on."""

    low: float
    """What became 0, in the data's own values."""
    high: float
    """What became 1."""
    mean: float
    """Mean of the values in 0..1."""
    deviation: float
    """Standard deviation of the values in 0..1."""


class DataUsed(_Record):
    """A volume that a network was trained on."""

    name: str
    """What it is called, e.g. FIB-25."""
    licence: str = "unknown"
    """What may be done with it, best as an SPDX identifier."""


class TrainingRun(_Record):
    """One training, in the order they were done."""

    stage: str
    """"pretrain" or "finetune"."""
    steps: int
    """Steps it made."""
    started: str
    """When it began, as ISO 8601."""
    seconds: float
    """How long it took, without pauses."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Its Config."""


class Ancestor(_Record):
    """The weights that a training began with."""

    name: str
    """What they were called."""
    weights_sha256: str
    """Their `ModelCard.weights_sha256`."""


class ModelCard(_Record):
    """What is known of a network's weights: how they are built, where they come from, what they may be used for."""

    network: NetworkConfig
    """The shape of the network, its offsets, and the voxel size it was trained at."""
    name: str = ""
    """What the weights are called."""
    description: str = ""
    """What they are for, in a sentence or two."""
    licence: str = "unknown"
    """What may be done with the weights, best as an SPDX identifier."""
    source: str = ""
    """Where the weights came from, if they were not trained here."""
    step: int = 0
    """Training steps behind them, over all runs."""
    intensity: Intensity | None = None
    """The grey values they were trained on, if known."""
    data: tuple[DataUsed, ...] = ()
    """What they were trained on."""
    history: tuple[TrainingRun, ...] = ()
    """The trainings, oldest first."""
    lineage: tuple[Ancestor, ...] = ()
    """The weights they were made from, oldest first."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """How good they are, by the name of the measure."""
    versions: dict[str, str] = Field(default_factory=dict)
    """The packages that made them."""
    weights_sha256: str = ""
    """SHA-256 over names, types, shapes and values of the tensors; filled in when they are saved."""

    @property
    def voxel_size_nm(self) -> tuple[float, float, float] | None:
        """Voxel size (z, y, x) in nm that the weights were trained at, if known."""
        return self.network.voxel_size_nm

    def as_ancestor(self) -> Ancestor:
        """Return what a network trained from these weights has to remember of them."""
        return Ancestor(name=self.name, weights_sha256=self.weights_sha256)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that weights depend on; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def weights_file(path: str | Path) -> Path:
    """Return the weights that a path means: itself if it ends in .safetensors, else model.safetensors in the folder."""
    path = Path(path).expanduser()
    return path if path.suffix == ".safetensors" else path / WEIGHTS


def head_file(weights: Path) -> Path:
    """Return where the head for next tokens of pre-trained weights lies, if they have one.

    It has the name of the weights, in `heads/`: beside `checkpoints/` in a run, beside the weights elsewhere.
    """
    folder = weights.parent.parent if weights.parent.name == "checkpoints" else weights.parent
    return folder / "heads" / weights.name


def read_card(path: str | Path) -> ModelCard:
    """Read the card inside a file of weights, without reading the weights.

    Parameters
    ----------
    path : str or Path
        A .safetensors file, or the folder with model.safetensors.

    Raises
    ------
    ModelError
        If there is no such file, it is damaged, or it was not written by `save_checkpoint`.
    """
    file = weights_file(path)
    text = card_text(file)
    if text is None:
        raise ModelError(
            f"{file}: holds weights, but does not say of which network: "
            f"import it with `napari-tokenunify models import {file} --name NAME`."
        )
    return parse_card(text, file)


def card_text(file: Path) -> str | None:
    """Return the card inside a .safetensors file as JSON, None if it has none.

    Raises
    ------
    ModelError
        If there is no such file, or it is damaged.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            return (opened.metadata() or {}).get(CARD_KEY)
    except FileNotFoundError as error:
        raise ModelError(f"{file}: nothing is there; check the path.") from error
    except (OSError, SafetensorError) as error:
        raise damaged(file) from error


def parse_card(text: str, file: Path) -> ModelCard:
    """Read a card from JSON; `file` is where it was found, for the message.

    Raises
    ------
    ModelError
        If the text is no card, or describes a network that this version cannot build.
    """
    try:
        return ModelCard.model_validate_json(text)
    except (ValidationError, ConfigError) as error:
        raise ModelError(
            f"{file}: describes a network that this version cannot build; update napari-tokenunify, "
            "or get the weights again if they were edited."
        ) from error


def damaged(file: Path) -> ModelError:
    """Return the error for a file that is cut off or has changed."""
    return ModelError(f"{file}: is cut off or damaged, or is no file of weights; copy or download it again.")
