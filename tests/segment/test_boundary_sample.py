from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.config import FragmentsConfig
from napari_tokenunify.data import Volume
from napari_tokenunify.events import Message
from napari_tokenunify.segment import open_affinities, write_affinities
from napari_tokenunify.segment.block_work import BlockWork, PlacedVolume
from napari_tokenunify.segment.blocks.grid import BlockGrid
from napari_tokenunify.segment.boundary_sample import _pieces, sampled_threshold

SHAPE = (12, 40, 40)


def work_on(folder: Path, affinities: np.ndarray, core: tuple[int, int, int] = SHAPE) -> BlockWork:
    path = write_affinities(folder / "a.zarr", affinities, DEFAULT_OFFSETS, (8.0, 8.0, 8.0))
    grid = BlockGrid(SHAPE, core, (4, 8, 8))
    return BlockWork(folder / "s", open_affinities(path), (0, 0, 0), grid, FragmentsConfig())


def sampled(work: BlockWork, says: str = "") -> float:
    stage, said = sampled_threshold(work), []
    while True:
        try:
            event = next(stage)
            if isinstance(event, Message):
                said.append(event.text)
        except StopIteration as end:
            assert len(said) == bool(says)
            assert says in "".join(said)
            return float(end.value)


def unsure(boundary: float) -> np.ndarray:
    return np.where(np.random.default_rng(0).random((3, *SHAPE)) < 0.1, 1 - boundary, 0.9).astype(np.float32)


def test_it_is_that_of_the_volume_however_it_is_cut_into_blocks(tmp_path: Path) -> None:
    work = work_on(tmp_path, unsure(0.6))
    found = sampled(work)
    assert found == pytest.approx(0.54, abs=0.005)
    assert sampled(replace(work, grid=BlockGrid(SHAPE, (6, 16, 16), (4, 8, 8)))) == found


def test_what_the_mask_leaves_out_does_not_count(tmp_path: Path) -> None:
    affinities = unsure(0.6)
    affinities[:, :, :, 20:] = 0  # an artefact: boundary everywhere
    work = work_on(tmp_path, affinities)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, :20] = 1
    placed = PlacedVolume(Volume.from_array(mask, (8.0, 8.0, 8.0), "mask"), (0, 0, 0))
    assert sampled(work) == 0.85
    assert sampled(replace(work, mask=placed)) == pytest.approx(0.54, abs=0.005)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    work = work_on(tmp_path, unsure(0.6))
    for chunk in (tmp_path / "a.zarr").rglob("c/*/*/*/*"):
        if chunk.is_file():
            chunk.unlink()
    assert sampled(work, "None of the 1 places") == 0.85


def test_a_mask_that_no_sampled_place_lies_in_is_told(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    placed = PlacedVolume(Volume.from_array(mask, (8.0, 8.0, 8.0), "mask"), (0, 0, 0))
    says = "give a lower --boundary-threshold"
    assert sampled(replace(work_on(tmp_path, unsure(0.6)), mask=placed), says) == 0.85


def test_a_thin_volume_is_seen_along_z_too(tmp_path: Path) -> None:
    affinities = np.full((3, 4, 40, 40), 0.95, np.float32)
    affinities[0, 2] = 0.4  # a wall between two sections, and nothing else
    path = write_affinities(tmp_path / "a.zarr", affinities, DEFAULT_OFFSETS, (8.0, 8.0, 8.0))
    grid = BlockGrid((4, 40, 40), (4, 40, 40), (0, 0, 0))
    work = BlockWork(tmp_path / "s", open_affinities(path), (0, 0, 0), grid, FragmentsConfig())
    assert sampled(work) == pytest.approx(0.54, abs=0.005)


@pytest.mark.parametrize("shape", [(1, 2, 50), (12, 40, 40), (5000, 9000, 8999)])
def test_pieces_lie_inside_and_apart(shape: tuple[int, int, int]) -> None:
    pieces = list(_pieces(shape))
    assert all(piece.clipped(shape) == piece for piece in pieces)
    assert not any(one.overlap(other) for one in pieces for other in pieces if one is not other)
    assert sum(np.prod(piece.shape) for piece in pieces) <= 27 * 96**3
