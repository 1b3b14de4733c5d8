from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.config import FragmentsConfig
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import open_affinities, stitch, write_affinities
from napari_tokenunify.segment.block_work import BlockWork
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.settle import number_blocks, rounds, settle_block, settled_ids

SHAPE, CORE, HALO = (1, 12, 16), (1, 12, 8), (0, 0, 8)


@pytest.fixture
def work(tmp_path: Path) -> BlockWork:
    """Two blocks side by side, with affinities of 1 everywhere."""
    path = write_affinities(tmp_path / "a.zarr", np.full((3, *SHAPE), 255, np.uint8))
    (tmp_path / "s" / "work").mkdir(parents=True)
    grid = BlockGrid(SHAPE, CORE, HALO)
    return BlockWork(tmp_path / "s", open_affinities(path), (0, 0, 0), grid, FragmentsConfig(min_fragment_size=0))


def settled(work: BlockWork, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the ids when the two blocks have cut all of the volume like this."""
    cuts = []
    for block, cut in zip(work.grid, (left, right), strict=True):
        ids = np.broadcast_to(cut, block.outer.shape).astype(np.uint32)
        inside = np.unique(ids[block.inner.slices])
        assert (inside == np.arange(1, len(inside) + 1)).all()
        work.save_voxels("cut", block, ids)
        cuts.append({"core": len(inside), "all": int(ids.max())})
    for block in work.grid:
        stitch.match_block(work, block)
    stitch.join_blocks(work, cuts)
    for part in rounds(work.grid):
        for block in part:
            settle_block(work, block)
    number_blocks(work)
    return settled_ids(work, Box.whole(SHAPE))[0]


def test_what_both_have_cut_alike_stays_as_it_is(work: BlockWork):
    rows = np.repeat([1, 2], 6)[:, None]
    assert (settled(work, rows, rows) == rows).all()


def test_a_piece_without_a_partner_does_not_end_at_the_face(work: BlockWork):
    """The right block has cut off its lowest rows, which the left one has in one piece with the others."""
    found = settled(work, np.array([[1]]), np.where(np.arange(12) < 9, 1, 2)[:, None])
    assert (found[:, 7] == found[:, 8]).all()
    assert found[11, 15] != found[0, 15]  # far from the face the right block is believed


def test_a_border_in_another_place_is_met_without_a_step(work: BlockWork):
    found = settled(work, np.where(np.arange(12) < 5, 1, 2)[:, None], np.where(np.arange(12) < 8, 1, 2)[:, None])
    assert (found[:, 7] != found[:, 8]).sum() <= 1  # of the 3 voxels that the blocks disagree on
    assert (found[:, 15] == np.where(np.arange(12) < 8, found[0, 0], found[11, 0])).all()


def test_nothing_grows_over_a_boundary(tmp_path: Path, work: BlockWork):
    """Between the two pieces of the right block there is a boundary, which the left one has missed."""
    affinities = np.full((3, *SHAPE), 255, np.uint8)
    affinities[1, :, 9, 8:] = 0
    affinities[2, :, 9:, 8] = 0
    store = open_affinities(write_affinities(tmp_path / "b.zarr", affinities))
    cut = BlockWork(work.folder, store, work.start, work.grid, work.config)
    found = settled(cut, np.array([[1]]), np.where(np.arange(12) < 9, 1, 2)[:, None])
    assert (found[:9] == found[0, 0]).all()
    assert (found[9:, 8:] == found[11, 15]).all()
    assert found[11, 15] != found[0, 0]


def test_no_two_blocks_of_a_round_touch():
    grid = BlockGrid((9, 10, 11), (2, 3, 4), (1, 1, 1))
    parts = rounds(grid)
    assert sorted(block.index for part in parts for block in part) == list(range(len(grid)))
    for part in parts:
        for block in part:
            near = set(grid.touching(block.core.grown((1, 1, 1)).clipped(grid.shape)))
            assert near & set(part) == {block}


def test_a_box_touches_the_blocks_that_share_voxels_with_it():
    grid = BlockGrid((5, 7, 11), (2, 3, 4), (1, 1, 1))
    for box in (Box((0, 0, 0), (1, 1, 1)), Box((1, 2, 3), (3, 4, 5)), Box((2, 3, 4), (4, 6, 8)), Box.whole(grid.shape)):
        assert list(grid.touching(box)) == [block for block in grid if block.core.overlap(box)]
