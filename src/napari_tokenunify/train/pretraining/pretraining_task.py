"""PretrainingTask: to predict what was hidden of a crop, by a recipe, and to be measured on sections held out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tokenunify.data.augment.perturbation import PerturbConfig
from napari_tokenunify.network.device import DTYPES
from napari_tokenunify.train.pretraining.objectives import answer, ask_after_prefix, ask_random, squared_error
from napari_tokenunify.train.pretraining.pretraining_samples import PretrainingSamples
from napari_tokenunify.train.pretraining.reconstructions import Reconstruction, write_reconstructions
from napari_tokenunify.train.pretraining.tokens import TokenGrid
from napari_tokenunify.train.pretraining.trivial import TRIVIAL, trivial_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_tokenunify.data.intensity import IntensityRange
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Preview
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.train.pretraining.objectives import Question
    from napari_tokenunify.train.pretraining.pretraining_samples import PretrainingSample
    from napari_tokenunify.train.pretraining.recipes import ObjectiveName, Recipe
    from napari_tokenunify.train.state import Standing

HELD_OUT_CROPS = 8
_HELD_OUT_SEED = 20_211  # of what is measured on, whatever the run's own seed: runs can be compared
_CLEAN = PerturbConfig(probability=0)
_WAYS: tuple[tuple[tuple[ObjectiveName, ...], Callable[..., Question]], ...] = (
    (("random",), ask_random),
    (("next", "next_all"), ask_after_prefix),
)


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a volume that crops are drawn from.

    Attributes
    ----------
    volume : Volume
        The part; see `part_of`.
    intensity : IntensityRange
        How its voxels become 0..1.
    weight : float
        How often it is drawn, in proportion.
    first_section : int
        Where it begins in its volume.
    """

    volume: Volume
    intensity: IntensityRange
    weight: float = 1.0
    first_section: int = 0


