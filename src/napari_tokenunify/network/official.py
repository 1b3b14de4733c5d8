"""Official and foreign weights: the shape of a network read off its tensors, and a report of what was loaded.

The keys and shapes are those of github.com/ydchen0806/TokenUnify. Its files do not record everything: whether a Mamba
layer adds its input and how many slices the third scan weaves are taken to be as in the official code. Files that
`export_pth` wrote say it all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from napari_tokenunify.affinities import DEFAULT_OFFSETS, Offset
from napari_tokenunify.errors import ConfigError, ModelError
from napari_tokenunify.network.card import CARD_KEY, ModelCard, card_text, parse_card
from napari_tokenunify.network.checkpoint import check_finite, read_tensors
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import TokenUnify, build_network
from napari_tokenunify.network.unpickle import StoredTensor, read_pth
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

ENOUGH: Final = 0.9
_INSIDE: Final = ("model", "model_weights", "state_dict", "model_state_dict")
_PREFIXES: Final = ("module.", "_orig_mod.")  # of torch's DataParallel and compile
_SHOWN: Final = 3
HEAD_PREFIX: Final = "preciever."
HEAD_SHAPES: Final = {
    "conv1.weight": (12, 1, 3, 3, 3),
    "conv1.bias": (12,),
    "conv2.weight": (12, 12, 3, 3, 3),
    "conv2.bias": (12,),
    "conv3.weight": (1, 12, 3, 3, 3),
    "conv3.bias": (1,),
    "mlp.weight": (1024, 800),
    "mlp.bias": (1024,),
}
"""The head for next tokens in files of the official pre-training; there, its names begin with `HEAD_PREFIX`."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor when weights were loaded; `str` gives it in a few lines.

    Where a file has a head for next tokens, or a part of one, its tensors are told of as those of the network are.

    Attributes
    ----------
    source : str
        The file.
    matched : tuple of str
        Tensors of the network that were loaded, and those of a whole head.
    missing : tuple of str
        Tensors of the network that the file does not have: they keep their random start.
    mismatched : tuple of str
        Tensors that the file has in another shape, with both shapes: they keep their random start.
    skipped : tuple of str
        Tensors of the file that the network does not have, and what fits of a head that is not whole.
    card : ModelCard or None
        What the file says of itself, if this package wrote it.
    head : dict of str to Tensor
        The weights of the head, by the names in `HEAD_SHAPES`; empty where there is none, or none that is whole.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    skipped: tuple[str, ...]
    card: ModelCard | None = None
    head: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def wanted(self) -> int:
        """Number of tensors that the network has, and the head, if there is one."""
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    def __str__(self) -> str:
        """Return a line on what was loaded, and one on each kind of what was not."""
        lines = [f"{len(self.matched)} of {self.wanted} tensors loaded from {self.source}"]
        for what, names in (
            ("in another shape", self.mismatched),
            ("not in the file", self.missing),
            ("in the file only", self.skipped),
        ):
            if names:
                lines.append(f"  {len(names)} {what}: {_some(names)}")
        if self.head:
            lines.append(f"  {len(self.head)} of them are the head for next tokens")
        return "\n".join(lines)


def read_official(
    path: str | Path, *, allow_partial: bool = False, offsets: Sequence[Offset] | None = None
) -> tuple[TokenUnify, LoadReport]:
    """Build the network that a file of weights was trained with, and load them. Nothing in the file is executed.

    Widths, hidden channels, kernel, depth, strides and number of outputs are read off the shapes.

    Parameters
    ----------
    path : str or Path
        A `.pth` file: a dict with `model`, `model_weights` or `state_dict`, or the state dict itself; or a
        `.safetensors` file. Prefixes of DataParallel and of torch.compile are taken off.
    allow_partial : bool
        Accept weights of which less than 90 % of the network's tensors can be loaded.
    offsets : sequence of (z, y, x), optional
        What the outputs stand for. Default: the three next neighbours for three outputs, the voxel itself for one.

    Returns
    -------
    TokenUnify
        On the CPU, in fp32. It gives logits; `affinities` has the official network's sigmoid.
    LoadReport
        What was loaded and what was not.

    Raises
    ------
    ModelError
        If the file cannot be read, wants to run code, holds another network or values that are not finite, or too
        little of it fits.
    """
    path = Path(path).expanduser()
    tensors, card = _read_weights(path)
    module = build_network(card.network if card else infer_config(path, tensors, offsets))
    report = load_weights(module, tensors, source=str(path), allow_partial=allow_partial)
    return module, replace(_with_head(report, tensors), card=card)


