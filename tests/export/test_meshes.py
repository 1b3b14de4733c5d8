from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.export import Mesh, fragment_shapes, segment_mesh
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import region_graph

SIZE_NM = (40.0, 4.0, 4.0)
BALL, ROD, CORNER = 3, 4, 5
SHAPE = (24, 80, 90)


def made(folder: Path, ids: np.ndarray, **spec: object) -> Segmentation:
    graph = region_graph(ids, np.ones((3, *ids.shape), np.float32), ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))
    table = np.arange(graph.nodes + 1, dtype=np.uint64)
    table[1:3] = 2  # two halves of a ball
    return Segmentation.create(folder, ids, graph, table, spec={"method": "multicut", "voxel_size_nm": SIZE_NM, **spec})


@pytest.fixture
def segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmentation:
    """A ball of two fragments, a rod of one voxel across the volume, and a box in a corner."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ids = np.zeros(SHAPE, np.uint64)
    ball = ((z - 10) * 10) ** 2 + (y - 40.0) ** 2 + (x - 40.0) ** 2 < 28**2
    ids[ball & (x < 42)] = 1
    ids[ball & (x >= 42)] = 2
    ids[20, 70, :] = ROD
    ids[:4, :7, 60:] = CORNER
    monkeypatch.setattr(fragment_shapes, "_BLOCK", (8, 16, 32))
    return made(tmp_path / "s", ids)


def volume_nm3(mesh: Mesh) -> float:
    """Of what the surface encloses, by the theorem of Gauss."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
    return abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum())) / 6


def is_closed(mesh: Mesh) -> bool:
    """Whether each edge has a triangle on both sides, in both directions."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    there, back = (np.unique(pairs, axis=0, return_counts=True) for pairs in (edges, edges[:, ::-1]))
    return bool(np.array_equal(there[0], back[0]) and np.array_equal(there[1], back[1]))


def test_a_ball_has_its_volume_and_its_place(segmentation: Segmentation):
    voxels = segmentation.sizes[1] + segmentation.sizes[2]
    name = int(segmentation.table[1])
    mesh = segment_mesh(segmentation, name)
    assert mesh.step == (1, 1, 1)
    assert mesh.vertices.dtype == np.float32
    assert is_closed(mesh)
    assert volume_nm3(mesh) == pytest.approx(voxels * np.prod(SIZE_NM), rel=0.05)
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    np.testing.assert_allclose(middle, np.multiply((10, 40, 40), SIZE_NM), atol=1)


def test_a_segment_too_large_is_seen_coarser_and_thin_neurites_do_not_break(segmentation: Segmentation):
    mesh = segment_mesh(segmentation, int(segmentation.table[1]), max_voxels=3000)
    assert mesh.step == (1, 4, 4)  # the coarse axis z stays
    assert is_closed(mesh)
    fine = volume_nm3(segment_mesh(segmentation, int(segmentation.table[1])))
    assert fine < volume_nm3(mesh) < 1.5 * fine
    rod = segment_mesh(segmentation, ROD, max_voxels=20)
    assert rod.step[2] > 1
    assert np.ptp(rod.vertices[:, 2]) >= (SHAPE[2] - 1) * SIZE_NM[2] * 0.9
    parts = {int(vertex) for vertex in rod.vertices[:, 2] // 40}
    assert parts >= set(range(1, 8))  # no gap on the way


@pytest.mark.parametrize("segment", [CORNER, ROD])
def test_a_segment_at_the_border_is_closed(segmentation: Segmentation, segment: int):
    mesh = segment_mesh(segmentation, segment)
    assert is_closed(mesh)
    expected = segmentation.sizes[segment] * np.prod(SIZE_NM)
    assert (0.4 if segment == ROD else 0.9) * expected < volume_nm3(mesh) < expected  # marching cubes cuts corners


def test_the_place_counts_from_the_volume_and_not_from_the_box(segmentation: Segmentation, tmp_path: Path):
    ids = segmentation.fragments[:]
    moved = made(tmp_path / "moved", ids, origin=(3, 0, 5))
    shift = segment_mesh(moved, CORNER).vertices - segment_mesh(segmentation, CORNER).vertices
    np.testing.assert_allclose(shift, np.broadcast_to(np.multiply((3, 0, 5), SIZE_NM), shift.shape), atol=1e-3)


@pytest.mark.parametrize("segment", [0, 77, -3])
def test_an_id_that_is_not_there_is_said_in_one_sentence(segmentation: Segmentation, segment: int):
    with pytest.raises(SegmentError, match=rf"^There is no segment {segment} at this threshold: pick one"):
        segment_mesh(segmentation, segment)


def test_only_blocks_of_the_segment_are_read_once_the_boxes_are_known(
    segmentation: Segmentation, monkeypatch: pytest.MonkeyPatch
):
    assert segmentation.boxes.any()
    again = Segmentation.open(segmentation.folder)
    read = []
    inner = type(again.fragments).read
    monkeypatch.setattr(type(again.fragments), "read", lambda self, *args: read.append(args[0]) or inner(self, *args))
    segment_mesh(again, ROD)
    assert len(read) == 3  # of 90 blocks
