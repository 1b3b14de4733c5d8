"""The selective scan of Mamba: one function, computed by whatever is fastest on the tensors' device.

Read `arguments.py` first, then `torch_scan.py`, which says in a few lines what is computed. `backends.py` chooses;
`numba_*.py`, `triton_*.py` and `mamba_ssm_scan.py` are the fast ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokenunify.network.scan.arguments import ScanArguments
from napari_tokenunify.network.scan.backends import BACKENDS, available_backends, choose_backend, run, try_tokens
from napari_tokenunify.network.scan.parity import parity_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BACKENDS", "available_backends", "choose_backend", "parity_error", "selective_scan", "try_tokens"]


def selective_scan(  # noqa: PLR0913 - the arguments of mamba_ssm's selective_scan_fn, in its order
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Run the selective state space model of Mamba along a sequence.

    For every channel, with step d = delta + delta_bias (or its softplus) and the states h, which start at 0:
    h[t] = exp(d[t] A) h[t - 1] + d[t] u[t] B[t] and y[t] = sum(h[t] C[t]) + D u[t], times SiLU(z[t]). All arguments
    have gradients. It is computed in float32, or in float64 if u is float64, whatever autocast says.

    Parameters
    ----------
    u : torch.Tensor
        The sequence, (batch, channels, length), floating point of any precision and strides.
    delta : torch.Tensor
        Step sizes, (batch, channels, length).
    A : torch.Tensor
        Rates, (channels, states), real, negative in a stable system.
    B, C : torch.Tensor
        What goes into the states and comes out of them, (batch, states, length) or (batch, 1, states, length).
    D : torch.Tensor, optional
        Weight of u itself, (channels,).
    z : torch.Tensor, optional
        Gate, (batch, channels, length).
    delta_bias : torch.Tensor, optional
        Added to delta, (channels,).
    delta_softplus : bool
        Whether the step is softplus(delta + delta_bias).
    backend : str
        "auto", "mamba_ssm" (CUDA), "triton" (CUDA), "numba" (CPU) or "torch" (anywhere). "auto" takes the fastest
        that works; one that fails is reported once through `logging`, and the next is taken.

    Returns
    -------
    torch.Tensor
        y, (batch, channels, length), of u's type.

    Raises
    ------
    ConfigError
        If shapes, types or devices do not fit, or a backend was named that cannot be used.

    References
    ----------
    .. [1] Gu and Dao (2023), Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752.
    """
    return run(ScanArguments(u, delta, A, B, C, D, z, delta_bias, delta_softplus=delta_softplus).checked(), backend)
