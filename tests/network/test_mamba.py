import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_tokenunify.network import mamba
from napari_tokenunify.network.mamba import MambaLayer, TriMamba, causal_conv, deinterleave, interleave
from tests.network.scan_reference import NEEDS_NUMBA

UPSTREAM_KEYS = {  # of state-spaces/mamba 1.0.1
    "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias",
    "A_log", "D", "out_proj.weight",
}  # fmt: skip


def seeded(make, seed=0):
    torch.manual_seed(seed)
    module = make()
    for parameter in module.parameters():  # away from the first values: time steps that matter, D that is not one
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module


def silu(x):
    return x / (1 + np.exp(-x))


def scanned(weights, x, z, name):
    """One branch of the reference, token by token: x and z are (inner, L)."""
    w, bias = weights[f"conv1d{name}.weight"][:, 0], weights[f"conv1d{name}.bias"]
    rank = weights[f"dt_proj{name}.weight"].shape[1]
    rates, skip = -np.exp(weights[f"A{name}_log"]), weights[f"D{name}"]
    h, y = np.zeros_like(rates), np.zeros_like(x)
    for t in range(x.shape[1]):
        taps = [w[:, 3 - back] * x[:, t - back] for back in range(4) if t >= back]
        c = silu(sum(taps) + bias)
        mixed = weights[f"x_proj{name}.weight"] @ c
        step = np.log1p(np.exp(weights[f"dt_proj{name}.weight"] @ mixed[:rank] + weights[f"dt_proj{name}.bias"]))
        h = np.exp(step[:, None] * rates) * h + (step * c)[:, None] * mixed[None, rank : rank + 16]
        y[:, t] = h @ mixed[rank + 16 :] + skip * c
    return y * silu(z)


def expected(module, tokens, runs, branches=("", "_b", "_s")):
    """The block as the reference page has it, in fp64, with the gate inside each branch."""
    weights = {key: value.detach().double().numpy() for key, value in module.state_dict().items()}
    result = []
    for sample in tokens.double().numpy():
        xz = weights["in_proj.weight"] @ sample.T
        length = xz.shape[1]
        cuts = np.array_split(np.arange(length), runs)  # the first ones longer
        woven = [cut[j] for j in range(len(cuts[0])) for cut in cuts if j < len(cut)]
        orders = {"": np.arange(length), "_b": np.arange(length)[::-1], "_s": np.array(woven)}
        y = 0
        for name in branches:
            order = orders[name]
            x, z = np.split(xz[:, order], 2)
            y += scanned(weights, x, z, name)[:, np.argsort(order)]
        result.append((weights["out_proj.weight"] @ y).T)
    return torch.from_numpy(np.array(result))


def test_ten_tokens_in_five_runs_come_in_the_official_order():
    assert interleave(torch.arange(10), 5).tolist() == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_a_length_that_runs_do_not_divide_makes_the_first_runs_longer():
    assert interleave(torch.arange(8), 5).tolist() == [0, 2, 4, 6, 7, 1, 3, 5]
    assert interleave(torch.arange(3), 5).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("length", "runs"), [(51200, 5), (51203, 5), (1, 5), (4, 5), (12, 4), (13, 4), (7, 1)])
def test_deinterleave_undoes_interleave(length, runs):
    x = torch.arange(2 * length).view(2, length)
    assert torch.equal(deinterleave(interleave(x, runs), runs), x)


@pytest.mark.parametrize("length", [1, 3, 4, 9])
def test_the_causal_convolution_sees_this_token_and_three_before(length):
    x, weight, bias = torch.randn(2, 3, length), torch.randn(3, 4), torch.randn(3)
    plain = torch.nn.functional.conv1d(x, weight[:, None], bias, padding=3, groups=3)[..., :length]
    torch.testing.assert_close(causal_conv(x, weight, bias), torch.nn.functional.silu(plain))


def test_causal_conv1d_is_used_only_where_it_works(monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("no kernel image is available")

    for conv, warnings in ((None, 0), (broken, 1), (causal_conv1d_fn, 1)):
        monkeypatch.setitem(sys.modules, "causal_conv1d", conv and SimpleNamespace(causal_conv1d_fn=conv))
        mamba._fused_conv.cache_clear()
        found = [mamba._fused_conv(torch.device("cpu")) for _ in range(2)]
        assert found == [conv if conv is causal_conv1d_fn else None] * 2
        assert len(caplog.records) == warnings
    mamba._fused_conv.cache_clear()


def causal_conv1d_fn(x, weight, bias, activation):
    assert activation == "silu"
    return causal_conv(x, weight, torch.zeros(len(weight)) if bias is None else bias)


@pytest.mark.parametrize(("length", "runs"), [(40, 5), (37, 5), (24, 4), (1, 5)])
def test_the_block_equals_the_equations_token_by_token(length, runs):
    block = seeded(lambda: TriMamba(20))  # rank 2
    tokens = torch.randn(2, length, 20)
    wanted = expected(block, tokens, runs)
    torch.testing.assert_close(block(tokens, runs).double(), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
    exact = block.double()(tokens.double(), runs)
    torch.testing.assert_close(exact, wanted, rtol=1e-9, atol=1e-9)


@NEEDS_NUMBA
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("length", "runs"), [(40, 5), (133, 5), (130, 4), (3, 5), (1, 5)])
def test_without_gradients_it_is_computed_in_rows_with_the_same_result(monkeypatch, threads, length, runs):
    from napari_tokenunify.network.scan import numba_scan, numba_tokens

    calls = []
    monkeypatch.setattr(numba_scan, "SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(
        numba_tokens, "scan", lambda *args, scan=numba_tokens.scan, **how: calls.append(scan(*args, **how))
    )
    block = seeded(lambda: TriMamba(24))  # rank 2, three blocks of channels
    tokens = torch.randn(2, length, 24)
    wanted = expected(block, tokens, runs)
    with torch.inference_mode():
        found = block(tokens, runs)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
    assert len(calls) == 3


@NEEDS_NUMBA
@pytest.mark.parametrize(
    ("width", "backend", "dtype"),
    [(20, "auto", torch.float32), (24, "torch", torch.float32), (24, "auto", torch.float64)],
)
def test_rows_are_left_where_they_do_not_fit(monkeypatch, width, backend, dtype):
    from napari_tokenunify.network.scan import numba_tokens

    monkeypatch.delattr(numba_tokens, "scan")
    block, tokens = seeded(lambda: TriMamba(width, backend)).to(dtype), torch.randn(1, 12, width, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens, 5).double(), expected(block, tokens, 5), rtol=1e-4, atol=1e-5)


