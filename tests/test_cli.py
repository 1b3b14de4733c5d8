from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.cli import main


def test_info_as_json_has_the_promised_keys(volume_file: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", f"{volume_file}::raw", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["shape"] == [6, 20, 24]
    assert result["dtype"] == "uint8"
    assert result["voxel_size_nm"] == [40.0, 4.0, 4.0]
    assert {"chunks", "levels", "checksum", "format"} <= set(result)


def test_info_for_people_says_when_the_voxel_size_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6), np.uint8))
    assert main(["info", str(tmp_path / "a.npy")]) == 0
    out = capsys.readouterr().out
    assert "4 x 5 x 6" in out
    assert "unknown" in out


def test_the_voxel_size_can_be_given_by_hand(volume_file: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", f"{volume_file}::raw", "--voxel-size", "30,8,8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["voxel_size_nm"] == [30.0, 8.0, 8.0]


def test_a_failure_is_one_sentence_on_stderr_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(tmp_path / "absent.tif")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "nothing is there" in captured.err


@pytest.mark.parametrize(
    "words",
    [["unknown-verb"], ["info"], ["info", "a.tif", "--no-such-flag"], ["info", "a.tif", "--voxel-size", "four"]],
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert "napari-tokenunify" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["info", "--help"]])
def test_help_is_shown_and_is_no_failure(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 0
    assert "usage" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--launch.kind", "command"], "--launch: a template"),
        (["--launch.gpus", "0"], "--gpus: Input should be greater than or equal to 1 (given: '0')."),
    ],
)
def test_how_a_job_cannot_be_started_is_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["finetune", "--volume", "a", "--annotations", "b", "--out", "run", *words]) == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_is_exit_code_130(volume_file: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_tokenunify.cli._follow", lambda *_, **__: interrupted())
    assert main(["info", f"{volume_file}::raw"]) == 130


def test_check_names_what_it_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "tiny.npy", np.random.default_rng(0).integers(0, 255, (4, 8, 8), np.uint8))
    assert main(["check", str(tmp_path / "tiny.npy"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {"severity", "kind", "message", "sections"} <= set(findings[0])


def test_a_verb_of_two_words_runs_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path))
    assert main(["models", "list", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == str(tmp_path)
    assert "TokenUnify-100M" in [model["name"] for model in result["models"]]
    assert main(["models", "list"]) == 0
    assert "TokenUnify-100M (official, not here)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models"], "one of list, info, get, import"),
        (["models", "sing"], "invalid choice: 'sing'"),
        (["models", "import", "a.pth"], "--name"),
        (["list"], "invalid choice: 'list'"),
    ],
)
def test_half_a_verb_of_two_words_is_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_the_help_of_a_group_lists_its_verbs(capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--help"]) == 0
    out = capsys.readouterr().out
    assert "{list,info,get,import,export}" in out
    assert "agree to the licence" not in out
    assert main(["models", "get", "--help"]) == 0
    assert "Agree to the licence" in " ".join(capsys.readouterr().out.split())


def test_weights_are_imported_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    torch = pytest.importorskip("torch")
    from napari_tokenunify.network import NetworkConfig, build_network

    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))
    weights = build_network(NetworkConfig(widths=(2, 3), hidden=4, depth=1)).state_dict()
    torch.save({"model": weights, "epoch": 1}, tmp_path / "a.pth")
    assert main(["models", "import", str(tmp_path / "a.pth"), "--name", "mine", "--licence", "CC0-1.0"]) == 0
    captured = capsys.readouterr()
    assert f"{len(weights)} of {len(weights)} tensors" in captured.out
    assert "tensors loaded from" in captured.err
    assert main(["models", "info", "mine", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["name"], result["licence"], result["network"]["widths"]) == ("mine", "CC0-1.0", [2, 3])


def test_the_doctor_answers_people_and_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from napari_tokenunify.network import doctor

    monkeypatch.setattr(doctor, "CHECKS", {"GPU": lambda: [doctor.Check("GPU", "warning", "none", "use the CPU")]})
    assert main(["doctor"]) == 0
    assert "warning: GPU: none; use the CPU" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checks"][0]["advice"] == "use the CPU"
