"""Export to a bioimage.io package: weights, description and test tensors in a zip that other programs open.

The weights are a state dict of PyTorch; the network to load them into is `network_of`, so whoever runs the package
needs this one installed. The scans are no standard operation, which is why there is no TorchScript or ONNX.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import TokenUnify, build_network
from napari_tokenunify.project import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.affinities import Offset
    from napari_tokenunify.network.card import ModelCard

_LOW, _HIGH, _EPS = 0.5, 99.5, 1e-6
_INSTALL: Final = "pip install 'napari-tokenunify[bioimageio]'"
_CITE: Final = {
    "text": "Chen et al. (2024), TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation",
    "doi": "10.48550/arXiv.2405.16847",
}
_README: Final = """# {name}

{description}

A TokenUnify network for electron-microscopy volumes: grey values in, affinities out. Channel c of the output says how
likely a voxel belongs to the same neuron as the one at an offset (z, y, x) from it: {offsets}.

Licence of the weights: {licence}. Trained on: {data}.

# Validation

Segment a labelled volume that was not trained on and compare variation of information and adapted Rand error with
those of another network, e.g. with `napari-tokenunify evaluate`. {metrics}
"""
_ENVIRONMENT: Final = """name: napari-tokenunify
channels: [conda-forge]
dependencies:
  - python>=3.11
  - pip
  - pip:
      - napari-tokenunify
"""


def export_bioimageio(
    path: str | Path,
    module: TokenUnify,
    card: ModelCard,
    *,
    sample: NDArray[Any] | None = None,
    authors: Sequence[str] = (),
) -> Path:
    """Write a bioimage.io package and let `bioimageio.spec` validate it.

    Parameters
    ----------
    path : str or Path
        The .zip file to make or replace.
    module : TokenUnify
        On any device.
    card : ModelCard
        What is known of it; name, description, licence and voxel size go into the package.
    sample : ndarray, (Z, Y, X), integer or float, optional
        Grey values as they come from a file, which become the test input, cut to multiples of the strides. Default:
        noise.
    authors : sequence of str
        Names of those who made the weights.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ModelError
        If `bioimageio.spec` is not installed or finds the package invalid, the sample is too small, or the file
        cannot be written.
    """
    try:
        import bioimageio.spec as spec
    except ImportError as error:
        raise ModelError(f"To write bioimage.io packages, install their library: {_INSTALL}.") from error

    path = Path(path).expanduser()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_files(folder, module, card, _cut(sample, module.config))
        content = _description(folder, module.config, card, authors)
        context = spec.ValidationContext(root=folder, log_warnings=False, progressbar=False)
        with context, warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the library leaves files it has read to the collector
            description = spec.build_description(content)
            if isinstance(description, spec.InvalidDescr):
                raise ModelError(f"{path}: is not written: {description.get_reason()}")
            package = spec.save_bioimageio_package(description, output_path=folder / "package.zip")
        with whole_file(path, ModelError) as part:
            shutil.copyfile(package, part)
    return path


def network_of(**settings: Any) -> TokenUnify:
    """Build the network that a package's state dict fits; packages name this function.

    Parameters
    ----------
    **settings
        The fields of a NetworkConfig.
    """
    return build_network(NetworkConfig(**settings))


def _cut(sample: NDArray[Any] | None, config: NetworkConfig) -> NDArray[np.float32]:
    """Return the test input, (1, 1, Z, Y, X), of a size that every program can give."""
    strides = config.total_stride
    if sample is None:
        shape = [max(stride, extent) for stride, extent in zip(strides, (8, 64, 64), strict=True)]
        sample = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    if sample.ndim != 3 or any(extent < stride for extent, stride in zip(sample.shape, strides, strict=True)):
        raise ModelError(f"The sample has the shape {sample.shape}, but (z, y, x) of at least {strides} is needed.")
    extents = (slice(extent // stride * stride) for extent, stride in zip(sample.shape, strides, strict=True))
    return sample[tuple(extents)][None, None].astype(np.float32)


def _write_files(folder: Path, module: TokenUnify, card: ModelCard, sample: NDArray[np.float32]) -> None:
    """Write what the description refers to."""
    weights = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    torch.save(weights, folder / "weights.pt")
    low, high = np.percentile(sample, (_LOW, _HIGH))
    raw = torch.from_numpy(((sample - low) / (high - low + _EPS)).clip(0, 1).astype(np.float32))
    device = next(module.parameters()).device
    with torch.no_grad():
        affinities = module.affinities(raw.to(device)).cpu().numpy()
    np.save(folder / "test_input.npy", sample)
    np.save(folder / "test_output.npy", affinities)
    readme = _README.format(
        name=card.name or "A TokenUnify network",
        description=card.description,
        offsets=" ".join(map(str, module.config.offsets)),
        licence=card.licence,
        data=", ".join(f"{used.name} ({used.licence})" for used in card.data) or "not stated",
        metrics=", ".join(f"{name}: {value:g}" for name, value in card.metrics.items()),
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    (folder / "environment.yaml").write_text(_ENVIRONMENT, encoding="utf-8")


def _description(folder: Path, config: NetworkConfig, card: ModelCard, authors: Iterable[str]) -> dict[str, Any]:
    """Return the package's description, as its YAML has it."""
    from bioimageio.spec.model.v0_5 import ModelDescr

    return {
        "type": "model",
        "format_version": ModelDescr.implemented_format_version,
        "name": re.sub(r"[^A-Za-z0-9_+() -]", "-", f"TokenUnify {card.name}".strip()),
        "description": card.description,
        "authors": [{"name": name} for name in authors],
        "cite": [_CITE],
        "license": _spdx(card.licence),
        "documentation": _file(folder, "README.md"),
        "tags": ["electron-microscopy", "neurons", "affinities", "segmentation", "3d", "mamba"],
        "inputs": [_input(folder, config)],
        "outputs": [_output(folder, config)],
        "weights": {
            "pytorch_state_dict": {
                **_file(folder, "weights.pt"),
                "pytorch_version": torch.__version__.partition("+")[0],
                "architecture": {
                    "import_from": network_of.__module__,
                    "callable": network_of.__name__,
                    "kwargs": config.model_dump(mode="json"),
                },
                "dependencies": _file(folder, "environment.yaml"),
            }
        },
        "config": {"napari_tokenunify": card.model_dump(mode="json")},
    }


