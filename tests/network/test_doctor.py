from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from napari_tokenunify.config import DoctorConfig
from napari_tokenunify.events import Progress
from napari_tokenunify.network import doctor as doctor_module
from napari_tokenunify.network.card import ModelCard
from napari_tokenunify.network.checkpoint import save_checkpoint
from napari_tokenunify.network.doctor import (
    CHECKS,
    Check,
    check_disk,
    check_gpu,
    check_memory,
    check_models,
    check_packages,
    check_scan,
    check_window,
    doctor,
)
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import build_network


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def by_name(checks):
    return {check.name: check for check in checks}


def set_cuda(monkeypatch, usable, said=None):
    def is_available():
        if said:
            warnings.warn(said, stacklevel=1)
        return usable

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_doctor_looks_at_everything(monkeypatch):
    checks = {name: lambda name=name: [Check(name, "ok", "fine")] for name in CHECKS}
    checks["disk"] = lambda: [Check("disk", "problem", "full", "make room")]
    monkeypatch.setattr(doctor_module, "CHECKS", checks)
    events = []
    stage, result = doctor(DoctorConfig()), None
    while result is None:
        try:
            events.append(next(stage))
        except StopIteration as end:
            result = json.loads(json.dumps(end.value))
    assert [event.done for event in events if isinstance(event, Progress)] == list(range(len(checks)))
    assert [check["name"] for check in result["checks"]] == list(CHECKS)
    assert result["problems"] == 1
    problem = next(check for check in result["checks"] if check["severity"] == "problem")
    assert problem["message"] == "disk: full; make room"


def test_all_required_packages_are_here():
    (check,) = check_packages()
    assert check.severity == "ok"
    assert "torch" in check.found


def test_a_missing_and_an_old_package_are_named_with_the_command(monkeypatch):
    needs = ["numpy>=999", "no-such-package>=2", "torch>=2", 'napari>=999; extra == "all"']
    monkeypatch.setattr(metadata, "requires", lambda _: needs)
    old, missing = check_packages()
    assert (old.name, old.severity, old.advice) == ("numpy", "problem", "pip install 'numpy>=999'")
    assert (missing.found, missing.advice) == ("is not installed", "pip install 'no-such-package>=2'")


def test_without_napari_qt_opengl_and_screen_there_are_warnings(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(doctor_module, "_version", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    checks = check_window()
    assert [check.name for check in checks] == ["napari", "Qt", "OpenGL", "screen"]
    assert all(check.severity == "warning" and check.advice for check in checks)


def test_looking_for_qt_does_not_load_it():
    code = (
        "import sys; from napari_tokenunify.network.doctor import check_window; check_window();"
        "print([name for name in ('napari', 'qtpy', 'PyQt6', 'PySide6') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_gpu_is_a_warning(monkeypatch):
    set_cuda(monkeypatch, usable=False)
    monkeypatch.setattr(doctor_module, "_nvidia_driver", lambda: None)
    (check,) = check_gpu()
    assert check.severity == "warning"
    assert "CPU" in check.advice


def test_a_gpu_that_pytorch_cannot_use_is_a_problem(monkeypatch):
    set_cuda(monkeypatch, usable=False, said="The driver is too old")
    monkeypatch.setattr(doctor_module, "_nvidia_driver", lambda: "470.1")
    (check,) = check_gpu()
    assert check.severity == "problem"
    assert "driver 470.1" in check.found
    assert "too old" in check.found


def test_a_gpu_is_described(monkeypatch):
    set_cuda(monkeypatch, usable=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="A GPU"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70e9, 80e9))
    monkeypatch.setattr(doctor_module, "_nvidia_driver", lambda: "570.1")
    (check,) = check_gpu()
    assert check.found.startswith("A GPU, 70 of 80 GB free")
    assert check.found.endswith("driver 570.1")


def test_the_driver_is_asked_of_nvidias_program(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: "/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="570.1\n570.1\n"))
    assert doctor_module._nvidia_driver() == "570.1"

    def fails(*_, **__):
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr(subprocess, "run", fails)
    assert doctor_module._nvidia_driver() is None


def test_every_backend_of_the_scan_says_how_exact_it_is(monkeypatch):
    monkeypatch.setattr(doctor_module, "available_backends", lambda: {"triton": "no GPU", "numba": "", "torch": ""})
    monkeypatch.setattr(doctor_module, "choose_backend", lambda _: "numba")
    checks = by_name(check_scan())
    assert checks["scan triton"].found == "not used: no GPU"
    for name in ("scan numba, taken", "scan torch"):
        assert checks[name].severity == "ok"
        assert float(checks[name].found.removeprefix("relative error ")) < 1e-4


def test_a_scan_that_fails_or_is_wrong_is_reported(monkeypatch):
    def error(name):
        if name == "triton":
            raise RuntimeError("no compiler\nand more")
        return 0.1

    monkeypatch.setattr(doctor_module, "available_backends", lambda: {"triton": "", "numba": ""})
    monkeypatch.setattr(doctor_module, "choose_backend", lambda _: "numba")
    monkeypatch.setattr(doctor_module, "parity_error", error)
    checks = by_name(check_scan())
    assert (checks["scan triton"].severity, checks["scan triton"].found) == ("warning", "failed: no compiler")
    assert checks["scan numba, taken"].severity == "problem"


def test_little_memory_and_disk_are_warnings(monkeypatch, tmp_path):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e9, total=4e9))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1e9))
    assert "1.0 of 4.0 GB" in check_memory()[0].found
    assert check_memory()[0].severity == "warning"
    assert [check.severity for check in check_disk()] == ["warning", "warning"]
    assert str(tmp_path) in check_disk()[0].found  # the folder of models is not made for it


def test_a_folder_that_cannot_be_written_to_is_a_problem(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert {check.severity for check in check_disk()} == {"problem"}


def test_weights_are_looked_for(folder):
    (check,) = check_models()
    assert check.severity == "warning"
    config = NetworkConfig(widths=(2, 3), hidden=4, depth=1)
    save_checkpoint(folder / "mine", build_network(config), ModelCard(network=config))
    (check,) = check_models()
    assert (check.severity, check.found) == ("ok", "mine")
