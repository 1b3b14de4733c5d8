"""What learns, that adapters change nothing at first, and that they leave no trace in names."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_tokenunify.errors import TrainError
from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.train.parts import choose_parts, describe, merge_adapters, network_state

CROP = (1, 1, 4, 16, 16)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(NETWORK_PRESETS["tiny"].replace(widths=(8, 16), depth=1, strides=(1, 2, 2), hidden=16))


def train(network, steps=3):
    """Train on noise, as strongly as it takes to see it; everything that can learn has moved then."""
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        functional.mse_loss(network(torch.rand(CROP)), torch.rand(1, 3, *CROP[2:])).backward()
        optimiser.step()


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def copy(state):
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("parts", "learning"), [("all", ""), ("decoder", ("decoder", "out.")), ("head", "out."), ("adapters", "")]
)
def test_what_is_chosen_learns_and_nothing_else(network, parts, learning):
    before = copy(network.state_dict())
    choose_parts(network, parts)
    train(network)
    moved = changed(before, network_state(network))
    assert moved
    assert all(name.startswith(learning) for name in moved)
    if parts == "adapters":
        frozen = set(before) - moved
        assert all(
            ".A" in name or ".D" in name or before[name].ndim == 1 or before[name].numel() < 200 for name in frozen
        )
        assert {"out.conv.conv.weight", "out.conv.conv.bias", "decoder3.transp_conv.conv.weight"} <= moved
        assert {"vit.stages.0.0.mamba.in_proj.weight", "vit.downsample_layers.0.0.weight"} <= moved
    else:
        assert moved == {name for name in before if name.startswith(learning)}


def test_the_decoder_is_left_with_its_official_names(network):
    names = {name.split(".")[0] for name, _ in network.named_parameters()}
    choose_parts(network, "decoder")
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"decoder1", "decoder2", "decoder3", "out"}
    assert names - learning == {"vit", "encoder1", "encoder2", "encoder3"}


def test_adapters_change_nothing_before_they_learn(network):
    raw = torch.rand(CROP)
    before = network(raw)
    choose_parts(network, "adapters")
    torch.testing.assert_close(network(raw), before, rtol=0, atol=0)


def test_adapters_are_few_numbers(network):
    total = sum(parameter.numel() for parameter in network.parameters())
    choose_parts(network, "adapters", rank=1)
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) < total / 5


def test_merged_adapters_give_the_same_output_under_the_same_names(network):
    names, raw = set(network.state_dict()), torch.rand(CROP)
    choose_parts(network, "adapters")
    train(network)
    trained, running = network_state(network), network(raw)
    assert any("parametrizations" in name for name in network.state_dict())  # still as it was
    merge_adapters(network)
    assert set(network.state_dict()) == set(trained) == names
    assert not changed(trained, network.state_dict())
    torch.testing.assert_close(network(raw), running)


def test_choosing_again_keeps_what_was_learned(network):
    raw = torch.rand(CROP)
    choose_parts(network, "adapters")
    train(network)
    before = network(raw)
    choose_parts(network, "all")
    assert all(parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(network(raw), before)


def test_a_training_with_adapters_goes_on_from_its_own_state(network):
    choose_parts(network, "adapters")
    train(network)
    other = build_network(network.config)
    choose_parts(other, "adapters")
    other.load_state_dict(network.state_dict())
    raw = torch.rand(CROP)
    assert torch.equal(other(raw), network(raw))


def test_parametrisations_of_others_are_left_alone():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    choose_parts(layer, "all")
    assert set(network_state(layer)) == set(layer.state_dict())


def test_a_network_without_such_parts_is_refused_in_one_sentence():
    other = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 1))
    choose_parts(other, "all")
    with pytest.raises(TrainError, match=r"no parts named decoder1 and out.*choose 'all'"):
        choose_parts(other, "decoder")


@pytest.mark.parametrize("parts", ["all", "decoder", "head", "adapters"])
def test_each_choice_is_said_in_a_sentence(parts):
    assert describe(parts).endswith(".")
