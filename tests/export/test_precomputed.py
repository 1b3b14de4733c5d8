from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from napari_tokenunify.data import open_volume
from napari_tokenunify.errors import ExportError
from napari_tokenunify.events import Message
from napari_tokenunify.export import Content, Segments, precomputed, write_export
from napari_tokenunify.geometry import Box
from tests.export.conftest import ORIGIN, ORIGIN_NM, SIZE_NM
from tests.export.test_pyramid import slow_majority

tensorstore = pytest.importorskip("tensorstore", reason="the extra 'precomputed' is not installed")


@pytest.fixture
def many_shards(monkeypatch):
    monkeypatch.setattr(precomputed, "_CHUNK", (4, 8, 8))
    monkeypatch.setattr(precomputed, "_BLOCK", (8, 16, 16))


def opened(path, scale=0):
    kvstore = {"driver": "file", "path": f"{path}/"}
    return tensorstore.open({"driver": "neuroglancer_precomputed", "kvstore": kvstore, "scale_index": scale}).result()


def test_tensorstore_reads_every_scale_where_it_lies(many_shards, segmentation, tmp_path):
    out = tmp_path / "x.precomputed"
    list(write_export(Segments.of(segmentation), out, "precomputed"))
    finest = segmentation.view()[:]
    z, y, x = (a + round(f / s) for a, f, s in zip(ORIGIN, ORIGIN_NM, SIZE_NM, strict=True))
    store = opened(out)
    assert store.domain.inclusive_min[:3] == (x, y, z)
    assert store.dimension_units[0] == tensorstore.Unit("5 nm")
    np.testing.assert_array_equal(store[..., 0].read().result().T, finest)
    np.testing.assert_array_equal(opened(out, 1)[..., 0].read().result().T, slow_majority(finest, (1, 2, 2)))


def test_a_shard_is_written_once_and_holds_a_block(many_shards, segmentation, tmp_path, monkeypatch):
    out = tmp_path / "x.precomputed"
    list(write_export(Segments.of(segmentation), out, "precomputed"))
    z, y, x = (-(-n // b) for n, b in zip(segmentation.shape, (8, 16, 16), strict=True))
    shards = sorted(out.glob("5_4_40/*.shard"))
    assert len(shards) == z * y * x


def test_neuroglancer_is_told_what_segments_there_are(segmentation, tmp_path):
    out = tmp_path / "x.precomputed"
    list(write_export(Segments.of(segmentation, box=Box((1, 5, 7), (6, 66, 80))), out, "precomputed"))
    info = json.loads((out / "info").read_text())
    assert (info["type"], info["data_type"], info["segment_properties"]) == (
        "segmentation",
        "uint32",
        "segment_properties",
    )
    assert info["scales"][0]["encoding"] == "compressed_segmentation"
    inline = json.loads((out / "segment_properties" / "info").read_text())["inline"]
    ids, counts = np.unique(segmentation.view()[1:6, 5:66, 7:80], return_counts=True)
    assert inline["ids"] == [str(i) for i in ids.tolist() if i]
    properties = {entry["id"]: entry["values"] for entry in inline["properties"]}
    assert properties["voxels"] == counts[ids > 0].tolist()
    assert properties["volume_um3"] == pytest.approx((counts[ids > 0] * 40 * 4 * 5 / 1e9).tolist())


def test_fragments_seen_through_the_map_are_the_segments(segmentation, fragments, tmp_path):
    out = tmp_path / "x.precomputed"
    list(write_export(Segments.of(segmentation, 0.9), out, "precomputed-fragments"))
    voxels = open_volume(out).levels[0][:, :, :]
    np.testing.assert_array_equal(voxels, fragments)
    with (out / "agglomeration.csv").open(newline="") as file:
        rows = [(int(row["fragment"]), int(row["segment"])) for row in csv.DictReader(file)]
    table = np.zeros(int(fragments.max()) + 1, np.uint64)
    for fragment, segment in rows:
        table[fragment] = segment
    np.testing.assert_array_equal(table[voxels], segmentation.view(0.9)[:])
    layer = json.loads((out / "neuroglancer_layer.json").read_text())
    assert layer["source"] == "precomputed://http://HOST/x.precomputed"
    for group in layer["equivalences"]:
        assert len(group) > 1
        assert len({table[int(fragment)] for fragment in group}) == 1
    assert sum(map(len, layer["equivalences"])) == sum(n for n in np.bincount(table.astype(int))[1:] if n > 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16"])
def test_images_keep_their_values(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, 99, (5, 30, 70)).astype(dtype)
    content = Content.of_array(image, is_labels=False, voxel_size_nm=(40.0, 4.0, 4.0))
    list(write_export(content, tmp_path / "x.precomputed", "precomputed"))
    np.testing.assert_array_equal(open_volume(tmp_path / "x.precomputed").levels[0][:, :, :], image)


def test_large_ids_are_kept(tmp_path):
    ids = np.random.default_rng(0).integers(0, 5, (5, 30, 70)).astype(np.uint64) * np.uint64(2**60)
    content = Content.of_array(ids, is_labels=True, voxel_size_nm=(40.0, 4.0, 4.0))
    list(write_export(content, tmp_path / "x.precomputed", "precomputed"))
    np.testing.assert_array_equal(open_volume(tmp_path / "x.precomputed").levels[0][:, :, :], ids)


def test_what_neuroglancer_cannot_show_is_said(tmp_path, monkeypatch):
    ids = np.ones((2, 3, 4), np.int64)
    with pytest.raises(ExportError, match="shows no voxels of the type int64"):
        list(write_export(Content.of_array(ids, is_labels=True), tmp_path / "x", "precomputed"))
    plain = Content.of_array(ids.astype(np.uint32), is_labels=True)
    with pytest.raises(ExportError, match="has no fragments"):
        list(write_export(plain, tmp_path / "x", "precomputed-fragments"))
    events = list(write_export(plain, tmp_path / "y", "precomputed"))
    assert any(isinstance(event, Message) and "1 nm is written" in event.text for event in events)
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ExportError, match=r"pip install 'napari-tokenunify\[precomputed\]'"):
        list(write_export(plain, tmp_path / "x", "precomputed"))
    assert [path.name for path in tmp_path.iterdir()] == ["y"]
