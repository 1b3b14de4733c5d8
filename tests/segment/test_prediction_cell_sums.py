from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_tokenunify.segment.affinity_writer import AffinityLayout, AffinityWriter
from napari_tokenunify.segment.prediction.behind import Behind
from napari_tokenunify.segment.prediction.cell_sums import CellSums
from napari_tokenunify.segment.prediction.tiles import TileGrid
from tests.segment.fake_networks import bytes_of, small_cells

SHAPE = (6, 20, 20)


@pytest.fixture
def setting(tmp_path, monkeypatch):
    small_cells(monkeypatch)
    layout = AffinityLayout(SHAPE, ((0, 0, -1), (0, -1, 0)), uncertainty=True)
    grid = TileGrid.cover(SHAPE, (4, 9, 7), 0.3, layout.cell)
    rng = np.random.default_rng(0)
    tiles = list(itertools.product(*(range(len(starts)) for starts in grid.starts)))
    shares = {tile: rng.integers(0, 5000, (3, *grid.tile)).astype(np.uint16) for tile in tiles}

    class Setting:
        def open(self, name):
            path = tmp_path / name
            return AffinityWriter(path, layout) if path.exists() else AffinityWriter.create(path, layout)

        def run(self, name, order, again=1, **options):
            writer, behind = self.open(name), Behind()
            sums = CellSums(grid, writer, behind, **{"budget": 1 << 30, **options})
            held = sums.held
            for _ in range(again):
                for tile in order:
                    sums.add(tile, shares[tile])
            sums.save()
            behind.close()
            return writer, held

    setting = Setting()
    setting.grid, setting.tiles, setting.shares = grid, tiles, shares
    return setting


@pytest.fixture
def wanted(setting):
    writer, _ = setting.run("wanted.zarr", setting.tiles)
    assert writer.finish()
    return bytes_of(writer.path)


def test_cells_are_the_sums_of_their_tiles(setting, wanted):
    total = np.zeros((3, *SHAPE), np.int64)
    for tile, share in setting.shares.items():
        total[(slice(None), *setting.grid.tile_box(tile).slices)] += share
    writer, _ = setting.run("a.zarr", setting.tiles)
    stored = writer._group
    np.testing.assert_array_equal(stored["0"][:], (total[:2] * 255 + 32500) // 65000)
    np.testing.assert_array_equal(stored["uncertainty"][:], (total[2] * 255 + 32500) // 65000)


@pytest.mark.parametrize("options", [{}, {"budget": 0}, {"budget": 5000}, {"save_after": 0}])
def test_order_memory_and_saving_change_no_byte(setting, wanted, options):
    order = [setting.tiles[i] for i in np.random.default_rng(1).permutation(len(setting.tiles))]
    writer, _ = setting.run("a.zarr", order, **options)
    assert not list(writer.work.glob("*.sums"))
    assert writer.finish()
    assert bytes_of(writer.path) == wanted


def test_a_tile_counts_once_however_often_it_comes(setting, wanted):
    half = len(setting.tiles) // 2
    _, held = setting.run("a.zarr", setting.tiles[:half], again=2)
    assert not held
    writer, held = setting.run("a.zarr", setting.tiles)
    assert held
    assert writer.finish()
    assert bytes_of(writer.path) == wanted


def test_what_is_held_and_done_needs_no_tile_again(setting, wanted):
    setting.run("a.zarr", setting.tiles[:5])
    writer, held = setting.run("a.zarr", ())
    missing = setting.grid.missing_tiles(writer.done, held)
    assert sorted(missing) == sorted(setting.tiles[5:])
    writer, _ = setting.run("a.zarr", missing)
    assert writer.finish()
    assert bytes_of(writer.path) == wanted


def test_sums_that_are_damaged_are_computed_again(setting, wanted):
    writer, _ = setting.run("a.zarr", setting.tiles[:-1])
    saved = sorted(writer.work.glob("*.sums"))
    saved[0].write_bytes(saved[0].read_bytes()[:-7])
    assert len(saved) > 1
    writer, held = setting.run("a.zarr", ())
    assert len(held) == len(saved) - 1
    writer, _ = setting.run("a.zarr", setting.grid.missing_tiles(writer.done, held))
    assert writer.finish()
    assert bytes_of(writer.path) == wanted
