from __future__ import annotations

import errno
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.blocks.grid import BUDGET_BYTES, Block, BlockGrid, fitting_core
from napari_tokenunify.segment.blocks.run import run_blocks
from napari_tokenunify.segment.blocks.workers import Workers

GRID = BlockGrid((5, 7, 11), (2, 4, 4), (1, 2, 3))


def touch(folder: Path, block: Block) -> dict:
    """Leave a line a call, and fail where a file says so."""
    with (folder / "calls").open("a") as file:
        file.write(f"{block.core}\n")
    if (folder / f"fail {block.index}").exists():
        raise ValueError("a bad block")
    return {"start": list(block.core.start), "voxels": int(np.prod(block.core.shape))}


def full(folder: Path, block: Block) -> dict:
    touch(folder, block)
    if block.index == 3:
        raise SegmentError("cannot be written") from OSError(errno.ENOSPC, "No space left on device")
    return {}


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def run(folder: Path, function=touch, number: int = 1) -> list:
    with Workers(number) as workers:
        return list(run_blocks(partial(function, folder), list(GRID), folder / "pass.jsonl", workers))


@pytest.mark.parametrize("shape", [(5, 7, 11), (4, 8, 8), (1, 1, 1), (2, 4, 5)])
def test_cores_tile_the_volume_and_lie_in_their_halo(shape: tuple[int, int, int]):
    grid = BlockGrid(shape, GRID.core, GRID.halo)
    owned, number = np.zeros(shape, int), np.arange(np.prod(shape)).reshape(shape)
    for index, block in enumerate(grid):
        assert block.index == index
        assert grid.at(block.position) == block
        owned[block.core.slices] += 1
        assert block.outer == block.core.grown(GRID.halo).clipped(shape)
        assert (number[block.outer.slices][block.inner.slices] == number[block.core.slices]).all()
    assert (owned == 1).all()
    assert len(list(grid)) == len(grid)


def test_above_a_block_lie_those_that_begin_where_it_ends():
    for block in GRID:
        above = dict(GRID.above(block))
        for axis in range(3):
            expected = [
                other
                for other in GRID
                if other.core.start[axis] == block.core.stop[axis]
                and all(other.core.start[a] == block.core.start[a] for a in range(3) if a != axis)
            ]
            assert [above[axis]] == expected if expected else axis not in above


def test_a_block_stays_within_its_memory_and_is_a_multiple_of_chunks():
    for voxel_bytes in (10, 80, 800, 8000):
        core = fitting_core((10_000, 10_000, 10_000), (8, 8, 8), (4, 128, 128), voxel_bytes)
        assert all(c % m == 0 for c, m in zip(core, (4, 128, 128), strict=True))
        smallest = core == (4, 128, 128)
        assert np.prod([c + 16 for c in core]) * voxel_bytes <= BUDGET_BYTES or smallest
    assert fitting_core((10, 100, 300), (8, 8, 8), (4, 128, 128), 10) == (12, 128, 384)


def test_every_block_is_done_once_and_marked(tmp_path: Path):
    answers = run(tmp_path)
    assert [answer.block for answer in answers] == list(GRID)
    assert sum(answer.result["voxels"] for answer in answers) == 5 * 7 * 11
    again = run(tmp_path)
    assert [answer.result for answer in again] == [answer.result for answer in answers]
    assert len(calls(tmp_path)) == len(GRID)


def test_a_run_that_was_cut_off_goes_on_and_ignores_a_torn_mark(tmp_path: Path):
    with Workers() as workers:
        begun = run_blocks(partial(touch, tmp_path), list(GRID), tmp_path / "pass.jsonl", workers)
        for _ in range(5):
            next(begun)
        begun.close()
    marks = tmp_path / "pass.jsonl"
    whole = marks.read_bytes()
    marks.write_bytes(whole[:-9])
    assert len(run(tmp_path)) == len(GRID)
    assert calls(tmp_path).count(str(GRID.at((0, 0, 0)).core)) == 1
    assert len(calls(tmp_path)) == len(GRID) + 1  # the torn one once more
    assert len([json.loads(line) for line in marks.read_text().splitlines()]) == len(GRID)


@pytest.mark.parametrize("number", [1, 2])
def test_a_failed_block_is_named_and_the_others_are_done(tmp_path: Path, number: int):
    (tmp_path / "fail 4").touch()
    core = list(GRID)[4].core
    with pytest.raises(SegmentError, match=f"1 of {len(GRID)} blocks failed at pass: {core} \\(ValueError: a bad"):
        run(tmp_path, number=number)
    (tmp_path / "fail 4").unlink()
    assert len(run(tmp_path)) == len(GRID)
    assert len(calls(tmp_path)) == len(GRID) + 1
    assert calls(tmp_path)[-1] == str(core)


def test_a_full_disk_stops_the_run_at_once(tmp_path: Path):
    with pytest.raises(SegmentError, match="the disk is full; make room and run the same command again"):
        run(tmp_path, full)
    assert len(calls(tmp_path)) == 4
    assert len((tmp_path / "pass.jsonl").read_text().splitlines()) == 3


def test_damaged_marks_are_said_in_one_sentence(tmp_path: Path):
    (tmp_path / "pass.jsonl").write_text("{}\n")
    with pytest.raises(SegmentError, match=r"pass\.jsonl: is damaged; start again with --overwrite"):
        run(tmp_path)
