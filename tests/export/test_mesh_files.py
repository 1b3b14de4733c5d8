from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from napari_tokenunify.export import Segments, write_export
from tests.export.conftest import ORIGIN, ORIGIN_NM, SIZE_NM

PLAIN = ["obj", "ply", "glb"]


@pytest.fixture
def chosen(segmentation):
    """Three segments of the table at 0.7."""
    ids = np.unique(segmentation.at(0.7))[[1, 20, 80]].tolist()
    return Segments.of(segmentation, 0.7).only(ids), ids


def check(vertices, faces, segmentation, segment):
    """A closed surface that looks outwards, around the voxels of the segment, in nm (x, y, z)."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    where = np.argwhere(segmentation.view(0.7)[:] == segment)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(len(where) * np.prod(SIZE_NM), rel=0.35)  # edges are cut off
    size = np.array(SIZE_NM)[::-1]
    low, high = (where.min(0) + ORIGIN)[::-1] * size, (where.max(0) + 1 + ORIGIN)[::-1] * size
    np.testing.assert_allclose(mesh.bounds - np.array(ORIGIN_NM)[::-1], [low, high], atol=1e-3)


@pytest.mark.parametrize("kind", PLAIN)
def test_trimesh_reads_a_file_for_each_segment(segmentation, chosen, tmp_path, kind):
    content, ids = chosen
    out = tmp_path / "x.meshes"
    list(write_export(content, out, kind))
    assert {path.name for path in out.iterdir()} == {*(f"{segment}.{kind}" for segment in ids), "provenance.json"}
    for segment in ids:
        mesh = trimesh.load_mesh(out / f"{segment}.{kind}", process=False)
        check(mesh.vertices, mesh.faces, segmentation, segment)
    assert content.count == 3


def test_neuroglancer_finds_the_triangles_of_each_segment(segmentation, chosen, tmp_path):
    content, ids = chosen
    out = tmp_path / "x.meshes"
    list(write_export(content, out, "precomputed-meshes"))
    info = json.loads((out / "info").read_text())
    assert info["@type"] == "neuroglancer_legacy_mesh"
    inline = json.loads((out / info["segment_properties"] / "info").read_text())["inline"]
    assert inline["ids"] == [str(segment) for segment in ids]
    for segment, voxels in zip(ids, inline["properties"][0]["values"], strict=True):
        assert voxels == np.count_nonzero(segmentation.view(0.7)[:] == segment)
        (name,) = json.loads((out / f"{segment}:0").read_text())["fragments"]
        data = (out / name).read_bytes()
        count = int.from_bytes(data[:4], "little")
        vertices = np.frombuffer(data, "<f4", 3 * count, 4).reshape(-1, 3)
        faces = np.frombuffer(data, "<u4", offset=4 + vertices.nbytes).reshape(-1, 3)
        check(vertices, faces, segmentation, segment)


def test_by_default_all_segments_are_written(segmentation, tmp_path):
    out = tmp_path / "x.meshes"
    content = Segments.of(segmentation, 1.0)
    list(write_export(content, out, "ply"))
    ids = np.unique(segmentation.view(1.0)[:])
    assert {path.stem for path in out.glob("*.ply")} == {str(i) for i in ids.tolist() if i}
    assert content.count == len(ids[ids > 0])
