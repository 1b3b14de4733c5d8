"""Which code computes a selective scan: what can be used where, what `auto` takes, and what happens if it fails."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.scan import recomputed, torch_scan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.network.scan.arguments import ScanArguments

_LOG = logging.getLogger(__name__)
BACKENDS = ("mamba_ssm", "triton", "numba", "torch")
_PREFERRED = {"cuda": ("mamba_ssm", "triton", "torch"), "cpu": ("numba", "torch")}
_broken: dict[str, str] = {}


def run(arguments: ScanArguments, backend: str) -> Tensor:
    """Compute a selective scan with the backend asked for, or with `auto` the best one that works.

    Parameters
    ----------
    arguments : ScanArguments
        Checked arguments.
    backend : str
        "auto" or one of `BACKENDS`.

    Returns
    -------
    torch.Tensor
        (batch, channels, length), of u's type.

    Raises
    ------
    ConfigError
        If the backend does not exist, or cannot be used here.
    """
    device, dtype = arguments.u.device, arguments.u.dtype
    if backend != "auto":
        refusal = why_not(backend, device, dtype)
        if refusal:
            raise ConfigError(f'selective_scan: the backend "{backend}" cannot be used: {refusal}; "auto" takes another.')
        return _call(backend, arguments)
    while (name := choose(device, dtype)) != "torch":
        try:
            return _call(name, arguments, cautious=True)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a kernel, the next one is tried
            report(name, error)
    return torch_scan.scan(arguments)


def choose(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Return which backend `auto` takes for tensors on a device.

    Parameters
    ----------
    device : torch.device or str
        E.g. "cpu" or "cuda:1".
    dtype : torch.dtype
        Type of u.

    Returns
    -------
    str
        One of `BACKENDS`.
    """
    device = torch.device(device)
    return next(name for name in _PREFERRED.get(device.type, ("torch",)) if not why_not(name, device, dtype))


def why_not(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Return why a backend cannot be used for tensors on a device, as part of a sentence; "" if it can.

    Raises
    ------
    ConfigError
        If there is no such backend.
    """
    if name not in BACKENDS:
        raise ConfigError(f'selective_scan: there is no backend "{name}"; take "auto" or one of {", ".join(BACKENDS)}.')
    if name == "torch":
        return ""
    interpreted = name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    wanted = "cpu" if name == "numba" or interpreted else "cuda"
    if device.type != wanted:
        return f"it is for {'CUDA GPUs' if wanted == 'cuda' else 'the CPU'}, and the tensors are on {device.type}"
    if dtype == torch.float64 and name != "numba":
        return "it computes in float32 only"
    return _broken.get(name) or _missing(name)


def available_backends() -> dict[str, str]:
    """Return all backends with the reason why one cannot be used on this machine; "" if it can."""
    gpu = torch.cuda.is_available()
    return {
        name: why_not(name, _home(name)) if gpu or name not in {"mamba_ssm", "triton"} or _interprets(name) else ...
        for name in BACKENDS
    }
