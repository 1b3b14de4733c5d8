"""The Triton kernels: on a GPU where there is one, else in Triton's interpreter; and compiled for GPUs of all kinds.

The interpreter has to be chosen before Triton is imported, so these tests run themselves again in a process of their
own. It takes 0.1 ms for a number, hence small cases cut into small tiles; `pytest -m slow` has the large ones.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.scan import backends, choose_backend, parity_error, selective_scan
from tests.network.scan_reference import assert_close, random_case, truth, with_gradients

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
runs = pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU; the interpreter runs it")
KERNELS = {
    "tile_ends": {"BACKWARDS": False, "BLOCK": 4, "TILE": 128, "SOFTPLUS": True},
    "join_tiles": {"PADDED": 16, "BACKWARDS": True, "BLOCK": 64},
    "outputs": {"BLOCK": 4, "TILE": 128, "SOFTPLUS": True},
    "gradients": {"BLOCK": 4, "TILE": 128, "SOFTPLUS": True},
}


def _interpret(*options):
    """Run these tests in Triton's interpreter."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", *options, __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_all_is_right_in_tritons_interpreter():
    _interpret("-k", "on_the_device")


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_all_is_right_in_tritons_interpreter_for_long_sequences():
    _interpret("-m", "slow", "-k", "on_the_device")


@pytest.fixture
def small_tiles(monkeypatch):
    from napari_tokenunify.network.scan import triton_scan

    monkeypatch.setattr(triton_scan, "TILE", 16)
    monkeypatch.setattr(triton_scan, "TILES_AT_ONCE", 2)


def _check(case, dy):
    on_device = {name: x.to(DEVICE) for name, x in case.items()}
    found = with_gradients(selective_scan, on_device, dy.to(DEVICE), delta_softplus=True, backend="triton")
    assert found["y"].dtype == case["u"].dtype
    assert_close(found, truth(case, dy, delta_softplus=True))


@runs
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "states"), [((2, 3, 1), 3), ((1, 5, 16), 1), ((2, 5, 55), 2)])
def test_output_and_gradients_on_the_device_are_those_of_the_plain_loop(shape, states, dtype):
    _check(random_case(shape, states, dtype), random_case(shape, states, dtype, seed=1)["u"])


@runs
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 5, 5), (2, 5, 64), (2, 5, 1000), (2, 5, 4097), (1, 1, 128 * 65)])
def test_long_sequences_on_the_device(shape, dtype):
    _check(random_case(shape, 2, dtype), random_case(shape, 2, dtype, seed=1)["u"])


@runs
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("left_out", [("D", "z"), ("delta_bias",)])
def test_what_is_left_out_does_nothing_on_the_device(left_out):
    case = {name: x for name, x in random_case((1, 2, 35), 2).items() if name not in left_out}
    _check(case, torch.ones(1, 2, 35))


@runs
@pytest.mark.usefixtures("small_tiles")
def test_strides_make_no_difference_on_the_device():
    case = {name: x.mT.contiguous().mT if x.ndim > 1 else x for name, x in random_case((2, 3, 18), 2).items()}
    _check(case, torch.ones(()).expand(2, 3, 18))


@runs
@pytest.mark.usefixtures("small_tiles")
def test_large_and_small_steps_on_the_device():
    case = random_case((1, 4, 40), 2)
    case["delta"] = torch.tensor([-60.0, -12.0, 8.0, 60.0])[:, None].repeat(1, 1, 40)
    _check(case, torch.ones(1, 4, 40))


@runs
def test_float64_on_the_device_is_left_to_others():
    case = {name: x.to(DEVICE) for name, x in random_case((1, 2, 5), 2, torch.float64).items()}
    with pytest.raises(ConfigError, match="it computes in float32 only, and u is float64"):
        selective_scan(**case, backend="triton")


@runs
@pytest.mark.slow
def test_the_parity_error_on_the_device_is_tiny():
    assert 0 < parity_error("triton") < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["mamba_ssm", "triton", "torch", "auto"])
@pytest.mark.parametrize("shape", [(2, 11, 1), (2, 11, 64), (2, 11, 1000), (1, 64, 51_200)])
def test_every_backend_of_the_gpu_agrees_with_the_loop(backend, shape, dtype):
    if backend != "auto" and backends.why_not(backend, torch.device("cuda")):
        pytest.skip(backends.why_not(backend, torch.device("cuda")))
    case, dy = random_case(shape, 16, dtype), random_case(shape, 16, dtype, seed=1)["u"]
    on_device = {name: x.cuda() for name, x in case.items()}
    found = with_gradients(selective_scan, on_device, dy.cuda(), delta_softplus=True, backend=backend)
    assert_close(found, truth({k: x.cuda() for k, x in case.items()}, dy.cuda(), delta_softplus=True))
    assert choose_backend("cuda") != "torch"


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(("optional", "number", "architecture"), [(True, "bf16", 90), (False, "fp32", 80)])
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_compile_for_gpus_that_are_not_here(name, optional, number, architecture):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from napari_tokenunify.network.scan import triton_kernels

    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton has no compiler for CUDA")
    kernel = getattr(triton_kernels, name)
    constants = KERNELS[name] | {"STATES": 16}
    if not optional:
        constants |= dict.fromkeys(("D", "z", "bias", "dD", "dz", "dbias"))
    single = {"A", "D", "bias", "ends", "totals", "states", "after", "dB", "dC", "dD", "dbias"}
    signature = {}
    for parameter in kernel.params:
        if parameter.name in constants:
            signature[parameter.name] = "constexpr"
        elif parameter.name in {"channels", "length", "tiles"}:
            signature[parameter.name] = "i32"
        else:
            signature[parameter.name] = "*fp32" if parameter.name in single else f"*{number}"
    source = ASTSource(
        kernel, signature, {(kernel.arg_names.index(k),): v for k, v in constants.items() if k in signature}
    )
    options = {"num_warps": 1, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    assert compiled.asm["cubin"]
