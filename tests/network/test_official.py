from __future__ import annotations

import argparse
import os

import pytest
import torch
from safetensors.torch import save_file

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.card import ModelCard
from napari_tokenunify.network.official import export_pth, infer_config, load_weights, read_official
from napari_tokenunify.network.presets import NETWORK_PRESETS, NetworkConfig
from napari_tokenunify.network.tokenunify import build_network

CONFIG = NetworkConfig(widths=(2, 3, 4, 5), hidden=6, depth=1)
HEAD = {
    "preciever.conv1.weight": torch.full((12, 1, 3, 3, 3), 0.5),
    "preciever.conv1.bias": torch.ones(12),
    "preciever.conv2.weight": torch.ones(12, 12, 3, 3, 3),
    "preciever.conv2.bias": torch.ones(12),
    "preciever.conv3.weight": torch.ones(1, 12, 3, 3, 3),
    "preciever.conv3.bias": torch.ones(1),
    "preciever.mlp.weight": torch.full((1024, 800), 0.25),
    "preciever.mlp.bias": torch.ones(1024),
}
GREY = CONFIG.replace(offsets=((0, 0, 0),))
COUNTS = {"total_ops": torch.zeros(1), "vit.stages.0.total_params": torch.zeros(1)}


def network(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return build_network(config)


def weights(config=CONFIG):
    return dict(network(config).state_dict())


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def training_file(tensors):
    state = {i: {"step": 1, "exp_avg": torch.ones_like(tensor)} for i, tensor in enumerate(tensors.values())}
    args = argparse.Namespace(lr=1e-4, output_dir="runs")
    return {"model": tensors, "optimizer": {"state": state}, "epoch": 3, "scaler": {}, "args": args}


SHAPES = {
    "bare": weights,
    "training": lambda: training_file(weights()),
    "model_weights": lambda: {"current_iter": 7, "valid_result": 0.5, "model_weights": prefixed("module.", weights())},
    "compiled": lambda: {"state_dict": prefixed("_orig_mod.module.", weights())},
    "counted": lambda: {"model": weights() | COUNTS},
    "half": lambda: {"model": {name: tensor.half() for name, tensor in weights().items()}},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_official_shape_of_file_is_read(tmp_path, shape, zipped):
    path = tmp_path / "checkpoint-3.pth"
    torch.save(SHAPES[shape](), path, _use_new_zipfile_serialization=zipped)
    module, report = read_official(path)
    assert module.config == CONFIG
    assert (report.missing, report.mismatched) == ((), ())
    assert set(report.matched) == set(weights())
    for name, tensor in weights().items():
        saved = tensor.half().float() if shape == "half" else tensor
        torch.testing.assert_close(module.state_dict()[name], saved, rtol=0, atol=0)
    assert set(report.skipped) == (set(COUNTS) if shape == "counted" else set())
    assert not report.head


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_head_of_an_official_pre_training_is_read_beside_the_network(tmp_path, prefix):
    torch.save(training_file(prefixed(prefix, weights(GREY) | HEAD)), tmp_path / "checkpoint-400.pth")
    module, report = read_official(tmp_path / "checkpoint-400.pth")
    assert module.config == GREY
    assert set(report.matched) == {*weights(GREY), *HEAD}
    assert (report.missing, report.mismatched, report.skipped) == ((), (), ())
    for name, tensor in report.head.items():
        torch.testing.assert_close(tensor, HEAD[f"preciever.{name}"], rtol=0, atol=0)
    assert str(report).splitlines() == [
        f"{report.wanted} of {len(weights(GREY)) + 8} tensors loaded from {tmp_path / 'checkpoint-400.pth'}",
        "  8 of them are the head for next tokens",
    ]


def test_a_head_that_is_not_whole_is_left_out_and_told_of(tmp_path):
    head = HEAD | {"preciever.mlp.weight": torch.ones(1024, 1200), "preciever.conv4.bias": torch.ones(1)}
    del head["preciever.conv3.bias"]
    torch.save({"model": weights(GREY) | head}, tmp_path / "a.pth")
    _, report = read_official(tmp_path / "a.pth")
    assert report.head == {}
    assert set(report.matched) == set(weights(GREY))
    assert report.missing == ("preciever.conv3.bias",)
    assert report.mismatched == ("preciever.mlp.weight 1024x1200 for 1024x800",)
    assert set(report.skipped) == head.keys() - {"preciever.mlp.weight"}
    torch.save(weights(GREY) | HEAD | {"preciever.mlp.bias": torch.full((1024,), torch.nan)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match="not finite"):
        read_official(tmp_path / "b.pth")


def test_a_file_with_a_head_and_no_last_layer_is_a_pre_training(tmp_path):
    given = {name: tensor for name, tensor in weights(GREY).items() if not name.startswith("out.")}
    torch.save(given | HEAD, tmp_path / "a.pth")
    module, report = read_official(tmp_path / "a.pth")
    assert module.config == GREY
    assert report.missing == ("out.conv.conv.weight", "out.conv.conv.bias")


def test_the_report_says_what_was_loaded_and_what_was_not(tmp_path):
    given = weights() | COUNTS
    del given["out.conv.conv.bias"]
    given["vit.mlps.0.fc1.bias"] = torch.zeros(7)
    torch.save(given, tmp_path / "a.pth")
    _, report = read_official(tmp_path / "a.pth")
    wanted = len(weights())
    assert str(report).splitlines() == [
        f"{wanted - 2} of {wanted} tensors loaded from {tmp_path / 'a.pth'}",
        "  1 in another shape: vit.mlps.0.fc1.bias 7 for 4",
        "  1 not in the file: out.conv.conv.bias",
        "  2 in the file only: total_ops, vit.stages.0.total_params",
    ]


@pytest.mark.parametrize("name", ["base", "100M", "200M", "500M", "1B"])
def test_every_official_size_is_recognised_by_its_shapes(tmp_path, name):
    with torch.device("meta"):
        tensors = build_network(NETWORK_PRESETS[name]).state_dict()
    assert infer_config(tmp_path, tensors) == NETWORK_PRESETS[name]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.replace(kernel=(1, 3, 3)),
        CONFIG.replace(depth=(1, 2, 1, 3)),
        CONFIG.replace(offsets=((0, 0, 0),)),
        CONFIG.replace(strides=((1, 2, 2), (2, 2, 2), (1, 2, 2), (2, 2, 2))),
        NetworkConfig(widths=(2, 3, 4, 5, 6), hidden=7, depth=1, kernel=(1, 3, 3)),
    ],
    ids=["kernel", "depth", "one output", "strides", "five stages"],
)
def test_what_differs_from_the_default_is_inferred(tmp_path, config):
    assert infer_config(tmp_path, weights(config)) == config


def test_outputs_of_unknown_meaning_ask_for_offsets(tmp_path):
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -9, 0))
    torch.save(weights(CONFIG.replace(offsets=offsets)), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="4 outputs"):
        read_official(tmp_path / "a.pth")
    module, report = read_official(tmp_path / "a.pth", offsets=offsets)
    assert module.config.offsets == offsets
    assert not report.mismatched