@dataclass(eq=False)
class PretrainingTask:
    """A PacedTask; see `napari_tokenunify.train.task`. Networks are `PretrainingNetwork`s.

    Parameters
    ----------
    recipe : Recipe
        What is predicted, and how much it counts when.
    training, held_out : sequence of Part
        What is learnt from, and what is measured on; the latter may be empty.
    crop : tuple of int
        Voxels (z, y, x) of the crops that are measured on.
    store : callable
        Stores weights: `store(path, weights, standing)`.
    seed : int
        Of the crops and of what is hidden.
    precision : {"fp32", "bf16", "fp16"}
        In what validation and previews are computed.
    preview_folder : Path or None
        Where reconstructions go.
    """

    recipe: Recipe
    training: Sequence[Part]
    held_out: Sequence[Part]
    crop: Triple
    store: Callable[[Path, dict[str, Tensor], Standing], None]
    seed: int = 0
    precision: str = "fp32"
    preview_folder: Path | None = None
    _weights: dict[ObjectiveName, float] = field(init=False)
    _told: dict[str, tuple[float, float]] = field(init=False)
    _trivial: list[dict[ObjectiveName, dict[str, float]]] = field(init=False, default_factory=list)
    _measured: Recipe = field(init=False)
    _last_grid: TokenGrid | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Start at the beginning of the recipe."""
        self._weights = self.recipe.weights(0.0)
        self._told = self._nothing_told()
        self._measured = self.recipe.replace(loss_on="hidden")  # so that recipes can be compared

    def samples(self, crop: Triple) -> PretrainingSamples:
        """Return the samples for crops of a size."""
        return _samples(self.training, crop, self.recipe.perturbations, self.seed)

    def known(self, samples: Sequence[PretrainingSample]) -> float:
        """Return the number of crops."""
        return float(len(samples))

    def pace(self, share: float) -> float:
        """Take the weights of the objectives that the recipe has at this share of the budget."""
        self._weights = self.recipe.weights(share)
        self._told = self._nothing_told()
        return self.recipe.pace(share)

    def told(self) -> dict[str, tuple[float, float]]:
        """Return the loss of each objective, summed, and of how many crops; and its weight."""
        told, self._told = self._told, self._nothing_told()
        return told

    def loss(self, network: nn.Module, samples: Sequence[PretrainingSample], device: torch.device) -> Tensor:
        """Return the weighted loss, summed over crops."""
        grid = self._grid(samples[0].clean.shape)
        questions: list[Question] = []
        counts: list[dict[ObjectiveName, float]] = []
        for sample in samples:
            for question, weights in self._questions(sample, grid, device):
                questions.append(question)
                counts.append(weights)
        total: Tensor = network.nothing()  # type: ignore[operator]
        for question, weights, answers in zip(questions, counts, _answers(network, questions, grid), strict=True):
            for name, weight in weights.items():
                loss = squared_error(question.asked[name], answers[name])
                total = total + weight * loss
                value, number = self._told[f"loss_{name}"]
                self._told[f"loss_{name}"] = (value + float(loss.detach()), number + 1)
        return total

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Return each objective's loss on fixed crops held out, beside that of trivial predictors.

        Returns
        -------
        dict of str to float
            `validation_loss`, the mean over objectives; for each `validation_NAME`; and `NAME_against_mean`,
            `_against_nearest`, `_against_inpainting`: by what the trivial predictor's loss is multiplied to give the
            network's, so that less than 1 is better than it.
        """
        if not self.held_out:
            return {}
        sums = {(name, who): 0.0 for name in self.recipe.objectives for who in ("network", *TRIVIAL)}
        for number, (question, grid) in enumerate(self._held_out_questions(device)):
            answers = self._look(network, question, grid, device)
            for name, found in answers.items():
                sums[name, "network"] += float(squared_error(question.asked[name], found))
                for who, error in self._trivial_errors(number, question, grid)[name].items():
                    sums[name, who] += error
        values = {f"validation_{name}": sums[name, "network"] / HELD_OUT_CROPS for name in self.recipe.objectives}
        ratios = {
            f"{name}_against_{who}": sums[name, "network"] / max(1e-12, sums[name, who])
            for name in self.recipe.objectives
            for who in TRIVIAL
        }
        return {"validation_loss": sum(values.values()) / len(values), **values, **ratios}

    def preview(self, network: nn.Module, device: torch.device, step: int) -> Preview | None:
        """Write what the network makes of one crop held out, for each objective."""
        if self.preview_folder is None:
            return None
        parts = self.held_out or self.training
        found: dict[str, Reconstruction] = {}
        sample = _samples(parts[:1], self.crop, _CLEAN, _HELD_OUT_SEED)[0]
        grid = self._grid(self.crop)
        for question in self._all_questions(sample, grid, device):
            for name, answered in self._look(network, question, grid, device).items():
                found[name] = Reconstruction.of(question, question.asked[name], answered)
        box = sample.box.shifted((parts[0].first_section, 0, 0))
        return write_reconstructions(self.preview_folder / f"{step:07d}.npz", found, step, box, parts[0].volume.uri)

    def save(self, path: Path, weights: dict[str, Tensor], standing: Standing) -> None:
        """Store a model for use."""
        self.store(path, weights, standing)

    def _grid(self, crop: tuple[int, ...]) -> TokenGrid:
        z, y, x = crop
        if self._last_grid is None or self._last_grid.crop != (z, y, x):
            self._last_grid = TokenGrid((z, y, x), self.recipe.token, self.recipe.order, self.recipe.near)
        return self._last_grid

    def _questions(
        self, sample: PretrainingSample, grid: TokenGrid, device: torch.device
    ) -> Iterator[tuple[Question, dict[ObjectiveName, float]]]:
        """Yield what is asked of a crop now, and how much each answer counts.

        Where the way of hiding is drawn, each answer counts by as much more as its way is rare: the expected loss is
        the weighted sum of all objectives.
        """
        random = self._weights.get("random", 0.0)
        after: dict[ObjectiveName, float] = {
            name: weight for name, weight in self._weights.items() if name != "random" and weight
        }
        total = random + sum(after.values())
        rng = np.random.default_rng((self.seed, sample.number, 3))
        share = 1.0
        if self.recipe.mixing == "draw" and random and after:
            if rng.random() < random / total:
                after, share = {}, random / total
            else:
                random, share = 0.0, 1 - random / total
        clean, perturbed = (torch.from_numpy(voxels).to(device) for voxels in (sample.clean, sample.perturbed))
        if random:
            yield ask_random(clean, perturbed, grid, self.recipe, rng), {"random": random / share}
        if after:
            weights = {name: weight / share for name, weight in after.items()}
            yield ask_after_prefix(clean, perturbed, grid, self.recipe, rng), weights

    def _all_questions(self, sample: PretrainingSample, grid: TokenGrid, device: torch.device) -> Iterator[Question]:
        """Yield questions in which every objective of the recipe is asked once."""
        clean = torch.from_numpy(sample.clean).to(device)
        for way, (names, function) in enumerate(_WAYS):
            wanted = [name for name in names if name in self.recipe.objectives]
            if wanted:
                rng = np.random.default_rng((_HELD_OUT_SEED, sample.number, way))
                question = function(clean, clean, grid, self._measured, rng)
                yield replace(question, asked={name: question.asked[name] for name in wanted})

    def _held_out_questions(self, device: torch.device) -> Iterator[tuple[Question, TokenGrid]]:
        samples = _samples(self.held_out, self.crop, _CLEAN, _HELD_OUT_SEED)
        grid = self._grid(self.crop)
        for index in range(HELD_OUT_CROPS):
            for question in self._all_questions(samples[index], grid, device):
                yield question, grid

    def _trivial_errors(
        self, number: int, question: Question, grid: TokenGrid
    ) -> dict[ObjectiveName, dict[str, float]]:
        """Return the trivial predictors' losses; they never change, so they are computed once."""
        if number == len(self._trivial):
            answers = trivial_answers(question, grid)
            self._trivial.append(
                {
                    name: {who: float(squared_error(asked, found)) for who, found in answers.items()}
                    for name, asked in question.asked.items()
                }
            )
        return self._trivial[number]

    def _look(
        self, network: nn.Module, question: Question, grid: TokenGrid, device: torch.device
    ) -> dict[ObjectiveName, Tensor]:
        network.eval()
        with (
            torch.inference_mode(),
            torch.autocast(device.type, DTYPES[self.precision], enabled=self.precision != "fp32"),
        ):
            return next(_answers(network, [question], grid))

    def _nothing_told(self) -> dict[str, tuple[float, float]]:
        told = {f"loss_{name}": (0.0, 0.0) for name in self.recipe.objectives}
        return told | {f"weight_{name}": (weight, 1.0) for name, weight in self._weights.items()}


