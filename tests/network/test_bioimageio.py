from __future__ import annotations

import gc
import io
import sys
import warnings
import zipfile
from importlib import import_module

import numpy as np
import pytest
import torch
import yaml

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.bioimageio import export_bioimageio
from napari_tokenunify.network.card import DataUsed, ModelCard
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import build_network

CONFIG = NetworkConfig(widths=(2, 3), hidden=4, depth=1, strides=((1, 2, 2), (2, 2, 2)), voxel_size_nm=(40, 4, 4))
CARD = ModelCard(
    network=CONFIG,
    name="my.model",
    description="For tests.",
    licence="cc-by-nc-4.0",
    data=(DataUsed(name="a cube", licence="CC0-1.0"),),
    metrics={"voi": 0.5},
)


def read(package, name):
    with zipfile.ZipFile(package) as archive:
        return io.BytesIO(archive.read(name))


def load(spec, package):
    """Let the library check a package, and return its description as it is written."""
    context = spec.ValidationContext(log_warnings=False, progressbar=False, perform_io_checks=True)
    with context, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves files it has read to the collector
        assert spec.load_model_description(package).validation_summary.status != "failed"
        gc.collect()
    return yaml.safe_load(read(package, "rdf.yaml").read().replace(b"%YAML 1.2\n", b""))


def network():
    torch.manual_seed(0)
    return build_network(CONFIG)


@pytest.fixture(scope="module")
def spec():
    return pytest.importorskip("bioimageio.spec", reason="the extra bioimageio is not installed")


@pytest.fixture(scope="module")
def package(spec, tmp_path_factory):
    sample = np.random.default_rng(1).integers(0, 255, (5, 17, 20), np.uint8)
    path = tmp_path_factory.mktemp("package") / "model.zip"
    return export_bioimageio(path, network(), CARD, sample=sample, authors=["A. Person"])


def test_the_package_is_valid_and_says_what_the_card_says(spec, package):
    description = load(spec, package)
    assert description["name"] == "TokenUnify my-model"
    assert description["license"] == "CC-BY-NC-4.0"
    assert description["authors"] == [{"name": "A. Person"}]
    axes = {axis.get("id"): axis for axis in description["inputs"][0]["axes"]}
    assert [(axes[name]["scale"], axes[name]["unit"]) for name in "zyx"] == [(size, "nanometer") for size in (40, 4, 4)]
    assert [axes[name]["size"]["step"] for name in "zyx"] == [2, 4, 4]
    assert description["outputs"][0]["axes"][1]["channel_names"] == ["zm1_y0_x0", "z0_ym1_x0", "z0_y0_xm1"]


def test_the_described_network_and_weights_make_the_test_output_of_the_test_input(spec, package):
    description = load(spec, package)
    architecture = description["weights"]["pytorch_state_dict"]["architecture"]
    build = getattr(import_module(architecture["import_from"]), architecture["callable"])
    module = build(**architecture["kwargs"])
    module.load_state_dict(torch.load(read(package, "weights.pt"), weights_only=True))
    given, wanted = (np.load(read(package, f"test_{name}.npy")) for name in ("input", "output"))
    assert given.shape == (1, 1, 4, 16, 20)  # cut to multiples of the strides
    steps = {step["id"]: step.get("kwargs") for step in description["inputs"][0]["preprocessing"]}
    scale, clip = steps["scale_range"], steps["clip"]
    low, high = np.percentile(given, (scale["min_percentile"], scale["max_percentile"]))
    raw = np.clip((given - low) / (high - low + float(scale["eps"])), clip["min"], clip["max"])
    assert description["outputs"][0]["postprocessing"][0]["id"] == "sigmoid"
    with torch.no_grad():
        found = torch.sigmoid(module(torch.from_numpy(raw.astype(np.float32))))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    assert wanted.shape == (1, 3, 4, 16, 20)


def test_the_documentation_says_licence_and_data(package):
    text = read(package, "README.md").read().decode()
    assert "cc-by-nc-4.0" in text
    assert "a cube (CC0-1.0)" in text


def test_without_a_sample_noise_is_the_test_input_and_an_unknown_licence_is_left_out(spec, tmp_path):
    path = export_bioimageio(tmp_path / "a.zip", network(), ModelCard(network=CONFIG))
    assert load(spec, path)["license"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_sample_that_is_too_small_is_said_in_one_sentence(spec, tmp_path):
    with pytest.raises(ModelError, match=r"at least \(2, 4, 4\)"):
        export_bioimageio(tmp_path / "a.zip", network(), CARD, sample=np.zeros((1, 9, 9)))


def test_what_the_library_finds_wrong_is_said_and_nothing_is_written(spec, tmp_path):
    with pytest.raises(ModelError, match="is not written: "):
        export_bioimageio(tmp_path / "a.zip", network(), CARD.replace(description="x" * 2000))
    assert not list(tmp_path.iterdir())


def test_without_the_library_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(ModelError, match=r"pip install 'napari-tokenunify\[bioimageio\]'"):
        export_bioimageio(tmp_path / "a.zip", network(), CARD)
