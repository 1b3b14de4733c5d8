from __future__ import annotations

import argparse
import collections
import datetime
import enum
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.unpickle import StoredTensor, read_pth

WEIGHTS = {"a": torch.arange(6, dtype=torch.float32).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Settings(dict):
    """A class of a training script that nobody else has."""


class Recorder:
    def __init__(self) -> None:
        self.losses = [1.0]


class Mode(enum.Enum):
    TRAIN = "train"


class Evil:
    """Runs a command when it is read by Python's own unpickler."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def save(path, content, zipped=True, **options):
    torch.save(content, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def all_tensors(content):
    return {name: value for name, value in content.items() if isinstance(value, StoredTensor)}


def assert_weights(tensors):
    assert tensors.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)


@FORMATS
def test_tensors_come_back_as_they_were_saved(tmp_path, zipped):
    content = {
        "transposed": torch.arange(12.0).view(3, 4).t(),
        "part": torch.arange(10)[3:7],
        "number": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "bfloat16": torch.tensor([1.5, -2], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    _, tensors = read_pth(save(tmp_path / "a.pth", content, zipped), all_tensors)
    assert tensors.keys() == content.keys()
    for name, tensor in content.items():
        torch.testing.assert_close(tensors[name], tensor.detach(), rtol=0, atol=0)
        assert tensors[name].stride() == tensor.stride()


@FORMATS
def test_tensors_that_shared_memory_share_it_again(tmp_path, zipped):
    whole = torch.zeros(4)
    path = save(tmp_path / "a.pth", {"whole": whole, "half": whole[2:]}, zipped)
    _, tensors = read_pth(path, all_tensors)
    tensors["half"][0] = 7
    assert tensors["whole"][2] == 7


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_whatever_a_training_script_saves_beside_the_weights_does_not_matter(tmp_path, zipped, protocol):
    state = {name: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)} for name in range(2)}
    optimiser = {"state": state, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.95), "params": [0, 1]}]}
    args = argparse.Namespace(
        lr=np.float64(0.1),
        seeds=np.arange(3),
        out=pathlib.Path("runs"),
        settings=Settings(a=1),
        recorder=Recorder(),
        counts=collections.defaultdict(list, a=[1]),
        names={"a", "b"},
        started=datetime.datetime(2024, 1, 1),
        device=torch.device("cpu"),
        size=torch.Size((1, 2)),
        dtype=torch.float16,
        function=os.path.join,
        kind=Recorder,
    )
    content = {"model": WEIGHTS, "optimizer": optimiser, "epoch": 3, "args": args}
    path = save(tmp_path / "a.pth", content, zipped, pickle_protocol=protocol)
    read, tensors = read_pth(path, lambda content: content["model"])
    assert_weights(tensors)
    assert read["epoch"] == 3


def test_a_state_dict_of_torch_is_read(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    _, tensors = read_pth(save(tmp_path / "a.pth", network.state_dict()), all_tensors)
    assert list(tensors) == list(network.state_dict())


def test_only_what_is_chosen_is_read(tmp_path):
    path = save(tmp_path / "a.pth", {"a": torch.ones(2), "large": torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:  # the same file, without the bytes of "large"
        for name, record in records.items():
            if len(record) != 4000:
                archive.writestr(name, record)
    _, tensors = read_pth(path, lambda content: {"a": content["a"]})
    assert tensors["a"].tolist() == [1, 1]


@FORMATS
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, zipped):
    marker = tmp_path / "ran"
    path = save(tmp_path / "a.pth", {"model": WEIGHTS, "args": Evil(marker)}, zipped)
    with pytest.raises(ModelError, match=r"wants to run (posix|nt)\.system .* nothing was run"):
        read_pth(path, lambda content: content["model"])
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is what it is taken for
    assert marker.exists()


def run_pickle(tmp_path, program):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
    read_pth(path, lambda _: {})


@pytest.mark.parametrize(
    "program",
    [
        b"cposix\nsystem\n(S'touch MARKER'\ntR.",  # REDUCE
        b"(S'touch MARKER'\niposix\nsystem\n.",  # INST
        b"(cposix\nsystem\nS'touch MARKER'\no.",  # OBJ
        b'cbuiltins\neval\n(S\'open("MARKER", "w")\'\ntR.',
        b'c__builtin__\nexec\n(S\'open("MARKER", "w")\'\ntR.',
        b"\x80\x04\x8c\x08builtins\x8c\x04open\x93\x8c\x06MARKER\x8c\x01w\x86R.",  # STACK_GLOBAL
        b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.",
        b"ctorch._utils\n_rebuild_parameter\ncposix\nsystem\n(S'touch MARKER'\ntR0.",
        b"ccopyreg\n__newobj__\n(cposix\nsystem\nS'touch MARKER'\ntR.",
    ],
)
def test_no_way_to_call_something_works(tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="wants to run"):
        run_pickle(tmp_path, program)
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR.",  # arguments that are none
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__defaults__'\n(ttsb.",  # change the function itself
        b"cbuiltins\nset\n)R(N}S'x'\nI1\nstb",  # no end
        b"(lp0\n0.",
    ],
)
def test_a_pickle_that_makes_no_sense_is_a_damaged_file(tmp_path, program):
    with pytest.raises(ModelError, match="cut off or damaged"):
        run_pickle(tmp_path, program)


def test_an_enum_is_refused_because_only_a_call_makes_one(tmp_path):
    with pytest.raises(ModelError, match="wants to run"):  # the class, or getattr in older Pythons
        read_pth(save(tmp_path / "a.pth", {"mode": Mode.TRAIN}), all_tensors)


@FORMATS
@pytest.mark.parametrize("kept", [0, 1, 20, 0.3, 0.9, -1])
def test_a_file_that_is_cut_off_is_said_in_one_sentence(tmp_path, zipped, kept):
    path = save(tmp_path / "a.pth", {"a": torch.ones(1000)}, zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_pth(path, all_tensors)


def test_a_changed_byte_is_noticed(tmp_path):
    path = save(tmp_path / "a.pth", {"a": torch.ones(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(bytes(torch.ones(1000).numpy())) + 10] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_pth(path, all_tensors)


def test_a_tensor_that_reaches_beyond_its_bytes_is_refused(tmp_path):
    path = save(tmp_path / "a.pth", {"a": torch.ones(4)})
    choose = lambda content: {"a": content["a"]._replace(shape=(100,))}  # noqa: E731
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_pth(path, choose)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x89PNG\r\n", pickle.dumps({"a": 1})])
def test_other_files_are_no_weights(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no file of weights"):
        read_pth(path, all_tensors)


def test_a_missing_file_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="nothing is there"):
        read_pth(tmp_path / "a.pth", all_tensors)
