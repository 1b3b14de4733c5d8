"""Where a network computes and in what: device, precision, and how a full memory is told."""

from __future__ import annotations

from typing import Final, Literal

import torch

from napari_tokenunify.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: DeviceName) -> torch.device:
    """Return the device to compute on; "auto" takes a GPU if there is one.

    Raises
    ------
    ConfigError
        If the one that is wanted is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, usable in there.items() if usable))
    if not there[wanted]:
        raise ConfigError(f"PyTorch cannot use {wanted} here: leave out --device, or see `napari-tokenunify doctor`.")
    return torch.device(wanted)


def choose_precision(wanted: PrecisionName, device: torch.device) -> PrecisionName:
    """Return what to compute in; "auto" takes the fastest that the device has units for.

    Half precision (bf16, fp16) is used through torch's autocast: weights stay as they are.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        questions = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        return "bf16" if any(ask() for ask in questions if ask is not None) else "fp32"
    return "fp32"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch or Python means that memory is full; only CUDA has a type of its own for it."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
