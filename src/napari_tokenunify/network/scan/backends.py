"""Which code computes a selective scan: what can be used where, what "auto" takes, and what happens if it fails."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.scan import recomputed, torch_scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_tokenunify.network.scan.arguments import ScanArguments

_LOG = logging.getLogger(__name__)
BACKENDS: Final = ("mamba_ssm", "triton", "numba", "torch")
_PREFERRED: Final = {"cuda": ("mamba_ssm", "triton", "torch"), "cpu": ("numba", "torch")}
_PACKAGES: Final = ("mamba_ssm", "selective_scan_cuda", "triton", "numba")
_broken: dict[str, str] = {}  # backend -> what went wrong


def run(arguments: ScanArguments, backend: str) -> Tensor:
    """Compute a selective scan with the backend asked for or, for "auto", with the best that works.

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
        If there is no such backend, or it cannot be used for these tensors.
    """
    device, dtype = arguments.u.device, arguments.u.dtype
    if backend != "auto":
        reason = why_not(backend, device, dtype)
        if reason:
            raise ConfigError(f'selective_scan: the backend "{backend}" cannot be used: {reason}; take "auto" instead.')
        return _compute(backend, arguments, cautious=False)
    while (name := choose_backend(device, dtype)) != "torch":
        try:
            return _compute(name, arguments, cautious=True)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a kernel, the next backend is tried
            _report(name, error)
    return torch_scan.scan(arguments)


def try_tokens(backend: str, x: Tensor, channels: int, compute: Callable[[Any], Tensor]) -> Tensor | None:
    """Compute with the kernels that take tokens as rows and know no gradients: Numba's, on a CPU.

    Parameters
    ----------
    backend : str
        As for `run`.
    x : torch.Tensor
        What will be computed with, (batch, length, any).
    channels : int
        Channels of the scans.
    compute : callable
        Is given the module of the kernels.

    Returns
    -------
    torch.Tensor or None
        What `compute` returns; None where another way has to be taken.
    """
    if backend not in {"auto", "numba"} or x.device.type != "cpu" or torch.is_grad_enabled():
        return None
    if why_not("numba", x.device, x.dtype):
        return None
    try:
        kernels = _module("numba_tokens")
        return compute(kernels) if kernels.takes(x, channels) else None
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - as in `run`
        _report("numba", error)
    return None


def choose_backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Return the backend that "auto" takes.

    Parameters
    ----------
    device : torch.device or str
        Where the tensors are, e.g. "cpu" or "cuda:1".
    dtype : torch.dtype
        Type of u.

    Returns
    -------
    str
        One of "mamba_ssm", "triton", "numba", "torch".
    """
    device = torch.device(device)
    name = next(name for name in _PREFERRED.get(device.type, ("torch",)) if not why_not(name, device, dtype))
    _announce(device.type, name)
    return name


def available_backends() -> dict[str, str]:
    """Return every backend with the reason why it cannot be used on this machine, or "" if it can."""
    return {
        name: why_not(name, device)
        if (device := home(name)).type != "cuda" or torch.cuda.is_available()
        else "PyTorch finds no CUDA GPU"
        for name in BACKENDS
    }


def home(name: str) -> torch.device:
    """Return where the tensors have to be for a backend; "torch" takes them anywhere."""
    on_gpu = name == "mamba_ssm" or (name == "triton" and os.environ.get("TRITON_INTERPRET") != "1")
    return torch.device("cuda" if on_gpu else "cpu")


def why_not(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Return why a backend cannot be used for tensors on a device, as part of a sentence, or "" if it can.

    Raises
    ------
    ConfigError
        If there is no such backend.
    """
    if name not in BACKENDS:
        raise ConfigError(f'selective_scan: there is no backend "{name}"; take "auto" or one of {", ".join(BACKENDS)}.')
    if name == "torch":
        return ""
    if device.type != home(name).type:
        return f"it is for {'CUDA GPUs' if home(name).type == 'cuda' else 'the CPU'}, and u is on {device}"
    if dtype == torch.float64 and name != "numba":
        return "it computes in float32 only, and u is float64"
    _try_import(name)
    return _broken.get(name, "")


def _compute(name: str, arguments: ScanArguments, *, cautious: bool) -> Tensor:
    module: Any = _module(f"{name}_scan")
    if name in {"torch", "mamba_ssm"}:
        result: Tensor = module.scan(arguments)
        return result
    return recomputed.scan(_Cautious(name, module) if cautious else module, arguments)


@dataclass(frozen=True)
class _Cautious:
    """Kernels whose backward pass, should it fail, is done by PyTorch."""

    name: str
    kernels: recomputed.Kernels

    def forward(self, arguments: ScanArguments, *, keep: bool) -> tuple[Tensor, Tensor]:
        return self.kernels.forward(arguments, keep=keep)

    def backward(self, arguments: ScanArguments, states: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
        try:
            return self.kernels.backward(arguments, states, dy)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - as in `run`
            _report(self.name, error)
        return torch_scan.gradients(arguments, dy)


def _module(name: str) -> Any:
    return import_module(f"napari_tokenunify.network.scan.{name}")


@cache
def _try_import(name: str) -> None:
    """Import a backend, and note why it cannot be used. That one is not installed is nothing to report."""
    try:
        _module(f"{name}_scan")
    except ModuleNotFoundError as error:
        if error.name in _PACKAGES:
            _broken[name] = f"{error.name} is not installed"
        else:
            _report(name, error)
    except Exception as error:  # noqa: BLE001 - compiled packages fail to load in many ways
        _report(name, error)


def _report(name: str, error: Exception) -> None:
    """Note that a backend does not work, and say so the first time."""
    if name not in _broken:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        _broken[name] = f"it failed ({reason})"
        _LOG.warning("The %s backend of the selective scan failed and is not used any more: %s", name, reason)
        _LOG.debug("The %s backend failed:", name, exc_info=error)


@cache
def _announce(kind: str, name: str) -> None:
    """Say once what computes the scans on a kind of device."""
    _LOG.info("Selective scans on %s are computed by %s.", kind, name)
