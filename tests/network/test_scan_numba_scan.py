from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from napari_tokenunify.network.scan import selective_scan
from tests.network.scan_reference import NEEDS_NUMBA, assert_close, random_case, truth, with_gradients

pytestmark = NEEDS_NUMBA


def test_the_number_of_threads_changes_no_output_and_hardly_a_gradient(monkeypatch):
    from napari_tokenunify.network.scan import numba_scan

    monkeypatch.setattr(numba_scan, "SMALL", 0)
    case, dy = random_case((3, 40, 70), 5), torch.ones(3, 40, 70)
    wanted = truth(case, dy, delta_softplus=True)
    outputs = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        outputs.append(with_gradients(selective_scan, case, dy, delta_softplus=True, backend="numba"))
        assert_close(outputs[-1], wanted)
    torch.testing.assert_close(outputs[0]["y"], outputs[1]["y"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "exact", "lowest", "highest", "units"),
    [
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


@pytest.mark.parametrize(("dtype", "error", "limit"), [(np.float32, 1.8e-7, 126), (np.float64, 2.7e-16, 1022)])
def test_powers_of_two_are_exact_to_the_last_places(dtype, error, limit):
    import numba

    from napari_tokenunify.network.scan.numba_lanes import load, power_of_two, store

    @numba.njit
    def apply(xs, ys):
        for i in range(xs.size // 16):
            store(ys, i, power_of_two(load(xs, i)))

    xs = np.linspace(-limit, limit, 160_000).astype(dtype)
    ys = np.empty_like(xs)
    apply(xs, ys)
    truth_ = np.exp2(xs.astype(np.longdouble))
    assert np.max(np.abs(ys - truth_) / truth_) < error
    apply(np.array([0, 1, np.nan, -1e6, 1e6, *range(11)], dtype), ys)
    np.testing.assert_array_equal(ys[:3], [1, 2, np.nan])
    assert ys[3] == 2.0**-limit
    assert ys[4] == 2.0 ** (limit + 1)


def test_the_larger_of_two_keeps_not_a_number():
    import numba

    from napari_tokenunify.network.scan.numba_lanes import larger, load, store

    @numba.njit
    def apply(xs, others, ys):
        store(ys, 0, larger(load(xs, 0), load(others, 0)))

    xs, others = np.arange(16, dtype=np.float32) - 8, np.zeros(16, np.float32)
    xs[3] = np.nan
    ys = np.empty_like(xs)
    apply(xs, others, ys)
    np.testing.assert_array_equal(ys, np.maximum(xs, others))


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
