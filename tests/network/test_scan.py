from __future__ import annotations

import logging
import subprocess
import sys
from functools import cache, partial
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.special import expit

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network import scan as package
from napari_tokenunify.network.scan import (
    available_backends,
    backends,
    choose_backend,
    parity_error,
    selective_scan,
    torch_scan,
)
from tests.network.scan_reference import NAMES, assert_close, loop, random_case, truth, with_gradients

NEEDS_NUMBA = pytest.mark.skipif(bool(available_backends()["numba"]), reason="Numba does not work here")
ON_CPU = ["torch", pytest.param("numba", marks=NEEDS_NUMBA)]


@pytest.fixture(autouse=True)
def _nothing_broken(monkeypatch):
    monkeypatch.setattr(backends, "_broken", {})


@cache
def _case_and_truth(shape, dtype, states=16):
    case = random_case(shape, states, dtype)
    dy = random_case(shape, states, dtype, seed=1)["u"]
    return case, dy, truth(case, dy, delta_softplus=True)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("length", [1, 5, 64, 1000, 4097])
def test_output_and_gradients_are_those_of_the_plain_loop(backend, dtype, length):
    case, dy, wanted = _case_and_truth((2, 11, length), dtype)
    found = with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend)
    assert found["y"].dtype == dtype
    assert {name: found[name].dtype for name in case} == {name: x.dtype for name, x in case.items()}
    assert_close(found, wanted)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 70)])
@pytest.mark.parametrize("states", [1, 5])
def test_any_number_of_channels_and_states_will_do(backend, shape, states):
    case, dy, wanted = _case_and_truth(shape, torch.float32, states)
    assert_close(with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend), wanted)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("left_out", [("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")])
def test_what_is_left_out_does_nothing(backend, left_out):
    case = {name: x for name, x in random_case((2, 3, 100)).items() if name not in left_out}
    case["delta"] = case["delta"].abs()
    dy = torch.ones(2, 3, 100)
    assert_close(with_gradients(selective_scan, case, dy, backend=backend), truth(case, dy))


@pytest.mark.parametrize("backend", ON_CPU)
def test_strides_make_no_difference(backend):
    case, dy, wanted = _case_and_truth((2, 11, 1000), torch.float32)
    both = torch.cat([case["B"], case["C"]], dim=1)
    strided = case | dict(zip("BC", both.split(16, dim=1), strict=True))
    strided["u"] = case["u"].mT.contiguous().mT
    strided["z"] = torch.stack([case["z"], case["z"]], dim=-1)[..., 1]
    strided["A"] = case["A"].T.contiguous().T
    found = with_gradients(selective_scan, strided, dy.mT.contiguous().mT, delta_softplus=True, backend=backend)
    assert_close(found, wanted)


@pytest.mark.parametrize("backend", ON_CPU)
def test_arguments_that_are_expanded_may_be_given(backend):
    case = random_case((2, 3, 70))
    case["z"] = case["z"][:1, :1].expand(2, 3, 70)
    dy = torch.ones(()).expand(2, 3, 70)
    found = with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend)
    assert_close(found, truth(case, dy, delta_softplus=True))


@pytest.mark.parametrize("backend", ON_CPU)
def test_float64_stays_float64(backend):
    case, dy, wanted = _case_and_truth((2, 5, 300), torch.float64)
    found = with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend)
    assert_close(found, wanted, forward=1e-13, backward=1e-13)


def test_the_torch_backend_has_the_derivatives_of_what_it_computes(monkeypatch):
    monkeypatch.setattr(torch_scan, "CHUNK", 6)
    monkeypatch.setattr(torch_scan, "RUN", 2)
    case = random_case((2, 2, 13), states=2, dtype=torch.float64)
    leaves = [case[name].requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(partial(selective_scan, delta_softplus=True, backend="torch"), leaves)


@pytest.mark.parametrize("backend", ON_CPU)
def test_steps_so_large_that_all_is_forgotten_and_so_small_that_nothing_is(backend):
    case = random_case((1, 4, 600))
    case["delta"] = torch.tensor([-60.0, -12.0, 8.0, 60.0])[:, None].expand(1, 4, 600)
    dy = torch.ones(1, 4, 600)
    assert_close(
        with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend),
        truth(case, dy, delta_softplus=True),
    )


@pytest.mark.parametrize("backend", ON_CPU)
def test_what_is_not_a_number_stays_visible(backend):
    case = random_case((1, 2, 40))
    case["delta"][0, 1, 20] = torch.nan
    missing = torch.isnan(selective_scan(**case, delta_softplus=True, backend=backend))
    assert missing[0, 1, 20:].all()
    assert missing.sum() == 20


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("wanted", ["u", "A", "delta_bias"])
def test_any_one_argument_may_be_all_that_is_trained(backend, wanted):
    case, dy, everything = _case_and_truth((2, 11, 64), torch.float32)
    leaf = case[wanted].clone().requires_grad_()
    selective_scan(**case | {wanted: leaf}, delta_softplus=True, backend=backend).backward(dy)
    assert_close({wanted: leaf.grad}, everything)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_output_is_the_same_and_nothing_is_kept(backend, mode):
    case, _, everything = _case_and_truth((2, 11, 1000), torch.float32)
    with mode():
        y = selective_scan(
            **{k: x.clone().requires_grad_() for k, x in case.items()}, delta_softplus=True, backend=backend
        )
    assert y.grad_fn is None
    assert_close({"y": y}, everything)


