"""The moving average against its formula, and that a network gets its own weights back."""

from __future__ import annotations

import pytest
import torch

from napari_tokenunify.errors import TrainError
from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.train.ema import MovingAverage
from napari_tokenunify.train.parts import choose_parts, network_state


def move(network, step):
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


def test_the_average_is_that_of_the_formula(network):
    average = MovingAverage(network, decay=0.4)
    wanted = network[0].weight.detach().double()
    for step in range(1, 9):
        move(network, step)
        average.update(network)
        decay = min(0.4, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * network[0].weight.detach().double()
    average.copy_to(network)
    torch.testing.assert_close(network[0].weight.double(), wanted, rtol=1e-6, atol=1e-6)


def test_the_average_is_fp32_where_the_network_is_not(network):
    network.to(torch.bfloat16)
    average = MovingAverage(network)
    for step in range(50):
        move(network, step)
        average.update(network)
    assert {tensor.dtype for name, tensor in average.state().items() if name != "updates"} == {torch.float32}
    average.copy_to(network)
    assert network[0].weight.dtype == torch.bfloat16


def test_the_weights_come_back_after_a_swap_on_an_error_too(network):
    average = MovingAverage(network)
    move(network, 1)
    network(torch.rand(5, 3))  # moves the norm's buffers
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def validate():
        with average.swapped(network):
            assert not torch.equal(network[0].weight, before["0.weight"])
            raise RuntimeError("validation failed")

    with pytest.raises(RuntimeError, match="validation failed"):
        validate()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_run_goes_on_from_its_state_exactly(network):
    average = MovingAverage(network)
    for step in range(4):
        move(network, step)
        average.update(network)
    other = MovingAverage(network)
    other.load({name: tensor.clone() for name, tensor in average.state().items()})
    for one in (average, other):
        one.update(network)
    ours, theirs = average.state(), other.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_what_learns_is_kept_and_adapters_are(network):
    tiny = build_network(NETWORK_PRESETS["tiny"].replace(widths=(8, 16), depth=1, strides=(1, 2, 2), hidden=16))
    choose_parts(tiny, "adapters")
    average = MovingAverage(tiny)
    assert sum(tensor.numel() for tensor in average.state().values()) - 1 == sum(
        parameter.numel() for parameter in tiny.parameters() if parameter.requires_grad
    )
    before = {name: tensor.clone() for name, tensor in network_state(tiny).items()}
    move(tiny, 1)
    with average.swapped(tiny):
        assert all(torch.equal(before[name], tensor) for name, tensor in network_state(tiny).items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in network_state(tiny).items())


def test_the_state_of_another_network_is_refused(network):
    average = MovingAverage(network)
    network[2].requires_grad_(requires_grad=False)
    with pytest.raises(TrainError, match="do not fit this network"):
        average.load(MovingAverage(network).state())
