"""The house itself: tests mirror the source, nothing heavy loads by accident, every name in the manifest resolves."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_tokenunify"
TESTS = ROOT / "tests"


def test_every_test_file_has_its_source_file():
    orphans = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.name != "test_layout.py" and path.parent.name != "workflows" and not _source_of(path)
    ]
    assert not orphans


def _source_of(test: Path) -> bool:
    """Whether there is folder/X.py or folder/X/ for folder/test_X.py, or folder/X/Y.py for folder/test_X_Y.py."""
    stem = test.stem.removeprefix("test_")
    folder = SOURCE / test.parent.relative_to(TESTS)
    head, _, tail = stem.partition("_")
    return (folder / f"{stem}.py").exists() or (folder / stem).is_dir() or (folder / head / f"{tail}.py").exists()


@pytest.mark.parametrize("module", ["napari_tokenunify.cli", "napari_tokenunify.data", "napari_tokenunify.pipeline"])
def test_importing_loads_neither_torch_nor_qt_nor_napari(module: str):
    code = f"import sys, {module}; print([m for m in ('torch', 'napari', 'qtpy', 'zarr', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_load_when_first_used():
    data = import_module("napari_tokenunify.data")
    for name in data.__all__:
        assert getattr(data, name).__doc__, name


def test_the_manifest_at_the_top_is_a_link_to_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == SOURCE / "napari.yaml"


def test_every_command_of_the_manifest_is_used_and_named_after_a_file():
    contributions = yaml.safe_load((SOURCE / "napari.yaml").read_text())["contributions"]
    used = {
        entry["command"] for kind in ("readers", "sample_data", "widgets", "writers") for entry in contributions[kind]
    }
    assert {command["id"] for command in contributions["commands"]} == used
    for command in contributions["commands"]:
        module, _, function = command["python_name"].partition(":")
        path = SOURCE.parent / Path(*module.split(".")).with_suffix(".py")
        assert re.search(rf"^(def|class) {function}\(", path.read_text(), re.MULTILINE)


def test_the_reference_has_all_that_the_rooms_offer():
    reference = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"automodule:: (\S+)\n   :members:(.*)", reference)
    named = {name for _, names in listed for name in re.findall(r"\w+", names)}
    named |= {name for module, names in listed if not names for name in vars(import_module(module))}
    rooms = ("data", "network", "segment", "train", "proofread", "export", "jobs")
    offered = {name for room in rooms for name in import_module(f"napari_tokenunify.{room}").__all__}
    assert offered - named == {"scan"}  # a folder, of which selective_scan is named
