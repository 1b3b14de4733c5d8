from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_tokenunify.cli import main
from napari_tokenunify.config import ExportConfig
from napari_tokenunify.data import Volume, open_volume
from napari_tokenunify.errors import ConfigError, ExportError
from napari_tokenunify.events import Progress
from napari_tokenunify.export import FORMATS as ALL_FORMATS
from napari_tokenunify.export import export
from tests.export.conftest import ORIGIN, ORIGIN_NM, SHAPE, SIZE_NM

# Two of them need the extra `precomputed`, and one needs edits: test_edit_log.
FORMATS = {
    name: form
    for name, form in ALL_FORMATS.items()
    if name != "edits" and (not form.path.startswith("precomputed:") or find_spec("tensorstore") is not None)
}
VOXELS = [name for name, form in FORMATS.items() if form.group == "voxels" and name != "precomputed-fragments"]
WHOLE = ["obj", "ply", "glb", "precomputed-meshes", "csv-contacts"]  # of which a box cannot be written
START_NM = tuple(f + a * s for f, a, s in zip(ORIGIN_NM, ORIGIN, SIZE_NM, strict=True))


def run(config):
    events = []
    stage = export(config)
    while True:
        try:
            events.append(next(stage))
        except StopIteration as end:
            return end.value, events


def config_of(folder, path, kind, **others):
    return ExportConfig(segmentation=str(folder), out=str(path), format=kind, **others)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_table_of_formats_is_the_one_of_the_config():
    assert get_args(ExportConfig.model_fields["format"].annotation) == tuple(ALL_FORMATS)