def load_weights(
    module: TokenUnify, tensors: Mapping[str, Tensor], *, source: str, allow_partial: bool = False
) -> LoadReport:
    """Load the tensors that a network has under the same name and in the same shape.

    Parameters
    ----------
    module : TokenUnify
        Changed in place, unless an error is raised.
    tensors : mapping of Tensor
        By their official names.
    source : str
        Where they came from, for the report.
    allow_partial : bool
        Accept that less than 90 % of the network's tensors are loaded.

    Raises
    ------
    ModelError
        If too few fit, or they hold values that are not finite.
    """
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    matched = {name: tensor for name, tensor in tensors.items() if wanted.get(name) == tensor.shape}
    report = LoadReport(
        source,
        tuple(matched),
        missing=tuple(name for name in wanted if name not in tensors),
        mismatched=tuple(
            f"{name} {_times(tensors[name].shape)} for {_times(shape)}"
            for name, shape in wanted.items()
            if name in tensors and name not in matched
        ),
        skipped=tuple(name for name in tensors if name not in wanted),
    )
    if len(matched) < ENOUGH * len(wanted) and not allow_partial:
        raise ModelError(
            f"{source}: only {len(matched)} of the network's {len(wanted)} tensors are in it "
            f"({len(report.mismatched)} have another shape, e.g. {_some(report.mismatched or report.missing)}); "
            "allow a partial load if that is what you want."
        )
    check_finite(matched, f"{source}:")
    module.load_state_dict(matched, strict=False)
    return report


def infer_config(path: Path, tensors: Mapping[str, Tensor], offsets: Sequence[Offset] | None = None) -> NetworkConfig:
    """Read the shape of a network off its tensors; see `read_official`.

    Raises
    ------
    ModelError
        If they are not a TokenUnify network's, or it is unknown what the outputs stand for.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    widths = _leading(shapes, "vit.downsample_layers.0.0.weight", "vit.downsample_layers.{}.1.weight")
    if not widths:
        raise ModelError(
            f"{path}: is not a TokenUnify network: it has no vit.downsample_layers.0.0.weight, but {_some(shapes)}."
        )
    stages = range(len(widths))
    try:
        looks_at_one = any(name.startswith(HEAD_PREFIX) for name in shapes)
        (outputs,) = shapes.get("out.conv.conv.bias", (1 if looks_at_one else len(DEFAULT_OFFSETS),))
        return NetworkConfig(
            widths=widths,
            hidden=shapes.get(f"encoder{len(widths) + 1}.layer.conv1.conv.weight", (2 * widths[-1],))[0],
            depth=tuple(_layers(shapes, stage) for stage in stages),
            kernel=shapes.get("encoder1.layer.conv1.conv.weight", ())[2:] or (1, 5, 5),
            strides=tuple(shapes.get(f"decoder{i + 2}.transp_conv.conv.weight", ())[2:] or (2, 2, 2) for i in stages),
            offsets=tuple(offsets or _offsets(path, outputs)),
        )
    except (ConfigError, ValueError) as error:
        raise ModelError(f"{path}: its tensors have shapes that no TokenUnify network has.") from error


def export_pth(
    path: str | Path, module: TokenUnify, card: ModelCard | None = None, head: Mapping[str, Tensor] | None = None
) -> None:
    """Write a plain `.pth` with the official keys under `model`, as the official code loads it.

    The official code applies a sigmoid to what the network gives, and knows neither `residual`, other `slices` nor
    other strides: it takes such weights without a word and computes something else. `read_official` knows them, as
    the card is written beside the weights.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    module : TokenUnify
        On any device.
    card : ModelCard, optional
        What is known of it.
    head : mapping of str to Tensor, optional
        The official head for next tokens, by the names in `HEAD_SHAPES`.

    Raises
    ------
    ModelError
        If it cannot be written.
    """
    text = (card or ModelCard(network=module.config)).model_dump_json()
    named = {f"{HEAD_PREFIX}{name}": tensor for name, tensor in (head or {}).items()}
    model = {name: tensor.detach().cpu() for name, tensor in (module.state_dict() | named).items()}
    with whole_file(Path(path).expanduser(), ModelError) as part:
        torch.save({"model": model, CARD_KEY: text}, part)


def _with_head(report: LoadReport, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Tell of the official head as well, if the file has any of it; it is taken as a whole or not at all."""
    given = {name.removeprefix(HEAD_PREFIX): t for name, t in tensors.items() if name.startswith(HEAD_PREFIX)}
    if not given:
        return report
    fitting = {name: given[name] for name, shape in HEAD_SHAPES.items() if name in given and given[name].shape == shape}
    head = fitting if len(fitting) == len(HEAD_SHAPES) else {}
    check_finite(head, f"{report.source}:")
    others = {name: shape for name, shape in HEAD_SHAPES.items() if name in given and name not in fitting}
    told = {f"{HEAD_PREFIX}{name}" for name in (*head, *others)}
    return replace(
        report,
        matched=(*report.matched, *(f"{HEAD_PREFIX}{name}" for name in head)),
        missing=(*report.missing, *(f"{HEAD_PREFIX}{name}" for name in HEAD_SHAPES if name not in given)),
        mismatched=(
            *report.mismatched,
            *(f"{HEAD_PREFIX}{name} {_times(given[name].shape)} for {_times(s)}" for name, s in others.items()),
        ),
        skipped=tuple(name for name in report.skipped if name not in told),
        head=head,
    )


