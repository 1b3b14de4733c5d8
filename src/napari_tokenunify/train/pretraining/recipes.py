"""Recipes: what a pre-training predicts, from what, and when; each is a YAML file, and a new one needs no code.

Reading them loads no torch.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from napari_tokenunify.config import Config, Extent
from napari_tokenunify.data.augment.perturbation import PerturbConfig
from napari_tokenunify.errors import ConfigError

ObjectiveName = Literal["random", "next", "next_all"]
OBJECTIVES: Final[tuple[ObjectiveName, ...]] = ("random", "next", "next_all")
FOLDER: Final = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, lt=1)]


class Phase(Config):
    """A part of the training in which the objectives keep their weights."""

    until: Annotated[float, Field(gt=0, le=1)]
    """Share of the budget at which it ends; a larger value gives this phase more of the time."""
    weights: dict[ObjectiveName, Annotated[float, Field(ge=0)]]
    """How much each objective counts; one that is left out counts 0."""


class Recipe(Config):
    """What is predicted, from what, and how much it counts when.

    Raises
    ------
    ConfigError
        If the values do not fit each other; the sentence says which.
    """

    title: str
    """What it is called, in a few words."""
    description: str
    """What it does and where it comes from, in a sentence or two."""

    token: Extent = (4, 16, 16)
    """Voxels (z, y, x) of a token. Larger ones hide more at a stretch, and make the task harder."""
    order: Literal["raster", "hilbert", "near-to-far"] = "raster"
    """In which order tokens come; a curve keeps what was seen in one place, raster fills section by section."""
    near: tuple[Share, Share, Share] = (0.5, 0.5, 0.5)
    """Where near-to-far starts, as a share of the crop (z, y, x)."""
    unit: Literal["token", "cell", "spread", "scale"] = "token"
    """What is predicted next: a token, a cell of neighbours, a subsample spread over the crop, or a finer scale."""
    unit_size: Extent = (1, 2, 2)
    """Tokens (z, y, x) of a cell or step of a subsample, or the factor between two scales; larger is harder."""

    fill: Literal["noise", "zeros"] = "noise"
    """What stands where voxels are hidden: noise of mean 0 and deviation 1, or zeros."""
    mask: Ratio | tuple[Ratio, Ratio] = (0.2, 0.8)
    """Share of the tokens that the random objective hides, fixed or drawn between two; a larger one is harder."""
    loss_on: Literal["hidden", "all"] = "hidden"
    """Where random and next_all are scored: on the hidden voxels, or on the visible ones too."""
    next_target: Literal["clean", "perturbed"] = "clean"
    """Whether the next token is scored against the clean crop, or against the perturbed one."""
    head: Literal["resampler", "official"] = "resampler"
    """What predicts the next token: cross-attention that hears which, or the convolutions of the official code."""
    perturbations: PerturbConfig = PerturbConfig()
    """How crops are spoilt before anything is hidden."""

    mixing: Literal["draw", "sum"] = "draw"
    """Each crop is hidden in one way, drawn by the weights; or in both ways, and losses are added (twice the work)."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """The weights of the objectives, one after the other."""
    transition: Share = 0.0
    """Share of the budget in which the weights move over to those of the next phase; larger is smoother."""
    temperature: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Of the softmax over the weights' logarithms at the beginning; a larger one starts with more equal weights."""
    temperature_until: Share = 0.0
    """Share of the budget at which the temperature has come down to 1."""

    crop: Extent | None = None
    """Voxels (z, y, x) of a crop, where the recipe needs certain ones."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """AdamW's; a larger one keeps weights smaller."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """AdamW's memory of squared gradients; a larger one remembers longer."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; a very large one clips nothing."""
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps until the learning rate is reached, at most a tenth of all."""
    restart_rate: bool = False
    """Whether the learning rate starts anew with each phase, as if the phases were trainings of their own."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        ends = [phase.until for phase in self.phases]
        if any(after <= before for before, after in pairwise(ends)) or ends[-1] != 1:
            raise ConfigError(f"The phases end at {ends}: let each end later than the one before, and the last at 1.")
        if any(not any(phase.weights.values()) for phase in self.phases):
            raise ConfigError("A phase without any weight trains nothing: give one objective in it more than 0.")
        if isinstance(self.mask, tuple) and self.mask[0] > self.mask[1]:
            raise ConfigError(f"mask is drawn from {self.mask[0]} to {self.mask[1]}: give the smaller share first.")
        if self.head == "official" and (self.token != (4, 16, 16) or self.unit != "token"):
            raise ConfigError("The official head predicts single tokens of 4x16x16 voxels: choose these, or resampler.")
        return self

    @property
    def objectives(self) -> tuple[ObjectiveName, ...]:
        """Those that count at some time."""
        return tuple(name for name in OBJECTIVES if any(phase.weights.get(name) for phase in self.phases))

    @property
    def passes(self) -> float:
        """How often the network looks at each crop, on average over the training."""
        if self.mixing == "draw":
            return 1.0
        begun = (0.0, *(phase.until for phase in self.phases))
        return sum(
            (phase.until - start) * (bool(given("random")) + bool(given("next") or given("next_all")))
            for start, phase in zip(begun, self.phases, strict=False)
            for given in (phase.weights.get,)
        )

    def weights(self, share: float) -> dict[ObjectiveName, float]:
        """Return how much each of `objectives` counts when a share of the budget is used, 0..1.

        Within a phase they are its own. They move over linearly to the next phase's during `transition`. Temperature
        T > 1 makes of weights w the softmax of log(w) / T, scaled to the same sum.
        """
        number = next((i for i, phase in enumerate(self.phases) if share < phase.until), len(self.phases) - 1)
        begun = self.phases[number - 1].until if number else 0.0
        own = self.phases[number].weights
        before = self.phases[max(0, number - 1)].weights
        moved = min(1.0, (share - begun) / self.transition) if self.transition else 1.0
        blend = {name: moved * own.get(name, 0.0) + (1 - moved) * before.get(name, 0.0) for name in self.objectives}
        cooled = min(1.0, share / self.temperature_until) if self.temperature_until else 1.0
        sharpness = 1 / (self.temperature + (1 - self.temperature) * cooled)
        soft = {name: weight**sharpness if weight else 0.0 for name, weight in blend.items()}
        scale = sum(blend.values()) / sum(soft.values())
        return {name: scale * weight for name, weight in soft.items()}

    def pace(self, share: float) -> float:
        """Return how far the learning rate has come, 0..1."""
        if not self.restart_rate:
            return share
        number = next((i for i, phase in enumerate(self.phases) if share < phase.until), len(self.phases) - 1)
        begun = self.phases[number - 1].until if number else 0.0
        return (share - begun) / (self.phases[number].until - begun)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name_or_path : str
        One of `recipe_names()`, or a path to a YAML file.

    Raises
    ------
    ConfigError
        If there is no such recipe, or something in it cannot be used.
    """
    path = FOLDER / f"{name_or_path}.yaml" if name_or_path in recipe_names() else Path(name_or_path).expanduser()
    if not path.is_file():
        names = ", ".join(recipe_names())
        raise ConfigError(f"{name_or_path}: is no recipe and no file; the recipes are {names}, or give a YAML file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" at line {place.line + 1}" if place is not None else ""
        raise ConfigError(f"{path}: cannot be read as YAML{line}; compare it with one of the package's.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no settings of a recipe; compare it with one of the package's.")
    try:
        return Recipe.model_validate(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the recipe"
        raise ConfigError(f"{path}: {where} cannot be used ({first['msg']}); see docs/pretraining.md.") from error
