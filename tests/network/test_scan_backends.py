from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest
import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network import scan as package
from napari_tokenunify.network.scan import available_backends, backends, choose_backend, parity_error, selective_scan
from tests.network.scan_reference import NAMES, NEEDS_NUMBA, ON_CPU, assert_close, random_case, truth, with_gradients


@pytest.fixture(autouse=True)
def _nothing_broken(monkeypatch):
    monkeypatch.setattr(backends, "_broken", {})


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
    case, dy = random_case((1, 3, 20)), torch.ones(1, 3, 20)
    wanted = truth(case, dy, delta_softplus=True)
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