@pytest.mark.parametrize("kind", VOXELS)
def test_what_was_exported_opens_again_as_it_was(folder, segmentation, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    result, events = run(config_of(folder, out, kind))
    volume = open_volume(out)
    expected = segmentation.view()[:]
    np.testing.assert_array_equal(volume.levels[0][:, :, :], expected)
    assert volume.voxel_size_nm == SIZE_NM
    assert volume.origin_nm == (START_NM if kind != "tiff" else (0, 0, 0))  # TIFF has no place for it
    assert volume.dtype == "uint32"
    assert result == {
        "out": str(out),
        "format": kind,
        "shape": list(SHAPE),
        "segments": len(np.unique(expected[expected > 0])),
        "seconds": result["seconds"],
        "peak_memory_mb": result["peak_memory_mb"],
    }
    assert events[-1].done == events[-1].total
    assert left_in(tmp_path) == {out.name}


def provenance(path: Path, kind: str) -> dict:
    if kind.startswith("ome-zarr"):
        return zarr.open_group(path, mode="r").attrs["tokenunify"]
    if kind == "hdf5":
        with h5py.File(path) as file:
            return json.loads(file["volumes/labels/neuron_ids"].attrs["tokenunify"])
    if kind.startswith("csv"):
        return json.loads(path.with_name(f"{path.name}.json").read_text())
    if path.is_dir():
        about = {"n5": "attributes.json", "precomputed": "info", "precomputed-fragments": "info"}
        return json.loads((path / about.get(kind, "provenance.json")).read_text())["tokenunify"]
    with tifffile.TiffFile(path) as tif:
        return json.loads(tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Description"])["tokenunify"]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_says_how_it_was_made(folder, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    run(config_of(folder, out, kind, threshold=0.25, **({} if kind in WHOLE else {"box": "1:5,0:70,7:90"})))
    found = provenance(out, kind)
    assert found["threshold"] == 0.25
    assert found["method"] == "mean"
    assert found["settings"]["made_of"]["model"] == "small"
    assert found["sources"] == {"affinities": "affinities.zarr"}
    assert found["first_voxel"] == (list(ORIGIN) if kind in WHOLE else [4, 0, 12])
    assert found["voxel_size_nm"] == list(SIZE_NM)
    assert found["written_by"].startswith("napari-tokenunify ")


@pytest.mark.parametrize("kind", VOXELS)
def test_a_box_at_another_threshold_lies_where_it_was_cut_out(folder, segmentation, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    result, _ = run(config_of(folder, out, kind, threshold=0.9, box="1:5,0:68,7:90"))
    volume = open_volume(out)
    expected = segmentation.view(0.9)[1:5, :68, 7:]
    np.testing.assert_array_equal(volume.levels[0][:, :, :], expected)
    assert result["segments"] == len(np.unique(expected[expected > 0]))
    if kind != "tiff":
        assert volume.origin_nm == (START_NM[0] + 1 * SIZE_NM[0], START_NM[1], START_NM[2] + 7 * SIZE_NM[2])


def test_a_box_outside_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"reaches outside the segmentation, 0:9,0:70,0:90"):
        run(config_of(folder, tmp_path / "x.tif", "tiff", box="0:10,0:5,0:5"))


@pytest.mark.parametrize("kind", FORMATS)
def test_only_an_earlier_export_is_replaced_and_only_if_that_is_wanted(folder, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    run(config_of(folder, out, kind, threshold=0.0))
    before = provenance(out, kind)
    with pytest.raises(ExportError, match=r"is there already; choose another name, or .*--overwrite"):
        run(config_of(folder, out, kind, threshold=1.0))
    assert provenance(out, kind) == before
    run(config_of(folder, out, kind, threshold=1.0, overwrite=True))
    assert provenance(out, kind)["threshold"] == 1.0
    assert left_in(tmp_path) <= {out.name, f"{out.name}.json"}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_no_export_of_ours_is_never_replaced(folder, tmp_path, kind, raw):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    if kind.startswith("ome-zarr"):
        zarr.create_array(out, data=raw)
    elif kind == "hdf5":
        with h5py.File(out, "w") as file:
            file["volumes/labels/neuron_ids"] = raw
    elif kind == "tiff":
        tifffile.imwrite(out, raw, ome=True)
    elif FORMATS[kind].is_folder:
        out.mkdir()
        for name in ("attributes.json", "info", "provenance.json"):
            (out / name).write_text("{}")
    else:
        out.write_text("id,voxels\n1,2\n")
    before = left_in(tmp_path)
    with pytest.raises(ExportError, match="is no such export of napari-tokenunify"):
        run(config_of(folder, out, kind, overwrite=True))
    assert left_in(tmp_path) == before


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stage_that_is_left_off_leaves_nothing(folder, tmp_path, kind):
    stage = export(config_of(folder, tmp_path / f"x{FORMATS[kind].suffix}", kind))
    next(stage)
    stage.close()
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    "kind", sorted({"ome-zarr", "tiff", "hdf5", "n5", "precomputed", "glb", "swc", "csv"} & {*FORMATS})
)
def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_export(folder, tmp_path, kind):
    """In another process: its files may hold a kilobyte each. HDF5 would take the whole process down."""
    resource = pytest.importorskip("resource")
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    run(config_of(folder, out, kind))
    before = out.stat().st_mtime_ns
    words = [sys.executable, "-B", "-m", "napari_tokenunify", "export", "--segmentation", str(folder)]
    words += ["--format", kind, "--out", str(out), "--overwrite"]  # -B: or half-written bytecode stays behind for all

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=shrink, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"napari-tokenunify: {out}: cannot be written (File too large)")
    assert out.stat().st_mtime_ns == before
    assert left_in(tmp_path) <= {out.name, f"{out.name}.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("kind", ["ome-zarr", "tiff"])
def test_after_a_kill_nothing_looks_whole_and_the_same_command_does_it(folder, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    code = (
        "import os, signal, sys\n"
        "from napari_tokenunify.config import ExportConfig\n"
        "from napari_tokenunify.export import export\n"
        "stage = export(ExportConfig(segmentation=sys.argv[1], out=sys.argv[2], format=sys.argv[3]))\n"
        "next(stage), next(stage)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(out), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert left_in(tmp_path) == {f".{out.name}.part"}
    run(config_of(folder, out, kind))
    assert left_in(tmp_path) == {out.name}
    assert open_volume(out).shape == SHAPE


@pytest.mark.parametrize("kind", [name for name in FORMATS if name not in WHOLE])
def test_no_more_than_a_block_is_read_at_once(folder, tmp_path, kind, monkeypatch):
    from napari_tokenunify.export import content, n5, ome_zarr, precomputed, tiff
    from napari_tokenunify.segment import skeletons
    from napari_tokenunify.segment.fragment_store import StoredFragments

    sizes = []
    plain = StoredFragments.read

    def read(self, index, table=None):
        block = plain(self, index, table)
        sizes.append(block.size)
        return block

    monkeypatch.setattr(StoredFragments, "read", read)
    monkeypatch.setattr(content, "_BLOCK", (4, 32, 32))
    monkeypatch.setattr(ome_zarr, "_CHUNK", (4, 16, 16))
    monkeypatch.setattr(ome_zarr, "_SHARD", (4, 32, 32))
    monkeypatch.setattr(n5, "_CHUNK", (4, 16, 16))
    monkeypatch.setattr(n5, "_BLOCK", (4, 32, 32))
    monkeypatch.setattr(precomputed, "_CHUNK", (2, 16, 16))
    monkeypatch.setattr(precomputed, "_BLOCK", (4, 32, 32))
    monkeypatch.setattr(skeletons, "BLOCK", (3, 31, 31))
    monkeypatch.setattr(tiff, "_SLAB", 4096)
    monkeypatch.setattr(tiff, "_LARGEST_SECTION", 4096)
    monkeypatch.setattr(tiff, "_TILE", 32)
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    _, events = run(config_of(folder, out, kind))
    assert max(sizes) <= 4096
    assert sum(sizes) >= np.prod(SHAPE)
    assert len([event for event in events if isinstance(event, Progress)]) > 5
    if kind in VOXELS:
        assert open_volume(out).checksum() == Volume.from_array(plain_voxels(folder, out)).checksum()


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_made_of_whole_segments_cannot_be_cut(folder, tmp_path, kind):
    with pytest.raises(ExportError, match="a box cannot cut it: name segments"):
        run(config_of(folder, tmp_path / "x", kind, box="1:5,0:70,7:90"))
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize("kind", VOXELS)
def test_only_the_segments_that_are_named_are_written(folder, segmentation, tmp_path, kind):
    out = tmp_path / f"x{FORMATS[kind].suffix}"
    plain = segmentation.view(0.9)[:]
    chosen = np.unique(plain)[[3, 40]].tolist()
    result, _ = run(config_of(folder, out, kind, threshold=0.9, segments=chosen))
    np.testing.assert_array_equal(open_volume(out).levels[0][:, :, :], np.where(np.isin(plain, chosen), plain, 0))
    assert result["segments"] == 2
    assert provenance(out, kind)["segments"] == chosen


def test_a_segment_that_is_not_there_is_said(folder, tmp_path):
    with pytest.raises(ExportError, match="There is no segment 100000 at this threshold"):
        run(config_of(folder, tmp_path / "x", "obj", segments=(100000,)))


def plain_voxels(folder: Path, out: Path) -> np.ndarray:
    from napari_tokenunify.segment import Segmentation

    return Segmentation.open(folder).view()[:].astype(open_volume(out).dtype)


def test_the_command_line_makes_it_and_says_so(folder, tmp_path, capsys):
    out = tmp_path / "x.h5"
    assert main(["export", "--segmentation", str(folder), "--format", "hdf5", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(out)
    assert main(["export", "--segmentation", str(tmp_path), "--out", str(tmp_path / "y.zarr")]) == 1
    assert "is no segmentation" in capsys.readouterr().err
    assert left_in(tmp_path) == {"x.h5"}