@NEEDS_NUMBA
def test_rows_that_fail_are_reported_once_and_done_in_another_way(monkeypatch, caplog):
    from napari_tokenunify.network.scan import backends, numba_tokens

    def broken(*_, **__):
        raise OSError("no such instruction")

    monkeypatch.setattr(backends, "_broken", {})
    monkeypatch.setattr(numba_tokens, "convolve", broken)
    block, tokens = seeded(lambda: TriMamba(24)), torch.randn(1, 12, 24)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(block(tokens, 5).double(), expected(block, tokens, 5), rtol=1e-4, atol=1e-5)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The numba backend of the selective scan failed and is not used any more: OSError: no such instruction"
    ]


def test_the_gradients_are_those_of_the_block():
    block = seeded(lambda: TriMamba(2, "torch")).double()
    tokens = torch.randn(1, 7, 2, dtype=torch.float64, requires_grad=True)
    parameters = [parameter.detach().requires_grad_() for parameter in block.parameters()]
    names = list(dict(block.named_parameters()))

    def run(tokens, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (tokens, 3))

    assert torch.autograd.gradcheck(run, (tokens, *parameters), fast_mode=True)


def test_without_the_other_branches_it_is_the_mamba_of_its_authors():
    block = seeded(lambda: TriMamba(16))
    assert set(block.state_dict()) > UPSTREAM_KEYS
    with torch.no_grad():
        for name in ("conv1d_b", "conv1d_s"):
            getattr(block, name).weight.zero_()
            getattr(block, name).bias.zero_()
    tokens = torch.randn(1, 30, 16)
    wanted = expected(block, tokens, 5, branches=("",))
    torch.testing.assert_close(block(tokens, 5).double(), wanted, rtol=1e-4, atol=1e-5)


def test_the_weights_start_as_the_authors_start_them():
    torch.manual_seed(0)
    block = TriMamba(40)  # rank 3
    for name in ("", "_b", "_s"):
        rates = block.get_parameter(f"A{name}_log").exp()
        torch.testing.assert_close(rates, torch.arange(1.0, 17).expand(80, 16))
        assert torch.equal(block.get_parameter(f"D{name}"), torch.ones(80))
        assert getattr(block, f"dt_proj{name}").weight.abs().max() <= 3**-0.5
    steps = torch.nn.functional.softplus(block.dt_proj.bias)
    assert 0.00099 < steps.min() < 0.01 < steps.max() < 0.101
    assert torch.nn.functional.softplus(block.dt_proj_b.bias).min() > 0.2  # plain: only the first branch is spread


def test_the_official_layer_has_no_residual_and_ours_may():
    for residual in (False, True):
        layer = seeded(lambda residual=residual: MambaLayer(8, residual=residual, slices=5))
        layer.mamba.out_proj.weight.data.zero_()
        x = torch.randn(1, 8, 2, 3, 4)
        assert torch.equal(layer(x), x if residual else torch.zeros_like(x))


def test_slices_z_weaves_the_sections():
    x = torch.randn(1, 8, 3, 2, 5)
    by_z = seeded(lambda: MambaLayer(8, residual=False, slices="z"))(x)
    assert torch.equal(by_z, seeded(lambda: MambaLayer(8, residual=False, slices=3))(x))
    assert not torch.allclose(by_z, seeded(lambda: MambaLayer(8, residual=False, slices=5))(x))


def test_the_layer_walks_in_raster_order_after_a_norm():
    layer = seeded(lambda: MambaLayer(8, residual=False, slices=5))
    x = torch.randn(1, 8, 2, 3, 4)
    tokens = x.movedim(1, -1).reshape(1, 24, 8)
    normed = torch.nn.functional.layer_norm(tokens, (8,), layer.norm.weight, layer.norm.bias, 1e-5)
    wanted = expected(layer.mamba, normed.detach(), 5).view(1, 2, 3, 4, 8).movedim(-1, 1)
    torch.testing.assert_close(layer(x).double(), wanted, rtol=1e-4, atol=1e-5)