def _input(folder: Path, config: NetworkConfig) -> dict[str, Any]:
    # no "batch" among the axes: each sample by itself
    scaling = {"axes": ["channel", *"zyx"], "min_percentile": _LOW, "max_percentile": _HIGH, "eps": _EPS}
    sizes = [{"min": stride, "step": stride} for stride in config.total_stride]
    return {
        "id": "raw",
        "description": "grey values, membranes dark",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["raw"]}, *_space(config, sizes)],
        "data": {"type": "float32"},
        "test_tensor": _file(folder, "test_input.npy"),
        "preprocessing": [
            {"id": "scale_range", "kwargs": scaling},
            {"id": "clip", "kwargs": {"min": 0, "max": 1}},
        ],
    }


def _output(folder: Path, config: NetworkConfig) -> dict[str, Any]:
    sizes = [{"tensor_id": "raw", "axis_id": axis} for axis in "zyx"]
    channels = {"type": "channel", "channel_names": [_channel_name(offset) for offset in config.offsets]}
    return {
        "id": "affinities",
        "description": "0..1: same neuron as the voxel at the offset that the channel is named after",
        "axes": [{"type": "batch"}, channels, *_space(config, sizes)],
        "data": {"type": "float32", "range": [0, 1]},
        "test_tensor": _file(folder, "test_output.npy"),
        "postprocessing": [{"id": "sigmoid"}],
    }


def _space(config: NetworkConfig, sizes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    axes = [{"type": "space", "id": axis, "size": size} for axis, size in zip("zyx", sizes, strict=True)]
    if config.voxel_size_nm is None:
        return axes
    scales = zip(axes, config.voxel_size_nm, strict=True)
    return [{**axis, "unit": "nanometer", "scale": scale} for axis, scale in scales]


def _channel_name(offset: Offset) -> str:
    """Write (-1, 0, 0) as zm1_y0_x0: names must be words."""
    return "_".join(f"{axis}{step}".replace("-", "m") for axis, step in zip("zyx", offset, strict=True))


def _spdx(licence: str) -> str | None:
    """Return a licence as SPDX writes it, None if it is none of theirs; the hub writes them in small letters."""
    from bioimageio.spec.generic.v0_3 import LicenseId

    for name in (licence, licence.upper(), licence.capitalize()):
        with suppress(ValueError):
            return str(LicenseId(name))
    return None


def _file(folder: Path, name: str) -> dict[str, str]:
    with (folder / name).open("rb") as content:
        return {"source": name, "sha256": file_digest(content, "sha256").hexdigest()}