@pytest.mark.parametrize("backend", ON_CPU)
def test_autocast_changes_nothing(backend):
    case, dy, wanted = _case_and_truth((2, 11, 64), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(selective_scan, case, dy, delta_softplus=True, backend=backend)
    assert found["A"].dtype == torch.float32
    assert_close(found, wanted)


@pytest.mark.parametrize("backend", ON_CPU)
def test_mamba_ssms_group_axis_is_taken_out(backend):
    case, dy, wanted = _case_and_truth((2, 11, 64), torch.float32)
    grouped = case | {name: case[name][:, None] for name in "BC"}
    found = with_gradients(selective_scan, grouped, dy, delta_softplus=True, backend=backend)
    assert_close({name: x.reshape(wanted[name].shape) for name, x in found.items()}, wanted)


@NEEDS_NUMBA
def test_the_number_of_threads_changes_no_output_and_hardly_a_gradient(monkeypatch):
    from napari_tokenunify.network.scan import numba_scan

    monkeypatch.setattr(numba_scan, "SMALL", 0)
    case, dy, wanted = _case_and_truth((3, 40, 70), torch.float32, 5)
    outputs = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        outputs.append(with_gradients(selective_scan, case, dy, delta_softplus=True, backend="numba"))
        assert_close(outputs[-1], wanted)
    torch.testing.assert_close(outputs[0]["y"], outputs[1]["y"], rtol=0, atol=0)


@NEEDS_NUMBA
@pytest.mark.parametrize(
    ("name", "exact", "lowest", "highest", "units"),
    [
        ("exponential", np.exp, -87, 88, 1.1),
        ("softplus", lambda x: np.logaddexp(0, x), -87, 88, 3),
        ("sigmoid", expit, -87, 88, 3),
    ],
)
def test_the_vector_functions_are_exact_to_the_last_places(name, exact, lowest, highest, units):
    import numba

    from napari_tokenunify.network.scan import numba_functions

    function = getattr(numba_functions, name)

    @numba.njit
    def apply(xs, ys):
        for i in range(xs.size):
            ys[i] = function(xs[i])

    xs = np.linspace(lowest, highest, 400_001).astype(np.float32)
    ys = np.empty_like(xs)
    apply(xs, ys)
    truth_ = exact(xs.astype(np.float64))
    assert np.max(np.abs(ys - truth_) / np.spacing(truth_.astype(np.float32))) < units
    apply(np.full_like(xs, np.nan), ys)
    assert np.isnan(ys).all()
    apply(np.array([-np.inf, -1000, 0], np.float32), ys)
    np.testing.assert_allclose(ys[:3], exact(np.array([-1000.0, -1000.0, 0.0])), atol=1e-37, rtol=1e-6)


@NEEDS_NUMBA
def test_kernels_compile_where_nothing_can_be_written(monkeypatch):
    import numba

    from napari_tokenunify.network.scan import numba_scan

    asked = []

    def njit(*args, cache=False, **kwargs):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'forward': no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert numba_scan._compiled.__wrapped__("forward", torch.float32) is not None
    assert asked == [True, False]


def test_shapes_are_known_without_computing():
    case = {name: x.to("meta") for name, x in random_case((2, 3, 1000)).items()}
    found = with_gradients(selective_scan, case, torch.empty(2, 3, 1000, device="meta"), delta_softplus=True)
    assert {name: found[name].shape for name in case} == {name: x.shape for name, x in case.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"B": torch.zeros(2, 3, 64)}, r"B has the shape \(2, 3, 64\), but \(2, 16, 64\) is wanted"),
        ({"z": torch.zeros(2, 11, 63)}, r"z has the shape \(2, 11, 63\), but \(2, 11, 64\) is wanted"),
        ({"D": torch.zeros(12)}, r"D has the shape \(12,\), but \(11,\) is wanted"),
        ({"u": torch.zeros(11, 64)}, r"u must be \(batch, channels, length\)"),
        ({"u": torch.zeros(2, 11, 0)}, "none of them empty"),
        ({"A": torch.zeros(11, 16, dtype=torch.complex64)}, "A is torch.complex64, but real floating point"),
        ({"C": torch.zeros(2, 16, 64, device="meta")}, "C is on meta, but u is on cpu"),
        ({"backend": "cuda"}, 'no backend "cuda"; take "auto" or one of mamba_ssm, triton, numba, torch'),
        ({"backend": "mamba_ssm"}, '"mamba_ssm" cannot be used: it is for CUDA GPUs, and u is on cpu'),
    ],
)
def test_what_cannot_be_computed_is_said_in_one_sentence(change, words):
    with pytest.raises(ConfigError, match=words):
        selective_scan(**random_case() | change)


