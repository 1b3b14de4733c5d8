"""How far a backend is from the truth: the one number that says whether it works on this machine."""

from __future__ import annotations

import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.scan import backends
from napari_tokenunify.network.scan.arguments import ScanArguments


def parity_error(backend: str) -> float:
    """Compare a backend in float32 with the torch backend in float64, on a small random case.

    It is computed on a GPU by those that need one, on the CPU by the others.

    Parameters
    ----------
    backend : str
        One of "mamba_ssm", "triton", "numba", "torch".

    Returns
    -------
    float
        Largest error of the output and of all gradients, each relative to its largest value. About 1e-6 is as good
        as float32 gets; above 1e-4 something is broken.

    Raises
    ------
    ConfigError
        If there is no such backend or it cannot be used.
    """
    reason = backends.available_backends().get(backend)
    if reason:
        raise ConfigError(f'selective_scan: the backend "{backend}" cannot be used: {reason}.')
    case = _random_case()
    found = _output_and_gradients(case.map(lambda x: x.to(backends.home(backend))), backend)
    truth = _output_and_gradients(case.map(torch.Tensor.double), "torch")
    errors = [(a.cpu() - b).abs().max() / b.abs().max() for a, b in zip(found, truth, strict=True)]
    return float(max(errors))


def _random_case() -> ScanArguments:
    """Return a sequence of 150 tokens with 5 channels and 3 states: no round number anywhere."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"u": (1, 5, 150), "delta": (1, 5, 150), "A": (5, 3), "B": (1, 3, 150), "C": (1, 3, 150)}
    shapes |= {"D": (5,), "z": (1, 5, 150), "delta_bias": (5,)}
    case = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    case["A"] = -case["A"].exp()
    return ScanArguments(**case, delta_softplus=True)


def _output_and_gradients(case: ScanArguments, backend: str) -> list[torch.Tensor]:
    leaves = case.map(lambda x: x.detach().requires_grad_())
    with torch.enable_grad():
        y = backends.run(leaves, backend)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, [x for _, x in leaves.named()], dy)]
