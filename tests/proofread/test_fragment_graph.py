from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.geometry import Box
from napari_tokenunify.proofread import Proofreading, open_edited
from napari_tokenunify.segment import Segmentation
from napari_tokenunify.segment.region_graph import region_graph

SHAPE = (3, 8, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fragment 1 over 2 (left) and 3 (right); each contact with a spread of its own."""
    ids = np.full(SHAPE, 1, np.uint64)
    ids[:, 4:, :6], ids[:, 4:, 6:] = 2, 3
    graph = region_graph(ids, np.full((3, *SHAPE), 0.5, np.float32), DEFAULT_OFFSETS)
    assert graph.edges.tolist() == [[1, 2], [1, 3], [2, 3]]
    graph = replace(graph, spread=np.array([0.1, 0.2, 0.3], np.float32))
    Segmentation.create(tmp_path / "s", ids, graph, np.array([0, 1, 1, 1], np.uint64))
    return tmp_path / "s"


def spreads(graph) -> dict[tuple[int, int], float]:
    return {(u, v): pytest.approx(s) for (u, v), s in zip(graph.edges.tolist(), graph.spread.tolist(), strict=True)}


def test_the_spread_is_kept_on_the_disk_and_read_again(folder: Path):
    with Proofreading.open(folder) as proofreading:
        assert spreads(proofreading.graph) == {(1, 2): 0.1, (1, 3): 0.2, (2, 3): 0.3}


def test_the_parts_of_a_fragment_have_the_spread_of_its_contacts_and_none_between_them(folder: Path):
    with Proofreading.open(folder) as proofreading:
        proofreading.cut(np.ones((3, 4, 1), bool), Box((0, 0, 3), (3, 4, 4)), fragment=1)
        # 4 is the smaller part, on the left
        wanted = {(1, 2): 0.1, (1, 3): 0.2, (1, 4): 0.0, (2, 3): 0.3, (2, 4): 0.1}
        assert spreads(proofreading.graph) == wanted
        assert spreads(open_edited(folder).graph) == wanted
        proofreading.undo()
    assert spreads(open_edited(folder).graph) == {(1, 2): 0.1, (1, 3): 0.2, (2, 3): 0.3}


def test_a_graph_without_spread_stays_without(folder: Path):
    (folder / "graph" / "spread.npy").unlink()
    with Proofreading.open(folder) as proofreading:
        proofreading.cut(np.ones((3, 4, 1), bool), Box((0, 0, 3), (3, 4, 4)), fragment=1)
        assert proofreading.graph.spread is None
