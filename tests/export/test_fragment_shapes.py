from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.export import fragment_shapes
from napari_tokenunify.export.fragment_shapes import FragmentShapes
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, open_edited
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (9, 21, 34)
ONE, TWO, FOUR = (1, 1, 1), (1, 2, 2), (2, 4, 4)


@pytest.fixture
def segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmentation:
    """Twelve fragments with crooked borders, of blocks that divide nothing evenly."""
    monkeypatch.setattr(fragment_shapes, "_BLOCK", (5, 8, 13))
    centres = np.random.default_rng(3).random((12, 3)) * SHAPE
    places = np.moveaxis(np.indices(SHAPE), 0, -1)[:, :, :, None] - centres
    ids = (np.square(places).sum(-1).argmin(-1) + 1).astype(np.uint64)
    ids[:, 3] = 0
    graph = region_graph(ids, np.ones((3, *SHAPE), np.float32), ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))
    spec = {"method": "multicut", "fragments_hash": "crooked"}
    return Segmentation.create(tmp_path / "s", ids, graph, np.ones(graph.nodes + 1, np.uint64), spec=spec)


def cells(shapes: FragmentShapes, of: Segmentation, members: list[int], step: tuple[int, int, int]) -> set:
    """The cells that the pieces name."""
    found = set()
    for first, mask in shapes.occupied(of, members, step):
        found |= {tuple(cell) for cell in (np.argwhere(mask) + first).tolist()}
    return found


def slowly(of: Segmentation, members: list[int], step: tuple[int, int, int]) -> set:
    """The same, voxel by voxel."""
    voxels = np.argwhere(np.isin(of.fragments[:], members)).tolist()
    return {tuple(a // s for a, s in zip(voxel, step, strict=True)) for voxel in voxels}


@pytest.fixture
def reads(segmentation: Segmentation, monkeypatch: pytest.MonkeyPatch) -> list:
    assert segmentation.boxes.any()
    read: list = []
    inner = type(segmentation.fragments).read
    monkeypatch.setattr(
        type(segmentation.fragments), "read", lambda self, *args: read.append(args[0]) or inner(self, *args)
    )
    return read


@pytest.mark.parametrize("step", [ONE, TWO, FOUR])
@pytest.mark.parametrize("members", [[5], [1, 2, 7], list(range(1, 13))])
def test_they_say_where_the_voxels_are(segmentation: Segmentation, members: list[int], step: tuple[int, int, int]):
    assert cells(FragmentShapes(), segmentation, members, step) == slowly(segmentation, members, step)


def test_what_was_read_is_not_read_again(segmentation: Segmentation, reads: list):
    shapes = FragmentShapes()
    first = cells(shapes, segmentation, [1, 2, 7], TWO)
    done = len(reads)
    assert done
    assert cells(shapes, segmentation, [1, 2, 7], TWO) == first
    assert cells(shapes, segmentation, [2], TWO) < first
    assert len(reads) == done


def test_after_a_merge_only_the_new_fragments_are_read(segmentation: Segmentation, reads: list):
    cells(FragmentShapes(), segmentation, [5], TWO)
    alone = list(reads)
    shapes = FragmentShapes()
    cells(shapes, segmentation, [1, 2, 7], TWO)
    reads.clear()
    assert cells(shapes, segmentation, [1, 2, 5, 7], TWO) == slowly(segmentation, [1, 2, 5, 7], TWO)
    assert reads[: len(alone)] == alone
    assert len(reads) == len(alone) + 1  # the last one is of the slow way


def test_larger_cells_are_made_of_smaller_ones_and_smaller_ones_are_read(segmentation: Segmentation, reads: list):
    shapes = FragmentShapes()
    wanted = {step: slowly(segmentation, [3, 4], step) for step in (ONE, TWO, FOUR)}
    cells(shapes, segmentation, [3, 4], TWO)
    reads.clear()
    assert cells(shapes, segmentation, [3, 4], FOUR) == wanted[FOUR]
    assert not reads
    assert cells(shapes, segmentation, [3, 4], ONE) == wanted[ONE]
    assert reads
    reads.clear()
    assert cells(shapes, segmentation, [3, 4], TWO) == wanted[TWO]
    assert not reads


def test_a_fragment_that_was_divided_is_another_one_and_the_same_again_once_that_is_undone(segmentation: Segmentation):
    shapes = FragmentShapes()
    members = [5]
    before = cells(shapes, segmentation, members, ONE)
    z, y, x = segmentation.boxes[5].reshape(2, 3).T.tolist()
    middle = (x[0] + x[1]) // 2
    box = Box((z[0], y[0], middle), (z[1], y[1], middle + 1))
    with Proofreading.open(segmentation) as proofreading:
        proofreading.cut(np.ones(box.shape, bool), box, fragment=5)
        divided = open_edited(segmentation.folder)
        less = cells(shapes, divided, members, ONE)
        assert less == slowly(divided, members, ONE)
        assert less < before
        proofreading.undo()
    assert cells(shapes, open_edited(segmentation.folder), members, ONE) == before


def test_no_more_is_kept_than_may_be_and_the_last_used_stays(segmentation: Segmentation, reads: list):
    shapes = FragmentShapes(most_bytes=4000)
    for fragment in itertools.chain(range(1, 13), [12]):
        cells(shapes, segmentation, [fragment], ONE)
    reads.clear()
    cells(shapes, segmentation, [12], ONE)
    assert not reads
    cells(shapes, segmentation, [1], ONE)
    assert reads
    assert sum(shape.n_bytes for shape in shapes._kept.values()) == shapes._bytes <= 4000