def _samples(parts: Sequence[Part], crop: Triple, perturbations: PerturbConfig, seed: int) -> PretrainingSamples:
    return PretrainingSamples(
        [part.volume for part in parts],
        [part.intensity for part in parts],
        [part.weight for part in parts],
        crop,
        perturbations,
        seed,
    )


def _answers(
    network: nn.Module, questions: Sequence[Question], grid: TokenGrid
) -> Iterator[dict[ObjectiveName, Tensor]]:
    """Put questions to a network, all at once, and yield the answers to each by objective."""
    asked_next = [q.asked["next"].tokens if "next" in q.asked else None for q in questions]
    most = max((len(tokens) for tokens in asked_next if tokens is not None), default=0)
    images = torch.stack([question.image for question in questions])[:, None]
    wanted = torch.zeros(len(questions), most, dtype=torch.int64, device=images.device)
    for row, tokens in zip(wanted, asked_next, strict=True):
        if tokens is not None:
            row[: len(tokens)] = tokens
    logits, of_tokens = network(images, wanted if most else None, grid)
    for number, question in enumerate(questions):
        tokens = asked_next[number]
        own = None if of_tokens is None or tokens is None else of_tokens[number, : len(tokens)]
        yield {name: answer(asked, logits[number], own, grid) for name, asked in question.asked.items()}
