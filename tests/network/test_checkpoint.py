from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.card import Ancestor, DataUsed, Intensity, ModelCard, TrainingRun, read_card
from napari_tokenunify.network.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import build_network

CONFIG = NetworkConfig(widths=(2, 3), hidden=4, depth=1, voxel_size_nm=(40, 4, 4))


def network(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return build_network(config)


def full_card():
    return ModelCard(
        network=CONFIG,
        name="mine",
        description="For tests.",
        licence="CC0-1.0",
        source="nowhere",
        step=12,
        intensity=Intensity(low=3, high=250, mean=0.5, deviation=0.2),
        data=(DataUsed(name="a cube", licence="CC-BY-4.0"),),
        history=(
            TrainingRun(stage="finetune", steps=12, started="2024-01-01T00:00:00Z", seconds=3, settings={"a": 1}),
        ),
        lineage=(Ancestor(name="parent", weights_sha256="ab"),),
        metrics={"voi": 0.5},
    )


def assert_same_weights(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path / "model", network(), full_card())
    return tmp_path / "model"


def test_weights_and_card_come_back_as_they_were_saved(saved):
    module, card = load_checkpoint(saved)
    assert_same_weights(network(), module)
    assert card == full_card().replace(weights_sha256=card.weights_sha256, versions=card.versions)
    assert card.voxel_size_nm == (40, 4, 4)
    assert card.versions["torch"] == torch.__version__
    raw = torch.rand(1, 1, 4, 16, 16)
    torch.testing.assert_close(module(raw), network()(raw), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_folder_holds_weights_and_a_copy_of_the_card(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((saved / "model.json").read_text()) == read_card(saved).model_dump(mode="json")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_both_files_can_be_read_by_whom_any_new_file_can(saved, tmp_path):
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in saved.iterdir()} == {(tmp_path / "new").stat().st_mode}


def test_the_file_of_the_weights_is_a_whole_checkpoint(saved, tmp_path):
    (saved / "model.safetensors").rename(tmp_path / "alone.safetensors")
    module, card = load_checkpoint(tmp_path / "alone.safetensors")
    assert_same_weights(network(), module)
    assert card.name == "mine"


def test_a_checkpoint_can_be_a_file_with_its_card_beside(tmp_path):
    save_checkpoint(tmp_path / "step-12.safetensors", network(), full_card())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-12.json", "step-12.safetensors"]


def test_reading_a_card_loads_no_torch(saved):
    code = (
        "import sys; from napari_tokenunify.network.card import read_card\n"
        f"assert read_card({str(saved)!r}).step == 12; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_half_weights_take_half_the_room_and_give_nearly_the_same(tmp_path):
    config = NetworkConfig(widths=(16, 24), hidden=32)
    module, card = network(config=config), ModelCard(network=config)
    save_checkpoint(tmp_path / "whole", module, card)
    save_checkpoint(tmp_path / "half", module, card, half=True)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.6 * whole
    read, _ = load_checkpoint(tmp_path / "half")
    assert {parameter.dtype for parameter in read.parameters()} == {torch.float32}
    raw = torch.rand(1, 1, 4, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(read.affinities(raw), module.affinities(raw), rtol=0, atol=0.01)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert stored["vit.stages.0.0.mamba.A_log"].dtype == torch.float32


def test_the_hash_is_of_the_weights_alone(tmp_path):
    one = save_checkpoint(tmp_path / "one", network(), full_card())
    again = save_checkpoint(tmp_path / "again", network(), full_card().replace(name="another", step=3))
    other = save_checkpoint(tmp_path / "other", network(seed=1), full_card())
    assert one.weights_sha256 == again.weights_sha256 != other.weights_sha256


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from napari_tokenunify.network.checkpoint import load_checkpoint, save_checkpoint

def kill_before(owner, method, at):
    real, calls = getattr(owner, method), []
    def wrapped(*arguments):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    setattr(owner, method, wrapped)

folder = sys.argv[1]
for owner, method, at in (os, "fsync", 1), (Path, "replace", 1), (Path, "replace", 2):
    module, card = load_checkpoint(folder)
    child = os.fork()
    if not child:
        with torch.no_grad():
            module.out.conv.conv.weight.zero_()
        kill_before(owner, method, at)
        save_checkpoint(folder, module, card.replace(step=card.step + 1))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    module, card = load_checkpoint(folder)
    print(card.step, bool(module.out.conv.conv.weight.any()), ".model.safetensors.part" in os.listdir(folder))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_a_kill_leaves_the_old_checkpoint_or_the_new_one(saved):
    done = subprocess.run([sys.executable, "-c", KILLED, str(saved)], check=True, capture_output=True, text=True)
    written, on_disk, in_place = done.stdout.splitlines()
    assert written == on_disk == "12 True True"
    assert in_place == "13 False False"
    save_checkpoint(saved, network(), full_card().replace(step=14))
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]
    assert load_checkpoint(saved)[1].step == 14


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("os.fsync", OSError(28, "No space left on device")),
        ("napari_tokenunify.network.checkpoint.save_file", SafetensorError("I/O error: No space left on device")),
    ],
)
def test_a_full_disk_leaves_the_checkpoint_that_was_there(saved, monkeypatch, where, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(where, full)
    with pytest.raises(ModelError, match="No space left on device"):
        save_checkpoint(saved, network(seed=1), full_card())
    monkeypatch.undo()
    assert_same_weights(network(), load_checkpoint(saved)[0])
    assert len(list(saved.iterdir())) == 2


def test_weights_that_are_not_finite_are_not_saved(saved):
    module = network()
    with torch.no_grad():
        module.out.conv.conv.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"1 of \d+ tensors hold values that are not finite, out\.conv\.conv\.bias"):
        save_checkpoint(saved, module, full_card())
    assert_same_weights(network(), load_checkpoint(saved)[0])


def test_a_card_of_another_network_is_refused(tmp_path):
    with pytest.raises(ModelError, match="another network"):
        save_checkpoint(tmp_path, network(), ModelCard(network=NetworkConfig()))
    assert not list(tmp_path.iterdir())


def rewrite(folder: Path, change) -> None:
    """Write tensors anew that fit their hash, as a program gone wrong would."""
    file = folder / "model.safetensors"
    tensors, card = load_file(file), read_card(file)
    change(tensors)
    text = card.replace(weights_sha256=weights_sha256(tensors)).model_dump_json()
    save_file(tensors, file, metadata={"napari_tokenunify": text})


def test_weights_with_nan_are_said_in_one_sentence(saved):
    rewrite(saved, lambda tensors: tensors["out.conv.conv.weight"].fill_(float("nan")))
    with pytest.raises(ModelError, match=r"hold values that are not finite, out\.conv\.conv\.weight first"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tensors: tensors.update({"out.conv.conv.bias": torch.zeros(5)}),
            r"has the shape \(5,\), but its card wants \(3,\)",
        ),
        (lambda tensors: tensors.pop("out.conv.conv.bias"), "has the shape nothing, but"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), r"more has the shape \(2,\), but its card wants nothing"),
    ],
)
def test_weights_of_a_wrong_shape_are_said_in_one_sentence(saved, change, said):
    rewrite(saved, change)
    with pytest.raises(ModelError, match=said):
        load_checkpoint(saved)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_file_that_is_cut_off_is_said_in_one_sentence(saved, kept):
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ModelError, match="cut off or damaged"):
        load_checkpoint(saved)


def test_a_changed_byte_is_noticed(saved):
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(saved)


def test_a_missing_checkpoint_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="nothing is there"):
        load_checkpoint(tmp_path)


def test_weights_without_a_card_are_told_how_to_import(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="models import"):
        load_checkpoint(tmp_path)


def test_a_card_that_this_version_does_not_understand_is_said_in_one_sentence(saved):
    file = saved / "model.safetensors"
    for text in ("{}", "no json", '{"network": {"widths": [4]}}', '{"network": {"new_setting": 1}}'):
        save_file(load_file(file), file, metadata={"napari_tokenunify": text})
        with pytest.raises(ModelError, match="update napari-tokenunify"):
            read_card(file)


def test_what_a_newer_version_adds_to_a_card_is_left_out(saved):
    file = saved / "model.safetensors"
    card = read_card(file).model_dump(mode="json") | {"mood": "good"}
    save_file(load_file(file), file, metadata={"napari_tokenunify": json.dumps(card)})
    assert load_checkpoint(saved)[1].name == "mine"
