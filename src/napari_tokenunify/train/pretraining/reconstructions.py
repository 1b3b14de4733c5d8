"""Reconstructions: a small file of what a network sees, what it answers and how far it is off.

Reading it needs no torch. A file is an .npz of uint8 arrays (Z, Y, X), 255 = 1, named OBJECTIVE_input, _hidden,
_prediction and _error, and a text `about` in JSON: step, box and volume.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

import numpy as np

from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Preview
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Box

_NAMES: Final = ("input", "hidden", "prediction", "error")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One objective's answer to one question.

    Attributes
    ----------
    input : ndarray of uint8, shape (Z, Y, X)
        What the network sees; noise is cut off at 0 and 255.
    hidden : ndarray of uint8, shape (Z, Y, X)
        255 where voxels are hidden.
    prediction : ndarray of uint8, shape (Z, Y, X)
        The answer where it was asked for, the visible voxels elsewhere, and 0 where hidden voxels were not asked for.
    error : ndarray of uint8, shape (Z, Y, X)
        Distance of answer and truth, where an answer was asked for; 0 elsewhere.
    """

    input: NDArray[np.uint8]
    hidden: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    error: NDArray[np.uint8]

    @classmethod
    def of(cls, question: Any, asked: Any, answered: Any) -> Reconstruction:
        """Make one of a Question, what one objective asked of it, and the answer (Z, Y, X)."""
        shown, visible, wanted, target, found = (
            tensor.detach().float().cpu().numpy()
            for tensor in (question.image, question.visible, asked.voxels, asked.target, answered)
        )
        composed = np.where(wanted > 0, found, np.where(visible > 0, shown, 0))
        return cls(_grey(shown), _grey(1 - visible), _grey(composed), _grey(np.abs(found - target) * wanted))


def write_reconstructions(path: Path, found: Mapping[str, Reconstruction], step: int, box: Box, uri: str) -> Preview:
    """Write one file for all objectives.

    Parameters
    ----------
    path : Path
        The .npz to make or replace.
    found : mapping
        By objective.
    step : int
        After which step.
    box : Box
        Where the crop lies in its volume.
    uri : str
        Which volume.

    Raises
    ------
    TrainError
        If it cannot be written.
    """
    arrays: dict[str, Any] = {
        f"{objective}_{name}": getattr(each, name) for objective, each in found.items() for name in _NAMES
    }
    about = json.dumps({"step": step, "box": str(box), "volume": uri})
    with whole_file(path, TrainError) as part, part.open("wb") as file:
        np.savez_compressed(file, about=np.array(about), **arrays)
    return Preview(step, str(path), str(box))


def read_reconstructions(path: str | Path) -> tuple[dict[str, Reconstruction], dict[str, Any]]:
    """Read what `write_reconstructions` wrote.

    Returns
    -------
    dict of str to Reconstruction
        By objective: `random`, `next`, `next_all`.
    dict
        `step`, `box` (z0:z1,y0:y1,x0:x1 in voxels of the volume) and `volume`.

    Raises
    ------
    TrainError
        If it is no such file, or is damaged.
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            about: dict[str, Any] = json.loads(str(file["about"]))
            objectives = [name.removesuffix("_input") for name in file.files if name.endswith("_input")]
            found = {
                objective: Reconstruction(*(file[f"{objective}_{name}"] for name in _NAMES)) for objective in objectives
            }
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise TrainError(f"{path}: holds no reconstructions of a pre-training, or is damaged.") from error
    return found, about


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return grey
