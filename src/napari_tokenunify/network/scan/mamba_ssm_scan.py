"""The selective scan by the CUDA kernels of `mamba_ssm`, the package of Mamba's authors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

if TYPE_CHECKING:
    from torch import Tensor

    from napari_tokenunify.network.scan.arguments import ScanArguments


def scan(arguments: ScanArguments) -> Tensor:
    """Compute a selective scan; its kernels want the sequences in u's data type and the weights in float32.

    Parameters
    ----------
    arguments : ScanArguments
        Checked arguments on a CUDA GPU; float32 or half precision.

    Returns
    -------
    torch.Tensor
        (batch, channels, length), of u's type.
    """
    weights = (arguments.A, arguments.D, arguments.delta_bias)
    A, D, bias = (None if x is None else x.to(torch.float32).contiguous() for x in weights)
    rows = (arguments.u, arguments.delta, arguments.B, arguments.C, arguments.z)
    u, delta, B, C, z = (None if x is None else x.to(arguments.u.dtype) for x in rows)
    y: Tensor = selective_scan_fn(u, delta, A, B, C, D, z, bias, arguments.delta_softplus)
    return y
