from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_tokenunify.cli import main
from napari_tokenunify.config import PredictConfig
from napari_tokenunify.data import intensity_range, open_volume
from napari_tokenunify.errors import ConfigError, ModelError, SegmentError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.network import NetworkConfig, build_network, save_checkpoint
from napari_tokenunify.network.card import ModelCard
from napari_tokenunify.segment import open_affinities, predict
from tests.segment.fake_networks import bytes_of, drive

NETWORK = NetworkConfig(widths=(2, 3), hidden=4, depth=1, voxel_size_nm=(40, 4, 4))


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    module = build_network(NETWORK)
    save_checkpoint(tmp_path / "model", module, ModelCard(network=NETWORK, name="mine"))
    return tmp_path / "model"


def config(volume_file, model, out, **changes):
    known = {"volume": f"{volume_file}::raw", "model": str(model), "out": str(out), "tile": (4, 16, 16)}
    return PredictConfig(**{**known, "precision": "fp32", "device": "cpu", **changes})


def texts(events):
    return [event.text for event in events if isinstance(event, Message)]


def test_one_tile_is_what_the_network_says(tmp_path, volume_file, raw, model):
    out = tmp_path / "a.zarr"
    events, result = drive(predict(config(volume_file, model, out, tile=(8, 32, 32), dtype="float16")))
    assert (result["out"], result["tiles"], result["complete"]) == (str(out), 1, True)
    assert events[-1] == Progress(1, 1, "predicting")
    torch.manual_seed(0)
    grey = intensity_range(open_volume(f"{volume_file}::raw")).normalise(raw)
    with torch.inference_mode():
        wanted = build_network(NETWORK).eval().affinities(torch.from_numpy(grey)[None, None])[0].numpy()
    store = open_affinities(out)
    np.testing.assert_allclose(store.read(Box.whole(store.shape)), wanted, atol=1e-3)
    assert store.offsets == NETWORK.offsets
    assert store.voxel_size_nm == (40, 4, 4)
    assert store.settings["model"] == "mine"
    assert store.settings["versions"]["torch"] == torch.__version__


def test_what_the_user_leaves_open_stays_as_it_was(tmp_path, volume_file, model, monkeypatch):
    out = tmp_path / "a.zarr"
    stage = predict(config(volume_file, model, out, precision="bf16"))
    for event in stage:
        if isinstance(event, Progress) and event.done == 3:
            break
    stage.close()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    events, result = drive(predict(config(volume_file, model, out, precision="auto", tile=None)))
    assert result["complete"]
    assert "as in the run before" in texts(events)[0]
    drive(predict(config(volume_file, model, tmp_path / "b.zarr", precision="bf16")))
    assert bytes_of(out) == bytes_of(tmp_path / "b.zarr")
    with pytest.raises(SegmentError, match=r"other settings \(precision\)"):
        drive(predict(config(volume_file, model, out, precision="fp32")))
    _, result = drive(predict(config(volume_file, model, out, precision="fp32", overwrite=True)))
    assert result["tiles"] > 3


def test_another_voxel_size_is_said_and_resampled_unless_unwanted(tmp_path, volume_file, model):
    events, _ = drive(predict(config(volume_file, model, tmp_path / "a.zarr", voxel_size="20,4,4", resample=False)))
    assert (
        "voxels of 20x4x4 nm (z y x), but the network was trained at 40x4x4 nm: the result may be poor"
        in texts(events)[1]
    )
    events, _ = drive(predict(config(volume_file, model, tmp_path / "b.zarr", voxel_size="20,4,4")))
    assert "are resampled" in texts(events)[1]
    store = open_affinities(tmp_path / "b.zarr")
    assert (store.shape, store.voxel_size_nm) == ((6, 20, 24), (20, 4, 4))
    assert store.settings["network_voxel_size_nm"] == [40, 4, 4]
    events, _ = drive(predict(config(volume_file, model, tmp_path / "c.zarr")))
    assert len(texts(events)) == 2  # nothing to say


def test_an_unknown_voxel_size_is_said(tmp_path, raw, model):
    np.save(tmp_path / "raw.npy", raw)
    known = {"volume": str(tmp_path / "raw.npy"), "model": str(model), "device": "cpu"}
    events, result = drive(predict(PredictConfig(**known, out=str(tmp_path / "a.zarr"))))
    assert "voxel size is unknown" in texts(events)[1]
    assert result["complete"]


def test_a_network_that_was_only_pretrained_is_refused(tmp_path, volume_file):
    network = NETWORK.replace(offsets=((0, 0, 0),))
    save_checkpoint(tmp_path / "pre", build_network(network), ModelCard(network=network))
    with pytest.raises(ModelError, match="fine-tune it first"):
        drive(predict(config(volume_file, tmp_path / "pre", tmp_path / "a.zarr")))


def test_something_else_at_out_is_left_alone(tmp_path, volume_file, model):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SegmentError, match="holds no affinities"):
        drive(predict(config(volume_file, model, tmp_path / "a.zarr")))


@pytest.mark.parametrize("changes", [{"tile": (0, 1, 1)}, {"overlap": 1.0}, {"box": "nonsense"}])
def test_settings_that_cannot_be_used_are_refused(tmp_path, volume_file, model, changes):
    with pytest.raises((ValueError, ConfigError)):
        config(volume_file, model, tmp_path / "a.zarr", **changes)


def test_the_command_line_takes_three_numbers(tmp_path, volume_file, model, capsys):
    words = ["predict", "--volume", f"{volume_file}::raw", "--model", str(model), "--out", str(tmp_path / "a.zarr")]
    words += ["--box", "0:4,0:16,0:20", "--tile", "4,16,16", "--start-at", "3,15,19", "--tta", "flips", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["tiles"], result["complete"], result["failed"]) == (2, True, 0)
    uncertainty = open_volume(f"{tmp_path / 'a.zarr'}::uncertainty")
    assert uncertainty.voxel_size_nm == (40, 4, 4)
    assert uncertainty.read(Box.whole(uncertainty.shape)).max() > 0
