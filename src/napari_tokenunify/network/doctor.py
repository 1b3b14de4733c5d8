"""The stage `doctor`: is all there that the package needs on this machine, and does it compute what it should."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import psutil  # type: ignore[import-untyped]
import torch
from packaging.requirements import Requirement

from napari_tokenunify.events import Progress
from napari_tokenunify.network.installed import installed_models, models_folder
from napari_tokenunify.network.scan import available_backends, choose_backend, parity_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_tokenunify.config import DoctorConfig
    from napari_tokenunify.events import Event

_PACKAGE: Final = "napari-tokenunify"
_QT: Final = ("PyQt6", "PySide6", "PyQt5", "PySide2")
_PARITY: Final = 1e-4
_GB: Final = 1e9


@dataclass(frozen=True)
class Check:
    """What the doctor found.

    Attributes
    ----------
    name : str
        What was looked at.
    severity : {"ok", "warning", "problem"}
        "warning": something does not work or is slow, the rest does; "problem": mend this first.
    found : str
        What is there.
    advice : str
        What to do about it; "" if nothing.
    """

    name: str
    severity: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.name}: {self.found}" + (f"; {self.advice}" if self.advice else "")


def doctor(config: DoctorConfig) -> Generator[Event, None, dict[str, Any]]:
    """Look at all that the package needs.

    Returns
    -------
    dict
        `checks`: a list of dicts with the fields of `Check` and a `message`; `problems`: how many of them are one.
    """
    checks: list[Check] = []
    for done, (name, look) in enumerate(CHECKS.items()):
        yield Progress(done, len(CHECKS), f"checking {name}")
        checks += look()
    return {
        "checks": [{**asdict(check), "message": str(check)} for check in checks],
        "problems": sum(check.severity == "problem" for check in checks),
    }


def check_python() -> list[Check]:
    """Say which Python runs, on what."""
    return [Check("Python", "ok", f"{platform.python_version()} on {platform.platform()}, {sys.executable}")]


def check_packages() -> list[Check]:
    """Compare what is installed with what the package requires."""
    requirements = [Requirement(text) for text in metadata.requires(_PACKAGE) or ()]
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    wrong = [problem for problem in map(_check_requirement, needed) if problem is not None]
    if wrong:
        return wrong
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in (_PACKAGE, "torch", "numpy", "zarr"))
    return [Check("packages", "ok", f"all {len(needed)} required ones: {versions}, ...")]


def _check_requirement(item: Requirement) -> Check | None:
    try:
        version = metadata.version(item.name)
    except metadata.PackageNotFoundError:
        return Check(item.name, "problem", "is not installed", f"pip install '{item.name}{item.specifier}'")
    if item.specifier.contains(version, prereleases=True):
        return None
    return Check(item.name, "problem", f"{version} is installed", f"pip install '{item.name}{item.specifier}'")


def check_window() -> list[Check]:
    """Say whether napari can open a window: napari, a Qt binding, OpenGL, a screen."""
    missing = f"pip install '{_PACKAGE}[all]'"
    napari, qt = _version("napari"), next((name for name in _QT if importlib.util.find_spec(name)), None)
    linux = sys.platform.startswith("linux")
    library = ctypes.util.find_library("GL") if linux else "that of the system"
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") if linux else "there is one"
    return [
        Check("napari", "ok", napari) if napari else Check("napari", "warning", "is not installed", missing),
        Check("Qt", "ok", f"{qt} {_version(qt)}") if qt else Check("Qt", "warning", "no binding is installed", missing),
        Check("OpenGL", "ok", library)
        if library
        else Check("OpenGL", "warning", "there is no libGL", "install it, e.g. with apt-get install libgl1"),
        Check("screen", "ok", screen)
        if screen
        else Check("screen", "warning", "there is none", "the command line works; windows need one, or xvfb-run"),
    ]


def check_gpu() -> list[Check]:
    """Say what PyTorch can compute on."""
    with warnings.catch_warnings(record=True) as said:  # an old driver, for one, is only a warning
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return [_describe_gpu(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [Check("GPU", "ok", "Apple's")]
    driver = _nvidia_driver()
    if driver:
        reason = f": {said[0].message}" if said else ""
        cuda = torch.version.cuda or "no CUDA"
        return [
            Check(
                "GPU",
                "problem",
                f"driver {driver}, but PyTorch (made for {cuda}) cannot use it{reason}",
                "install the PyTorch for this driver, see https://pytorch.org/get-started",
            )
        ]
    return [Check("GPU", "warning", "none", "the CPU is used: choose the network tiny or small")]


def _describe_gpu(index: int) -> Check:
    facts = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    driver = _nvidia_driver() or "unknown"
    found = f"{facts.name}, {free / _GB:.0f} of {total / _GB:.0f} GB free, CUDA {torch.version.cuda}, driver {driver}"
    return Check(f"GPU {index}", "ok", found)


def _nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver, if there is one that answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.splitlines() or [""])[0].strip() or None


def check_scan() -> list[Check]:
    """Say what computes the selective scan, and how exactly each backend that can be used here does."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = choose_backend(device)
    checks = []
    for name, reason in available_backends().items():
        title = f"scan {name}{', taken' if name == chosen else ''}"
        checks.append(Check(title, "ok", f"not used: {reason}") if reason else _check_backend(name, title))
    return checks


def _check_backend(name: str, title: str) -> Check:
    avoid = "it is no harm: another backend is taken; or set scan_backend to torch"
    try:
        error = parity_error(name)
    except Exception as failure:  # noqa: BLE001 - a broken kernel fails in any way
        return Check(title, "warning", f"failed: {str(failure).partition(chr(10))[0]}", avoid)
    if error < _PARITY:
        return Check(title, "ok", f"relative error {error:.1e}")
    return Check(
        title, "problem", f"relative error {error:.1e}, should be below {_PARITY:g}", "set scan_backend to torch"
    )


def check_memory() -> list[Check]:
    """Say how much memory is free."""
    memory = psutil.virtual_memory()
    found = f"{memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB free, {os.cpu_count()} cores"
    if memory.available < 4 * _GB:
        return [Check("memory", "warning", found, "close other programs, or choose smaller blocks and networks")]
    return [Check("memory", "ok", found)]


def check_disk() -> list[Check]:
    """Say how much room there is for models, and where the work is done."""
    folders = {"disk of models": _existing(models_folder()), "disk here": Path.cwd()}
    checks = []
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free
        found = f"{free / _GB:.1f} GB free in {folder}"
        if not os.access(folder, os.W_OK):
            checks.append(Check(name, "problem", f"{folder} cannot be written to", "choose another folder"))
        elif free < 10 * _GB:
            checks.append(Check(name, "warning", found, "affinities of a large volume need more; make room"))
        else:
            checks.append(Check(name, "ok", found))
    return checks


def check_models() -> list[Check]:
    """Say which weights are here."""
    here = installed_models()
    if here:
        return [Check("models", "ok", ", ".join(here))]
    advice = f"see `{_PACKAGE} models list`, or train from scratch"
    return [Check("models", "warning", "no weights are here", advice)]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _version(package: str | None) -> str | None:
    try:
        return metadata.version(package) if package else None
    except metadata.PackageNotFoundError:
        return None


CHECKS: Final[dict[str, Callable[[], list[Check]]]] = {
    "Python": check_python,
    "packages": check_packages,
    "windows": check_window,
    "GPU": check_gpu,
    "scan": check_scan,
    "memory": check_memory,
    "disk": check_disk,
    "models": check_models,
}
"""What is looked at, in this order."""
