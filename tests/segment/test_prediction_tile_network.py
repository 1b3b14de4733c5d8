from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.prediction.blending import WHOLE, Windows
from napari_tokenunify.segment.prediction.orientations import orientations
from napari_tokenunify.segment.prediction.tile_network import NetworkUse, Tile, TileNetwork, TileReader
from napari_tokenunify.segment.prediction.tiles import TileGrid
from tests.segment.fake_networks import LABELS_AS_GREY, LabelNetwork, label_image, noise_volume

GRID = TileGrid.cover((6, 8, 20), (6, 8, 8), 0.25, (6, 8, 8))
NUMBERS = [(0, 0, 0), (0, 0, 1), (0, 0, 2)]


def use(**changes):
    options = {"logits": False, "views": orientations("none"), "sees": None, "uncertainty": False, "precision": "fp32"}
    return NetworkUse(DEFAULT_OFFSETS, device=torch.device("cpu"), **{**options, **changes})


def tiles(count=3):
    image = label_image(GRID.shape).astype(np.float32) / 255
    return [Tile(number, image[GRID.tile_box(number).slices].copy()) for number in NUMBERS[:count]]


def run(network, batch=1, read=None, **changes):
    worker = TileNetwork(network, use(**changes), Windows(GRID))
    worker.batches.size = batch
    return {tile.number: tile for tile in worker.shares(tiles() if read is None else read)}


def test_tiles_are_read_and_normalised_and_a_failed_one_says_why():
    volume = noise_volume((8, 10, 24))
    reader = TileReader(volume, (2, 2, 4), LABELS_AS_GREY, GRID, [(0, 0, 1)])
    read = reader[0]
    np.testing.assert_allclose(read.values * 255, volume.levels[0].source[2:8, 2:10, 10:18], atol=1e-4)
    outside = TileReader(volume, (2, 2, 5), LABELS_AS_GREY, GRID, NUMBERS)[2]
    assert outside.values is None
    assert "reaches outside" in outside.problem


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_the_batch_changes_nothing_and_is_always_full(batch):
    sizes = []

    def network(shown):
        sizes.append(len(shown))
        return LabelNetwork()(shown)

    alone, together = run(LabelNetwork()), run(network, batch)
    assert set(sizes) == {batch}
    for number in NUMBERS:
        np.testing.assert_array_equal(together[number].values, alone[number].values)


def test_logits_become_affinities():
    shares = run(lambda shown: torch.full((len(shown), 3, *shown.shape[2:]), 3.0), logits=True)
    whole = sum(shares[number].values[:, :, :, part].astype(int) for number, part in (((0, 0, 0), 7), ((0, 0, 1), 1)))
    np.testing.assert_allclose(whole / WHOLE, 1 / (1 + np.exp(-3)), atol=1e-4)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_tile_whose_answer_is_not_finite_has_failed_alone(logits, bad):
    def network(shown):
        answer = LabelNetwork()(shown)
        answer[1, 2, 3, 4, 5] = bad
        return answer

    done = run(network, batch=3, logits=logits)
    assert [done[number].values is None for number in NUMBERS] == [False, True, False]
    assert "not finite" in done[0, 0, 1].problem


def test_a_tile_that_the_network_stumbles_over_is_found_in_its_batch():
    worst = tiles()[1].values.max() + 1
    read = tiles()
    read[1].values[0, 0, 0] = worst

    def network(shown):
        if shown.max() >= worst:
            raise ValueError("too bright")
        return LabelNetwork()(shown)

    done = run(network, batch=4, read=read)
    assert [done[number].values is None for number in NUMBERS] == [False, True, False]
    assert done[0, 0, 1].problem == "ValueError: too bright"


def test_a_tile_that_could_not_be_read_is_passed_on():
    done = run(LabelNetwork(), read=[*tiles(2), Tile((0, 0, 2), None, "damaged")])
    assert done[0, 0, 2].problem == "damaged"
    assert done[0, 0, 1].values is not None


def test_memory_that_runs_out_halves_the_batch():
    def network(shown):
        if len(shown) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return LabelNetwork()(shown)

    worker = TileNetwork(network, use(), Windows(GRID))
    worker.batches.size = 4
    assert all(tile.values is not None for tile in worker.shares(tiles()))
    assert worker.batches.size == 1


def test_an_answer_of_another_shape_ends_the_run():
    with pytest.raises(SegmentError, match="answer has the shape"):
        run(lambda shown: shown)


def test_the_network_sees_the_tile_at_its_own_size():
    shapes = []

    def network(shown):
        shapes.append(tuple(shown.shape[2:]))
        return shown.expand(-1, 3, -1, -1, -1)

    done = run(network, sees=(12, 4, 8))
    assert set(shapes) == {(12, 4, 8)}
    assert done[0, 0, 0].values.shape == (3, *GRID.tile)


def test_several_orientations_give_an_uncertainty_too():
    plain = run(LabelNetwork())[0, 0, 1].values
    turned = run(LabelNetwork(), views=orientations("flips"), uncertainty=True)[0, 0, 1].values
    assert turned.shape == (4, *GRID.tile)
    np.testing.assert_allclose(turned[:3].astype(int), plain, atol=1)
    assert turned[3].max() < 0.002 * WHOLE
    noisy = run(
        lambda shown: torch.rand(len(shown), 3, *shown.shape[2:]), views=orientations("flips"), uncertainty=True
    )
    assert noisy[0, 0, 0].values[3, :, :, 0].max() > 0.3 * WHOLE


def test_half_precision_is_asked_of_the_network():
    seen = []

    def network(shown):
        seen.append((shown @ shown.transpose(-1, -2)).dtype)
        return shown.expand(-1, 3, -1, -1, -1)

    run(network, precision="bf16")
    run(network, precision="fp32")
    assert set(seen[:3]) == {torch.bfloat16}
    assert set(seen[3:]) == {torch.float32}