def _read_weights(path: Path) -> tuple[dict[str, Tensor], ModelCard | None]:
    """Return the tensors of a file under their official names, and the card if there is one."""
    if path.suffix == ".safetensors":
        text = card_text(path)
        card = parse_card(text, path) if text else None
        tensors = read_tensors(path, card)
    else:
        content, tensors = read_pth(path, lambda content: _state_dict(path, content))
        text = content.get(CARD_KEY) if isinstance(content, dict) else None
        card = parse_card(text, path) if isinstance(text, str) else None
    return {_plain(name): tensor for name, tensor in tensors.items()}, card


def _state_dict(path: Path, content: object) -> dict[str, StoredTensor]:
    """Find the weights in what a training script saved."""
    if isinstance(content, dict):
        inside = next((content[name] for name in _INSIDE if isinstance(content.get(name), dict)), content)
        tensors = {str(name): value for name, value in inside.items() if isinstance(value, StoredTensor)}
        if tensors:
            return tensors
    raise ModelError(f"{path}: holds no tensors by name; save the network's state dict, not the network.")


def _plain(name: str) -> str:
    """Take off what wrappers put in front of a name."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return _plain(name.removeprefix(prefix))
    return name


def _leading(shapes: Mapping[str, tuple[int, ...]], first: str, others: str) -> tuple[int, ...]:
    """Return the first extent of `first`, and of `others` with 1, 2, ... in its place, as far as they go."""
    names = itertools.chain([first], (others.format(i) for i in itertools.count(1)))
    found = itertools.takewhile(bool, (shapes.get(name) for name in names))
    return tuple(shape[0] for shape in found if shape)


def _layers(shapes: Mapping[str, tuple[int, ...]], stage: int) -> int:
    """Count the Mamba layers of a stage; one if there is none, so that they are reported as missing."""
    name = f"vit.stages.{stage}.{{}}.norm.weight"
    return max(1, len(_leading(shapes, name.format(0), name)))


def _offsets(path: Path, outputs: int) -> tuple[Offset, ...]:
    known = {1: ((0, 0, 0),), len(DEFAULT_OFFSETS): DEFAULT_OFFSETS}
    if outputs not in known:
        raise ModelError(f"{path}: has {outputs} outputs, but does not say what they stand for; give their offsets.")
    return known[outputs]


def _times(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _some(names: Iterable[str]) -> str:
    """Name the first few."""
    first = list(itertools.islice(names, _SHOWN + 1))
    return ", ".join(first[:_SHOWN]) + (", ..." if len(first) > _SHOWN else "")
