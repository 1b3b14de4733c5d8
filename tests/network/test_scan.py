from __future__ import annotations

import subprocess
import sys
from functools import cache, partial

import pytest
import torch

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.scan import (
    selective_scan,
    torch_scan,
)
from tests.network.scan_reference import NAMES, ON_CPU, assert_close, loop, random_case, truth, with_gradients


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
def test_less_is_kept_for_the_backward_pass_than_the_states_of_all_tokens(backend):
    case = {name: x.requires_grad_() for name, x in random_case((1, 32, 2048)).items()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = selective_scan(**case, delta_softplus=True, backend=backend)
    assert sum(kept.values()) < 1.2 * sum(x.nbytes for x in (*case.values(), y))


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


def test_the_network_package_loads_no_torch_by_itself():
    code = "import sys, napari_tokenunify.network; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_loop_of_these_tests_is_right_about_one_step():
    case = random_case((1, 1, 1), states=1)
    step, h = case["delta"], case["delta"] * case["u"] * case["B"]
    assert step.shape == (1, 1, 1)
    torch.testing.assert_close(loop(**{n: case[n] for n in NAMES[:5]}), h * case["C"])