def test_every_device_has_its_backend():
    assert choose_backend("mps") == "torch"
    assert choose_backend("cuda:0", torch.float64) == "torch"
    assert choose_backend("cpu") == ("torch" if available_backends()["numba"] else "numba")
    assert available_backends()["torch"] == ""
    assert set(available_backends()) == set(package.BACKENDS)


@pytest.mark.parametrize("backend", ON_CPU)
def test_the_parity_error_of_a_backend_that_works_is_tiny(backend):
    assert 0 < parity_error(backend) < 1e-5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_there_is_no_parity_error_of_what_cannot_be_used():
    with pytest.raises(ConfigError, match=r"mamba_ssm.* cannot be used: PyTorch finds no CUDA GPU"):
        parity_error("mamba_ssm")


class _FailingKernels:
    """The numba backend, but one of its passes does not work."""

    def __init__(self, broken):
        self.broken = broken

    def __getattr__(self, name):
        if name == self.broken:
            raise OSError("no such instruction\nand more")
        return getattr(backends.import_module("napari_tokenunify.network.scan.numba_scan"), name)


@NEEDS_NUMBA
@pytest.mark.parametrize("broken", ["forward", "backward"])
def test_a_pass_that_fails_is_reported_once_and_done_by_torch(monkeypatch, caplog, broken):
    monkeypatch.setattr(backends, "_module", lambda name: _FailingKernels(broken))
    case, dy, wanted = _case_and_truth((2, 11, 64), torch.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_close(with_gradients(selective_scan, case, dy, delta_softplus=True), wanted)
    assert [record.getMessage() for record in caplog.records] == [
        "The numba backend of the selective scan failed and is not used any more: OSError: no such instruction"
    ]
    assert choose_backend("cpu") == "torch"
    with pytest.raises(ConfigError, match=r"it failed .*no such instruction"):
        selective_scan(**case, backend="numba")


@NEEDS_NUMBA
def test_too_little_memory_is_no_reason_to_try_the_next_backend(monkeypatch):
    class Full:
        def forward(self, *_, **__):
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(backends, "_module", lambda name: Full())
    with pytest.raises(torch.OutOfMemoryError):
        selective_scan(**random_case())
    assert choose_backend("cpu") == "numba"


@pytest.mark.parametrize(
    ("error", "reason", "reports"),
    [
        (ModuleNotFoundError("No module named 'numba'", name="numba"), "numba is not installed", 0),
        (ImportError("numba needs another numpy"), "it failed (ImportError: numba needs another numpy)", 1),
    ],
)
def test_a_backend_that_does_not_import_is_passed_over(monkeypatch, caplog, error, reason, reports):
    def refuse(name):
        raise error

    monkeypatch.setattr(backends, "_module", refuse)
    backends._try_import.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert available_backends()["numba"] == reason
            assert choose_backend("cpu") == "torch"
    finally:
        backends._try_import.cache_clear()
    assert len(caplog.records) == reports


def test_mamba_ssm_is_given_the_types_its_kernels_take(monkeypatch):
    given = {}

    def selective_scan_fn(*tensors):
        given.update(zip((*NAMES, "delta_softplus"), tensors, strict=True))
        return tensors[0]

    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name, module in [("mamba_ssm", ModuleType("mamba_ssm")), ("mamba_ssm.ops", ModuleType("mamba_ssm.ops"))]:
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    from napari_tokenunify.network.scan import mamba_ssm_scan
    from napari_tokenunify.network.scan.arguments import ScanArguments

    monkeypatch.delitem(sys.modules, mamba_ssm_scan.__name__)
    case = random_case(dtype=torch.float32) | {"u": torch.zeros(2, 11, 64, dtype=torch.bfloat16)}
    case["A"] = case["A"].double()
    mamba_ssm_scan.scan(ScanArguments(**case, delta_softplus=True))
    assert {given[name].dtype for name in ("u", "delta", "B", "C", "z")} == {torch.bfloat16}
    assert {given[name].dtype for name in ("A", "D", "delta_bias")} == {torch.float32}


def test_the_network_package_loads_no_torch_by_itself():
    code = "import sys, napari_tokenunify.network; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_loop_of_these_tests_is_right_about_one_step():
    case = random_case((1, 1, 1), states=1)
    step, h = case["delta"], case["delta"] * case["u"] * case["B"]
    assert step.shape == (1, 1, 1)
    torch.testing.assert_close(loop(**{n: case[n] for n in NAMES[:5]}), h * case["C"])
