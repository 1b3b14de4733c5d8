"""The training loop: steps, averages, validation, previews and checkpoints of any network for any Task.

It yields between steps, where it is safe to pause (by not asking for more) and to stop (by closing the generator: it
then writes a checkpoint). A run that goes on from a checkpoint takes the same steps as one that never stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch

from napari_tokenunify.data.prefetch import iterate
from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Message, Metric, Progress
from napari_tokenunify.network.device import DTYPES, is_out_of_memory
from napari_tokenunify.train.ema import MovingAverage
from napari_tokenunify.train.parts import network_state
from napari_tokenunify.train.ranks import Ranks
from napari_tokenunify.train.schedule import Clock, learning_rate
from napari_tokenunify.train.state import Standing, load_optimiser, load_state, optimiser_tensors, save_state
from napari_tokenunify.train.task import PacedTask

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import Tensor, nn

    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.project import RunPaths
    from napari_tokenunify.train.plan import Plan
    from napari_tokenunify.train.task import Task

_SKIPS_ALLOWED: Final = 10  # steps without a finite loss, and 5 % of all
_SMALLEST_CROP: Final = (4, 32, 32)
_ALONE: Final = Ranks()
_SAVING_SHARE: Final = 0.03  # of the time may go into checkpoints


@dataclass
class _Due:
    """When something that is done now and then was done last, and how long it took."""

    every: float
    last: float
    took: float = 0.0

    def now(self, seconds: float, share: float = 1.0) -> bool:
        return seconds - self.last >= max(self.every, self.took / share)


class Loop:
    """One training; `run` drives it.

    Parameters
    ----------
    network : nn.Module
        On the device it is trained on; parameters that do not require a gradient stay as they are.
    task : Task
        What it learns.
    plan : Plan
        In numbers.
    paths : RunPaths
        The run folder.
    run : str
        Which training this is: a state in the folder is gone on with if it has the same, and refused otherwise.
    ranks : Ranks
        The processes that train together.
    """

    def __init__(
        self, network: nn.Module, task: Task, plan: Plan, paths: RunPaths, run: str, ranks: Ranks = _ALONE
    ) -> None:
        self.network, self.task, self.plan, self.paths = network, task, plan, paths
        self._run_id, self._ranks = run, ranks
        self.device = next(network.parameters()).device
        self.optimiser = torch.optim.AdamW(
            _groups(network, plan.weight_decay), lr=plan.learning_rate, betas=(0.9, plan.beta2)
        )
        self.average = MovingAverage(network, plan.average)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        self.standing = Standing(crop=plan.crop, micro=plan.batch)
        self.clock = Clock()
        self._saved_step = -1
        self._losses: list[float] = []
        self._told: dict[str, list[float]] = {}  # sums and numbers of what the task tells of itself
        self._seconds_of_steps: list[float] = []

    def run(self) -> Generator[Event, None, Standing]:
        """Train until the budget is used; go on with the state in the folder, if there is one.

        Returns
        -------
        Standing
            How far it came.

        Raises
        ------
        TrainError
            If memory does not suffice for the smallest crop, the loss stays not finite, or the disk is full.
        """
        yield from self._begin()
        whole = f"{self.plan.budget}, patience {self.plan.patience}"
        if self.standing.ended == whole:  # by the clock there might be room for another step
            return self.standing
        try:
            yield from self._steps()
            yield from self._report(at_end=True)
            if self.standing.validated < self.standing.step:
                yield from self._validate()
        except GeneratorExit:
            self._save()
            raise
        self.standing = self.standing.with_(ended=whole)
        self._save()
        return self.standing

    def _begin(self) -> Generator[Event, None, None]:
        found = load_state(self.paths, self._run_id)
        if found is not None:
            self._restore(*found)
            yield Message(f"Going on after step {self.standing.step}.")
        self.clock = Clock(self.standing.seconds)
        now = self.clock.seconds
        self._validation = _Due(self.plan.validate_seconds, now)
        self._saving = _Due(self.plan.checkpoint_seconds, now)
        self._metrics = _Due(self.plan.metric_seconds, now)
        self._previews = _Due(self.plan.preview_seconds, now)
        yield from self._preview()

    def _steps(self) -> Generator[Event, None, None]:
        """Go through crops of one size, and smaller ones if memory runs out."""
        while not self._is_over():
            crops = self._crops(self.standing.crop)
            try:
                yield from self._steps_of_one_size(crops)
            finally:
                crops.close()

    def _steps_of_one_size(self, crops: Generator[Any, None, None]) -> Generator[Event, None, None]:
        size = self.standing.crop
        while not self._is_over():
            samples = [next(crops) for _ in range(self.plan.batch)]
            before = self.clock.seconds
            yield from self._step(samples)
            if self.standing.crop != size:
                return
            self._seconds_of_steps = [*self._seconds_of_steps[-9:], self.clock.seconds - before]
            yield from self._report()
            if self._previews.now(self.clock.seconds, share=0.1):
                yield from self._preview()
            if self._validation.now(self.clock.seconds, share=0.1):
                yield from self._validate()
            if self._saving.now(self.clock.seconds, share=_SAVING_SHARE):
                self._save()

    def _is_over(self) -> bool:
        plan, standing = self.plan, self.standing
        tired = bool(plan.patience and standing.waited >= plan.patience)
        usual = sorted(self._seconds_of_steps)[len(self._seconds_of_steps) // 2] if self._seconds_of_steps else 0.0
        seconds = self.clock.seconds + (self._validation.took if plan.budget.steps is None else 0.0)
        over = tired or plan.budget.is_used(standing.step, seconds, usual)  # all processes end together
        return self._ranks.total(float(over))[0] > 0 if self._ranks.world > 1 else over

    def _crops(self, crop: Triple) -> Generator[Any, None, None]:
        """Yield this process's crops from the step that comes next on."""
        source = _OwnShare(self.task.samples(crop), self.plan.batch, self._ranks)
        start = self.standing.step * self.plan.batch
        yield from iterate(source, 1 << 62, self.plan.workers, start, processes=self.device.type == "cuda")

    def _step(self, samples: list[Any]) -> Generator[Event, None, None]:
        """Make one step; again in smaller pieces as long as memory does not suffice."""
        standing = self.standing
        self.network.train()
        self._pace()
        while (loss := self._gradients(samples)) is None:
            yield from self._shrink()
            if self.standing.crop != standing.crop:
                return
        if not self._update(loss):
            yield from self._skip(loss)
        self.standing = self.standing.with_(step=standing.step + 1)

    def _pace(self) -> None:
        """Set the learning rate, in all processes the same, and let the task know how far the training has come."""
        plan, step = self.plan, self.standing.step
        used = plan.budget.share(step, self.clock.seconds, self._validation.took)
        share = self._ranks.total(used)[0] / self._ranks.world
        if isinstance(self.task, PacedTask):
            share = self.task.pace(share)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(plan.learning_rate, step, plan.warmup, share)

    def _gradients(self, samples: list[Any]) -> float | None:
        """Return the loss of a batch, its gradients added up; None if memory did not suffice in any process."""
        self.optimiser.zero_grad(set_to_none=True)
        (known,) = self._ranks.total(self.task.known(samples))
        loss, full = 0.0, False
        try:
            for first in range(0, len(samples), self.standing.micro):
                with torch.autocast(
                    self.device.type, DTYPES[self.plan.precision], enabled=self.plan.precision != "fp32"
                ):
                    part = self.task.loss(
                        self.network, samples[first : first + self.standing.micro], self.device
                    ) / max(1.0, known)
                self._scaler.scale(part).backward()  # type: ignore[no-untyped-call]
                loss += float(part.detach())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            full = True
        told = self.task.told() if isinstance(self.task, PacedTask) else {}
        loss, any_full, *numbers = self._ranks.total(loss, float(full), *chain.from_iterable(told.values()))
        if any_full:
            self.optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return None
        self._ranks.sum_gradients(self.network)
        for name, value, number in zip(told, numbers[::2], numbers[1::2], strict=True) if math.isfinite(loss) else ():
            before = self._told.get(name, (0.0, 0.0))
            self._told[name] = [before[0] + value, before[1] + number]
        return loss

    def _update(self, loss: float) -> bool:
        """Change the weights; False if loss or gradient are not finite, and they stay as they were."""
        if not math.isfinite(loss):
            return False
        self._scaler.unscale_(self.optimiser)  # before the norm is taken; nothing to do without fp16
        learning = [p for p in self.network.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(learning, self.plan.clip)) if learning else 0.0
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            return False
        self._scaler.step(self.optimiser)  # with fp16 it leaves out a step by itself where the scale was too large
        self._scaler.update()
        self.average.update(self.network)
        self._losses.append(loss)
        return True

    def _skip(self, loss: float) -> Generator[Event, None, None]:
        skipped, step = self.standing.skipped + 1, self.standing.step + 1
        self.standing = self.standing.with_(skipped=skipped)
        yield from self._tell(Message(f"Step {step} is left out: its loss is {loss:g}.", "warning"))
        if skipped > _SKIPS_ALLOWED + 0.05 * step:
            raise TrainError(
                f"Loss or gradient were not finite in {skipped} of {step} steps: choose a smaller --learning-rate, or "
                "--precision fp32, and check the volume for damage with `napari-tokenunify check`."
            )

    def _shrink(self) -> Generator[Event, None, None]:
        """Compute fewer crops at once; if there is only one, smaller ones."""
        standing = self.standing
        if standing.micro > 1:
            self.standing = standing.with_(micro=standing.micro // 2)
            said = f"Memory is full: {standing.micro // 2} of {self.plan.batch} crops are computed at once from now on."
            yield from self._tell(Message(said, "warning"))
            return
        smaller = halved(standing.crop)
        if smaller is None:
            raise TrainError(
                f"The memory does not suffice for a crop of {standing.crop} voxels: close other programs, choose a "
                "smaller model, or let fewer parts learn (--parts head)."
            )
        self.standing = standing.with_(crop=smaller)
        size = "x".join(map(str, smaller))
        yield from self._tell(Message(f"Memory is full: crops are {size} voxels from now on.", "warning"))

    def _report(self, *, at_end: bool = False) -> Generator[Event, None, None]:
        standing, seconds = self.standing, self.clock.seconds
        budget = self.plan.budget
        if self._losses and (at_end or self._metrics.now(seconds)):
            self._metrics.last = seconds
            values = {
                "loss": sum(self._losses) / len(self._losses),
                "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
                "seconds": seconds,
                **{name: value / number for name, (value, number) in self._told.items() if number},
            }
            self._losses, self._told = [], {}
            yield from self._tell(Metric(standing.step, values))
        done, total = (
            (standing.step, budget.steps) if budget.steps is not None else (round(seconds), round(budget.seconds or 0))
        )
        yield from self._tell(Progress(min(done, total), total, f"training, step {standing.step}"))

    def _validate(self) -> Generator[Event, None, None]:
        """Measure on what is held out, with the averaged weights, and keep them if they are the best so far."""
        started = self.clock.seconds
        self.standing = self.standing.with_(validated=self.standing.step)
        with self.average.swapped(self.network):
            values = self.task.validate(self.network, self.device)
            if values:
                self._keep_best(values)
        self._validation.last = self.clock.seconds
        self._validation.took = self.clock.seconds - started
        if values:
            yield from self._tell(Metric(self.standing.step, values))

    def _keep_best(self, values: dict[str, float]) -> None:
        standing, loss = self.standing, values["validation_loss"]
        if not loss < (math.inf if standing.best is None else standing.best):  # nor is one that is no number
            self.standing = standing.with_(metrics=values, waited=standing.waited + 1)
            return
        self.standing = standing.with_(
            best=loss,
            best_step=standing.step,
            waited=0,
            metrics=values,
            best_metrics=values,
            seconds=self.clock.seconds,
        )
        if self._ranks.first:
            self.task.save(self.paths.best, network_state(self.network), self.standing)

    def _preview(self) -> Generator[Event, None, None]:
        started = self.clock.seconds
        if self._ranks.first:
            with self.average.swapped(self.network):
                preview = self.task.preview(self.network, self.device, self.standing.step)
            if preview is not None:
                yield from self._tell(preview)
        self._previews.last = self.clock.seconds
        self._previews.took = self.clock.seconds - started

    def _tell(self, event: Event) -> Iterator[Event]:
        """Yield; however long the answer takes, it is not time of the training."""
        self.clock.stop()
        yield event
        self.clock.go()

    def _save(self) -> None:
        """Write the model for use, and the state to go on with."""
        started = self.clock.seconds
        self.standing = self.standing.with_(seconds=started, scaler=self._scaler.state_dict())
        if self._ranks.first:
            with self.average.swapped(self.network):
                self.task.save(self.paths.last, network_state(self.network), self.standing)
            tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state().items()}
            tensors |= optimiser_tensors(self.optimiser, self.network)
            save_state(self.paths, self.standing, tensors, self._run_id)
        self._saved_step = self.standing.step
        self._saving.last = self.clock.seconds
        self._saving.took = self.clock.seconds - started

    def _restore(self, standing: Standing, tensors: dict[str, Tensor]) -> None:
        self.standing, self._saved_step = standing, standing.step
        self.network.load_state_dict(_under("network.", tensors))
        self.average.load(_under("average.", tensors))
        load_optimiser(self.optimiser, self.network, tensors)
        if standing.scaler:
            self._scaler.load_state_dict(standing.scaler)


class _OwnShare:
    """The samples of this process: of each batch of all of them, its part in a row."""

    def __init__(self, samples: Any, batch: int, ranks: Ranks) -> None:
        self._samples, self._batch, self._ranks = samples, batch, ranks

    def __getitem__(self, index: int, /) -> Any:
        step, place = divmod(index, self._batch)
        return self._samples[(step * self._ranks.world + self._ranks.rank) * self._batch + place]


def halved(crop: Triple) -> Triple | None:
    """Halve a crop where it is longest, z counted eight times; None if it is as small as it can get."""
    size = list(crop)
    for axis in sorted(range(3), key=lambda axis: (-size[axis] / _SMALLEST_CROP[axis], -axis)):
        if size[axis] // 2 >= _SMALLEST_CROP[axis]:
            size[axis] //= 2
            return size[0], size[1], size[2]
    return None


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and convolutions; not for biases, norms and the decay rates of the scans."""
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    plain = {name for name, p in learning.items() if p.ndim < 2 or name.endswith("_log")}
    return [
        {"params": [p for name, p in learning.items() if name not in plain], "weight_decay": decay},
        {"params": [p for name, p in learning.items() if name in plain], "weight_decay": 0.0},
    ]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
