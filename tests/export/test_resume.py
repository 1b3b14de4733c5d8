from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_tokenunify.config import ExportConfig
from napari_tokenunify.data import open_volume
from napari_tokenunify.events import Message
from napari_tokenunify.export import FORMATS, Content, export, write_export
from napari_tokenunify.export.resume import Finished

KILLED = """
import os, signal, sys
from napari_tokenunify.config import ExportConfig
from napari_tokenunify.export import export, n5, ome_zarr, precomputed
ome_zarr._CHUNK, ome_zarr._SHARD = (4, 16, 16), (4, 32, 32)
n5._CHUNK, n5._BLOCK = (4, 16, 16), (4, 32, 32)
precomputed._CHUNK, precomputed._BLOCK = (4, 16, 16), (8, 32, 32)
stage = export(ExportConfig(segmentation=sys.argv[1], out=sys.argv[2], format=sys.argv[3]))
for _ in range(8):
    next(stage)
os.kill(os.getpid(), signal.SIGKILL)
"""


def files(folder):
    """Return what was written of the voxels, and when."""
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".json" and path.name != "info"
    }


@pytest.fixture
def small_blocks(monkeypatch):
    from napari_tokenunify.export import n5, ome_zarr, precomputed

    for module, names, shapes in (
        (ome_zarr, ("_CHUNK", "_SHARD"), ((4, 16, 16), (4, 32, 32))),
        (n5, ("_CHUNK", "_BLOCK"), ((4, 16, 16), (4, 32, 32))),
        (precomputed, ("_CHUNK", "_BLOCK"), ((4, 16, 16), (8, 32, 32))),
    ):
        for name, shape in zip(names, shapes, strict=True):
            monkeypatch.setattr(module, name, shape)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("kind", ["ome-zarr", "n5", "precomputed", "ply"])
def test_a_killed_export_goes_on_and_is_the_same_in_the_end(folder, segmentation, tmp_path, kind, small_blocks):
    if kind == "precomputed":
        pytest.importorskip("tensorstore", reason="the extra 'precomputed' is not installed")
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    done = subprocess.run([sys.executable, "-B", "-c", KILLED, str(folder), str(out), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    part = tmp_path / f".{out.name}.part"
    before = files(part)
    assert before
    config = ExportConfig(segmentation=str(folder), out=str(out), format=kind)
    events = list(export(config))
    assert any(isinstance(event, Message) and "this one goes on" in event.text for event in events)
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert not part.exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".tokenunify")]
    if kind == "ply":
        assert len(after) == len(np.unique(segmentation.view()[:])) - 1
    else:
        np.testing.assert_array_equal(open_volume(out).levels[0][:, :, :], segmentation.view()[:])
    list(export(config.replace(out=str(tmp_path / "fresh"))))
    for name in after:
        assert (tmp_path / "fresh" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_with_other_settings_it_begins_anew(folder, segmentation, tmp_path, small_blocks):
    out = tmp_path / "x.n5"
    subprocess.run([sys.executable, "-B", "-c", KILLED, str(folder), str(out), "n5"], check=False)
    events = list(export(ExportConfig(segmentation=str(folder), out=str(out), format="n5", threshold=0.9)))
    assert not any(isinstance(event, Message) for event in events)
    np.testing.assert_array_equal(open_volume(out).levels[0][:, :, :], segmentation.view(0.9)[:])


def test_another_table_is_another_export(segmentation):
    from napari_tokenunify.export import Segments

    plain = Segments.of(segmentation)
    assert plain.fingerprint() == Segments.of(segmentation).fingerprint()
    changed = replace(plain, table=plain.table + np.uint64(1))
    others = [changed, Segments.of(segmentation, 0.9), plain.only([int(plain.table[3])])]
    assert len({one.fingerprint() for one in (plain, *others)}) == 4


def test_an_array_is_never_gone_on_with(tmp_path):
    left = tmp_path / ".x.n5.part"
    left.mkdir()
    (left / "torn").touch()
    list(write_export(Content.of_array(np.ones((3, 4, 5), np.uint8), is_labels=True), tmp_path / "x.n5", "n5"))
    assert not (tmp_path / "x.n5" / "torn").exists()


def test_a_name_that_was_cut_off_does_not_count(tmp_path):
    done = Finished(tmp_path)
    done.add("0/1")
    done.add("0/12")
    path = tmp_path / ".tokenunify-done"
    path.write_bytes(path.read_bytes()[:-1])  # the end of the line: it may have been 0/123
    again = Finished(tmp_path)
    assert "0/1" in again
    assert "0/12" not in again
    again.add("0/7")
    assert path.read_text() == "0/1\n0/7\n"