def test_too_little_is_an_error_unless_asked_for(tmp_path):
    encoder = {name: tensor for name, tensor in weights().items() if name.startswith("vit.")}
    torch.save({"model": encoder}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=rf"only {len(encoder)} of the network's {len(weights())} tensors"):
        read_official(tmp_path / "a.pth")
    module, report = read_official(tmp_path / "a.pth", allow_partial=True)
    assert set(report.matched) == set(encoder)
    torch.testing.assert_close(module.state_dict()["vit.mlps.0.fc1.bias"], encoder["vit.mlps.0.fc1.bias"])


def test_weights_of_another_head_go_into_a_network_that_is_given():
    module = network(CONFIG, seed=1)
    report = load_weights(module, weights(CONFIG.replace(offsets=((0, 0, 0),))), source="pre-trained")
    assert report.mismatched == ("out.conv.conv.weight 1x2x1x1x1 for 3x2x1x1x1", "out.conv.conv.bias 1 for 3")
    torch.testing.assert_close(
        module.state_dict()["decoder1.layer.conv1.conv.weight"], weights()["decoder1.layer.conv1.conv.weight"]
    )


def test_weights_with_nan_are_said_in_one_sentence_and_change_nothing(tmp_path):
    given = weights() | {"out.conv.conv.bias": torch.full((3,), float("nan"))}
    torch.save(given, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="not finite"):
        read_official(tmp_path / "a.pth")
    module = network(seed=1)
    with pytest.raises(ModelError, match="not finite"):
        load_weights(module, given, source="here")
    assert not torch.equal(module.out.conv.conv.weight, given["out.conv.conv.weight"])


def test_a_network_that_shapes_do_not_fit_is_said_in_one_sentence(tmp_path):
    wrong = weights() | {"vit.downsample_layers.1.1.weight": torch.zeros(9, 2, 1, 2, 2)}
    torch.save(wrong, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"have another shape, e\.g\. "):
        read_official(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"layer.weight": torch.ones(2)}, "is not a TokenUnify network: .* but layer.weight"),
        ({"epoch": 3}, "holds no tensors by name"),
        ([torch.ones(2)], "holds no tensors by name"),
        (torch.nn.Linear(1, 1), "holds no tensors by name"),
        ({"vit.downsample_layers.0.0.weight": torch.ones(0, 1)}, "shapes that no TokenUnify network has"),
        ({"vit.downsample_layers.0.0.weight": torch.ones(2, 1)}, "shapes that no TokenUnify network has"),
        (
            weights() | {"encoder1.layer.conv1.conv.weight": torch.ones(2, 1, 2)},
            "shapes that no TokenUnify network has",
        ),
        (weights() | {"out.conv.conv.bias": torch.ones(3, 3)}, "shapes that no TokenUnify network has"),
    ],
)
def test_other_contents_are_said_in_one_sentence(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=said):
        read_official(tmp_path / "a.pth")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_file_that_wants_to_run_code_is_refused_and_runs_nothing(tmp_path):
    torch.save(training_file(weights()) | {"args": Evil(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="wants to run"):
        read_official(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_safetensors_with_official_names_are_read(tmp_path):
    save_file(weights(), tmp_path / "a.safetensors")
    module, report = read_official(tmp_path / "a.safetensors")
    assert module.config == CONFIG
    assert report.card is None


def test_an_exported_file_has_the_official_form_and_comes_back_with_its_card(tmp_path):
    config = CONFIG.replace(residual=True, slices="z", voxel_size_nm=(8, 8, 8))
    module = network(config)
    export_pth(tmp_path / "a.pth", module, ModelCard(network=config, licence="CC0-1.0"))
    official = torch.load(tmp_path / "a.pth", weights_only=True)
    assert official["model"].keys() == weights().keys()
    read, report = read_official(tmp_path / "a.pth")
    assert read.config == config
    assert report.card.licence == "CC0-1.0"
    torch.testing.assert_close(read.out.conv.conv.weight, module.out.conv.conv.weight)


def test_exports_are_whole_or_not_there(tmp_path):
    with pytest.raises(ModelError, match="cannot be written"):
        export_pth(tmp_path / ("a" * 300), network())
    assert not list(tmp_path.iterdir())
