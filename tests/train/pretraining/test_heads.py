from __future__ import annotations

import pytest
import torch

from napari_tokenunify.errors import TrainError
from napari_tokenunify.network import NETWORK_PRESETS, build_network
from napari_tokenunify.network.official import HEAD_SHAPES
from napari_tokenunify.train.pretraining.heads import (
    OfficialHead,
    PretrainingNetwork,
    Resampler,
    build_head,
    load_head,
)
from napari_tokenunify.train.pretraining.recipes import load_recipe
from napari_tokenunify.train.pretraining.tokens import TokenGrid

SMALLEST = NETWORK_PRESETS["tiny"].replace(
    widths=(4, 4), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)), offsets=((0, 0, 0),)
)


def test_the_official_head_has_the_official_names_shapes_and_size():
    head = OfficialHead()
    found = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    assert found == {
        "conv1.weight": (12, 1, 3, 3, 3),
        "conv1.bias": (12,),
        "conv2.weight": (12, 12, 3, 3, 3),
        "conv2.bias": (12,),
        "conv3.weight": (1, 12, 3, 3, 3),
        "conv3.bias": (1,),
        "mlp.weight": (1024, 800),
        "mlp.bias": (1024,),
    }
    assert found == HEAD_SHAPES  # what is looked for in files
    assert sum(parameter.numel() for parameter in head.parameters()) == 824_785


def test_the_official_network_with_its_head_has_the_official_number_of_parameters():
    shape = NETWORK_PRESETS["base"].replace(kernel=(1, 3, 3), depth=3, offsets=((0, 0, 0),))
    with torch.device("meta"):
        network = PretrainingNetwork(build_network(shape), OfficialHead())
    assert sum(parameter.numel() for parameter in network.parameters()) == 17_284_306


def test_the_official_head_takes_official_crops_alone_and_says_so():
    head, grid = OfficialHead(), TokenGrid((16, 160, 160))
    nothing, wanted = torch.zeros(2, 4, 1, 1, 1), torch.zeros(2, 1, dtype=torch.int64)
    assert head(nothing, nothing, torch.rand(2, 1, 16, 160, 160), wanted, grid).shape == (2, 1, 4, 16, 16)
    with pytest.raises(TrainError, match=r"16x160x160 voxels alone, not of 8x32x32: .* resampler"):
        head(nothing, nothing, torch.rand(2, 1, 8, 32, 32), wanted, TokenGrid((8, 32, 32)))


def test_weights_of_an_official_file_fit_and_others_leave_the_head_as_it_was():
    torch.manual_seed(0)
    other, head = OfficialHead(), OfficialHead()
    before = head.mlp.bias.clone()
    assert not load_head(head, {"conv1.weight": torch.zeros(1)})
    assert torch.equal(head.mlp.bias, before)
    file = {f"preciever.{name}": tensor for name, tensor in other.state_dict().items()}
    assert load_head(head, {**file, "vit.stages.0.0.norm.weight": torch.zeros(4)})
    assert torch.equal(head.mlp.weight, other.mlp.weight)


@pytest.mark.parametrize("crop", [(2, 32, 32), (8, 32, 32), (5, 23, 40)])
def test_the_resampler_takes_crops_of_any_size(crop):
    network = build_network(SMALLEST)
    head = build_head(load_recipe("paper"), network)
    assert isinstance(head, Resampler)
    both = PretrainingNetwork(network, head)
    grid = TokenGrid(crop)
    logits, tokens = both(torch.rand(2, 1, *crop), torch.tensor([[0, 1, 2], [3, 2, 1]]), grid)
    assert logits.shape == (2, *crop)
    assert tokens.shape == (2, 3, 4, 16, 16)


def test_the_next_token_teaches_encoder_decoder_and_head():
    network = build_network(SMALLEST)
    both = PretrainingNetwork(network, build_head(load_recipe("autoregressive"), network))
    _, tokens = both(torch.rand(1, 1, 8, 32, 32), torch.tensor([[3]]), TokenGrid((8, 32, 32)))
    (tokens.square().sum() + both.nothing()).backward()
    missing = [name for name, parameter in both.named_parameters() if parameter.grad is None]
    assert not missing
    assert float(network.decoder1.layer.conv1.conv.weight.grad.abs().sum()) > 0
    assert float(both.nothing().detach()) == 0


def test_a_fresh_resampler_answers_with_the_decoders_own_output_at_the_token():
    network, grid = build_network(SMALLEST), TokenGrid((5, 23, 40), order="hilbert")
    both = PretrainingNetwork(network, build_head(load_recipe("paper"), network))
    logits, tokens = both(torch.rand(1, 1, 5, 23, 40), torch.tensor([[1, 9]]), grid)
    assert torch.equal(tokens[0, 0], logits[0, :4, :16, 16:32])  # raster numbers, whatever the order
    assert torch.equal(tokens[0, 1, :1, :7], logits[0, 4:, 16:, :16])
    assert not tokens[0, 1, 1:].any()


def test_a_recipe_without_next_tokens_needs_no_head():
    assert build_head(load_recipe("mae"), build_network(SMALLEST)) is None
