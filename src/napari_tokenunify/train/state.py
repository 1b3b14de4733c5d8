"""The state of a training on disk: all that it needs to go on as if it had never stopped. No pickle."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_tokenunify.errors import TrainError
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.project import RunPaths

_KEY: Final = "napari_tokenunify_training"


@dataclass(frozen=True)
class Standing:
    """How far a training has come; numbers only.

    Attributes
    ----------
    step : int
        Steps done.
    seconds : float
        Seconds of work, without pauses.
    crop : tuple of int
        Voxels (z, y, x) of a crop by now; halved where memory ran out.
    micro : int
        Crops computed at once by now; halved where memory ran out.
    skipped : int
        Steps left out because the loss was not finite.
    best : float or None
        The least validation loss so far.
    best_step : int
        When.
    waited : int
        Validations since then.
    validated : int
        Step of the last validation.
    metrics : dict
        Of the last validation, by name.
    best_metrics : dict
        Of the best one.
    scaler : dict
        State of the gradient scaler of fp16; empty otherwise.
    ended : str
        The budget that it has come to the end of, if it has.
    """

    step: int = 0
    seconds: float = 0.0
    crop: Triple = (0, 0, 0)
    micro: int = 1
    skipped: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    validated: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    ended: str = ""

    def with_(self, **changes: Any) -> Standing:
        """Return a copy with `changes`."""
        return replace(self, **changes)


def save_state(paths: RunPaths, standing: Standing, tensors: dict[str, Tensor], run: str) -> None:
    """Write the state; the one before it stays as `state.previous.safetensors`.

    Parameters
    ----------
    paths : RunPaths
        The run folder.
    standing : Standing
        Its numbers.
    tensors : dict
        Weights, averages and the optimiser's, by name.
    run : str
        Which training this is; `load_state` refuses another.

    Raises
    ------
    TrainError
        If it cannot be written, e.g. because the disk is full; what was there before is still there.
    """
    ready = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"run": run, "standing": asdict(standing)})
    with whole_file(paths.state, TrainError) as part:
        save_file(ready, part, metadata={_KEY: text})
        if paths.state.exists():  # a second name for the old one: at every moment there is a whole state
            second = paths.previous_state.with_suffix(".link")
            second.unlink(missing_ok=True)
            try:
                os.link(paths.state, second)
            except OSError:  # a file system without links
                shutil.copyfile(paths.state, second)
            second.replace(paths.previous_state)


def load_state(paths: RunPaths, run: str) -> tuple[Standing, dict[str, Tensor]] | None:
    """Read the last whole state; None if there is none.

    Raises
    ------
    TrainError
        If there are states, but all are damaged, or they are of another training.
    """
    there = [path for path in (paths.state, paths.previous_state) if path.exists()]
    for path in there:
        try:
            return _read(path, run)
        except (SafetensorError, OSError, KeyError, ValueError):
            continue
    if there:
        raise TrainError(f"{paths.folder}: the state of the training is damaged; start a new run in another folder.")
    return None


def _read(path: Path, run: str) -> tuple[Standing, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()[_KEY])
        if record["run"] != run:
            raise TrainError(
                f"{path.parent}: holds a training with other settings, data or starting weights; choose another --out, "
                "or give the same settings to go on with it."
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    values = dict(record["standing"])
    z, y, x = values.pop("crop")
    return Standing(crop=(z, y, x), **values), tensors


def optimiser_tensors(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return what an optimiser remembers of each parameter, by `optimiser.KEY.NAME`."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {}
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            found[f"optimiser.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
    return found


def load_optimiser(optimiser: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser back what `optimiser_tensors` returned."""
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        ending = f".{name}"
        values = {
            full[len("optimiser.") : -len(ending)]: tensor
            for full, tensor in tensors.items()
            if full.startswith("optimiser.") and full.endswith(ending)
        }
        own = {key: value for key, value in values.items() if "." not in key}
        if own:
            optimiser.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in own.items()
            }
