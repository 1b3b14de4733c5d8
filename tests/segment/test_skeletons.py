from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_tokenunify.segment import skeletons
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.skeletons import block_skeletons, joined_skeleton

SHAPE = (12, 40, 50)


def tubes() -> np.ndarray:
    """Two neurons: one is bent and runs through all blocks, one is straight; a third is a speck."""
    ids = np.zeros(SHAPE, np.uint64)
    ids[2:7, 4:9, :] = 2**40
    ids[2:7, 4:36, 42:47] = 2**40
    ids[8:11, 20:25, 3:40] = 7
    ids[0, 39, 0] = 9
    return ids


def made(ids: np.ndarray, size: tuple[float, float, float] | None, block: tuple[int, int, int]) -> dict:
    grid = BlockGrid(ids.shape, block, (0, 0, 0))
    parts = [block_skeletons(lambda box: ids[box.slices], grid, block, size) for block in grid]
    numbers = sorted({number for part in parts for number in part})
    return {number: joined_skeleton([part[number] for part in parts if number in part], size) for number in numbers}


def pieces(skeleton) -> int:
    n = len(skeleton.nodes)
    graph = coo_array((np.ones(len(skeleton.edges)), skeleton.edges.astype(int).T), shape=(n, n))
    return connected_components(graph, directed=False)[0]


def length(skeleton, size) -> float:
    ends = skeleton.nodes[skeleton.edges.astype(int)] * size
    return float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum())


@pytest.mark.parametrize("size", [(40.0, 20.0, 20.0), None])
@pytest.mark.parametrize("block", [SHAPE, (7, 20, 11), (11, 39, 49)])
def test_a_neuron_is_one_tree_inside_of_it_whatever_the_blocks(block, size):
    ids = tubes()
    found = made(ids, size, block)
    assert list(found) == [7, 9, 2**40]
    for number, skeleton in found.items():
        assert set(ids[tuple(skeleton.nodes.T)].tolist()) == {number}
        assert pieces(skeleton) == 1
        assert len(skeleton.edges) == len(skeleton.nodes) - 1
    assert len(found[9].nodes) == 1
    units = size or (1.0, 1.0, 1.0)
    assert 0.9 < length(found[7], units) / (36 * units[2]) < 1.8  # a neurite that lies along a border of blocks
    assert 0.9 < length(found[2**40], units) / ((44 + 30) * units[2]) < 1.8


def test_nodes_lie_in_the_middle_and_radii_are_in_nm():
    found = made(tubes(), (40.0, 20.0, 20.0), (12, 16, 16))[7]
    middle = found.nodes[(found.nodes[:, 2] > 8) & (found.nodes[:, 2] < 35)]
    assert (np.abs(middle[:, :2] - (9, 22)) <= 1).all()
    assert 40 <= np.median(found.radii) <= 80


def test_the_default_blocks_cover_a_volume():
    assert len(skeletons.skeleton_blocks((200, 300, 10))) == 4
