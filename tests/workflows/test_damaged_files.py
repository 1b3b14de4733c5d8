"""Damaged files of every format: either they are read, or one of our errors says what is wrong.

`NTU_FUZZ_EXAMPLES=2000 pytest tests/workflows/test_damaged_files.py` searches longer, and another way each time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volume_formats import WRITERS

from napari_tokenunify.data import Volume, list_datasets, open_volume
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.geometry import Box

EXAMPLES = int(os.environ.get("NTU_FUZZ_EXAMPLES", "40"))
ODD_VALUES = [
    None,
    -1,
    0,
    1,
    2,
    10**6,
    10**12,
    1e308,
    True,
    "",
    "x",
    "<u2",
    "/",
    "..",
    [],
    [0],
    [1] * 7,
    [10**9] * 3,
    {},
]
Files = dict[str, bytes]  # path inside the folder -> content


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Files]]:
    """Return, for each format, the address relative to its folder, and what is in the folder."""
    array = np.random.default_rng(0).integers(0, 60_000, (5, 20, 24), np.uint16)
    found = {}
    for name, write in WRITERS.items():
        folder = tmp_path_factory.mktemp("original")
        uri = write(folder, array)
        assert open_volume(uri).checksum() == Volume.from_array(array).checksum()
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        found[name] = uri.removeprefix(str(folder)).lstrip("/"), files
    return found


@pytest.mark.parametrize("name", WRITERS)
@settings(
    max_examples=EXAMPLES,
    derandomize="NTU_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_our_own_words(
    originals: dict[str, tuple[str, Files]], name: str, data: st.DataObject
):
    address, files = originals[name]
    damaged = data.draw(damage(files))
    with TemporaryDirectory() as folder:
        for path, content in damaged.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(content)

        use(f"{folder}/{address}")

        left = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    assert left == damaged


def use(uri: str) -> None:
    """Do what a user does with a volume; only our own errors may come out, and no memory be wasted."""
    before = _peak_memory()
    with contextlib.suppress(TokenUnifyError):
        list_datasets(uri)
        volume = open_volume(uri)
        assert min(volume.shape) > 0
        assert volume.voxel_size_nm is None or all(0 < size < math.inf for size in volume.voxel_size_nm)
        volume.checksum(volume.centre_box((4, 16, 16)))
        for number, level in enumerate(volume.levels):
            z, y, x = level.shape
            volume.read(Box((0, 0, 0), (min(4, z), min(8, y), min(8, x))), number)
        volume.checksum()
    assert _peak_memory() - before < 400e6


def _peak_memory() -> float:
    """Return the most memory this process ever had, in bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    status = Path("/proc/self/status").read_text().split()
    return 1000 * float(status[status.index("VmHWM:") + 1])


@st.composite
def damage(draw: st.DrawFn, files: Files) -> Files:
    """Damage one or two of the files, or take one away."""
    damaged = dict(files)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(sorted(damaged)))
        kinds = ["flip", "flip", "cut", "insert", "blank"]
        kinds += ["take away"] if len(damaged) > 1 else []
        kinds += ["other value"] * 4 if damaged[path][:1] == b"{" else []
        kind = draw(st.sampled_from(kinds))
        if kind == "take away":
            del damaged[path]
        elif kind == "other value":
            damaged[path] = draw(other_value(damaged[path]))
        else:
            damaged[path] = draw(other_bytes(damaged[path], kind))
    return damaged


@st.composite
def other_bytes(draw: st.DrawFn, content: bytes, kind: str) -> bytes:
    if not content:
        return draw(st.binary(max_size=20))
    place = st.one_of(st.integers(0, len(content) - 1), st.integers(0, min(len(content), 400) - 1))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 6))):
            changed[draw(place)] = draw(st.integers(0, 255))
        return bytes(changed)
    at = draw(place)
    if kind == "cut":
        return content[:at]
    junk = draw(st.binary(min_size=1, max_size=40))
    if kind == "blank":
        return content[:at] + bytes(len(junk)) + content[at + len(junk) :]
    return content[:at] + junk + content[at:]


@st.composite
def other_value(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace or remove one value of a JSON text, at any depth."""
    try:
        tree = json.loads(content)
    except ValueError:
        return b"{}"
    places: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        places += [(node, key) for key in keys]
        todo += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    if not places:
        return b"[]"
    node, key = places[draw(st.integers(0, len(places) - 1))]
    if draw(st.integers(0, 4)) == 0:
        del node[key]
    else:
        node[key] = draw(st.sampled_from(ODD_VALUES))
    return json.dumps(tree).encode()
