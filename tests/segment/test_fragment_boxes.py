from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.segment import Segmentation, fragment_boxes
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (9, 20, 31)


@pytest.fixture
def segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmentation:
    """Fragments 1 to 12 at random, but no 7; several blocks."""
    monkeypatch.setattr(fragment_boxes, "_BLOCK", (4, 8, 8))
    ids = np.random.default_rng(0).choice([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12], SHAPE).astype(np.uint64)
    ids[ids == 12] = 0
    ids[3, 5, 2:30] = 12
    graph = region_graph(ids, np.ones((3, *SHAPE), np.float32), DEFAULT_OFFSETS)
    return Segmentation.create(tmp_path / "s", ids, graph, np.arange(13, dtype=np.uint64))


def slow_boxes(ids: np.ndarray) -> list[list[int]]:
    boxes = [[0] * 6]
    for fragment in range(1, 13):
        places = np.argwhere(ids == fragment)
        boxes.append([*places.min(axis=0), *(places.max(axis=0) + 1)] if len(places) else [0] * 6)
    return boxes


def test_boxes_are_those_of_a_search_for_each_fragment(segmentation: Segmentation):
    assert segmentation.boxes.tolist() == slow_boxes(segmentation.fragments[:])
    assert segmentation.boxes.dtype == np.int32


def test_boxes_are_found_once_and_kept(segmentation: Segmentation, monkeypatch: pytest.MonkeyPatch):
    wanted = segmentation.boxes
    monkeypatch.setattr(fragment_boxes, "_grow", None)
    assert np.array_equal(Segmentation.open(segmentation.folder).boxes, wanted)


@pytest.mark.parametrize("content", [b"damaged", b""])
def test_boxes_that_cannot_be_read_are_found_anew(segmentation: Segmentation, content: bytes):
    (segmentation.folder / "graph" / "boxes.npy").write_bytes(content)
    assert segmentation.boxes[12].tolist() == [3, 5, 2, 4, 6, 30]
    assert np.load(segmentation.folder / "graph" / "boxes.npy").shape == (13, 6)
