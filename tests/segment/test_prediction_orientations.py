from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.segment.prediction.orientations import Orientation, average, orientations
from tests.segment.fake_networks import LabelNetwork, label_image

LONG = (*DEFAULT_OFFSETS, (-2, 0, 0), (0, -5, 0), (0, 0, -5), (3, 0, 0))
DIAGONAL = (*DEFAULT_OFFSETS, (0, -2, -3), (0, -2, 3), (0, 3, -2), (0, 3, 2))


@pytest.fixture
def tiles():
    images = np.stack([label_image((7, 12, 12), seed) for seed in (0, 1)])
    return torch.from_numpy(images)[:, None].float() / 255


def test_there_are_one_eight_or_sixteen_different_orientations():
    tile = torch.arange(24.0).reshape(1, 1, 2, 3, 4)[..., :3]
    for kind, count in (("none", 1), ("flips", 8), ("flips+transpose", 16)):
        seen = {tuple(view.show(tile).flatten().tolist()) for view in orientations(kind)}
        assert len(seen) == count
    assert orientations("flips")[0] == Orientation()


@pytest.mark.parametrize("view", orientations("flips+transpose"))
def test_an_orientation_can_be_undone(view):
    tile = torch.rand(2, 1, 3, 4, 4)
    assert torch.equal(view.undo(view.show(tile)), tile)


@pytest.mark.parametrize("offsets", [DEFAULT_OFFSETS, LONG, DIAGONAL])
@pytest.mark.parametrize("kind", ["flips", "flips+transpose"])
def test_a_network_that_turns_with_the_image_gives_the_same_in_all(tiles, offsets, kind):
    network = LabelNetwork(offsets)
    plain = network(tiles)
    mean, deviation = average(network, tiles, offsets, orientations(kind))
    torch.testing.assert_close(mean, plain, rtol=0, atol=1e-6)
    assert float(deviation.max()) < 1e-3
    assert network.calls == 1 + len(orientations(kind))
    assert 0.2 < float(plain.mean()) < 0.8


@pytest.mark.parametrize("view", orientations("flips+transpose"))
def test_each_orientation_by_itself_is_undone(tiles, view):
    network = LabelNetwork(LONG)
    mean, _ = average(network, tiles, LONG, (Orientation(), view))
    torch.testing.assert_close(mean, network(tiles), rtol=0, atol=1e-6)


def test_the_deviation_is_the_largest_of_the_channels():
    answers = iter([0.0, 1.0])

    def network(tiles):
        first = torch.full_like(tiles, next(answers))
        return torch.cat([first, torch.full_like(tiles, 0.5)], 1)

    # neither channel changes its name under this flip
    mean, deviation = average(
        network, torch.zeros(1, 1, 2, 3, 4), ((0, -1, 0), (0, 0, -1)), (Orientation(), Orientation((0,)))
    )
    assert torch.equal(mean, torch.full((1, 2, 2, 3, 4), 0.5))
    assert torch.equal(deviation, torch.full((1, 1, 2, 3, 4), 0.5))


def test_the_border_has_only_the_answers_that_there_are():
    def network(tiles):
        return torch.arange(4.0).expand(1, 1, 1, 1, 4).clone()

    mean, _ = average(network, torch.zeros(1, 1, 1, 1, 4), ((0, 0, -1),), (Orientation(), Orientation((2,))))
    # turned over, voxel x holds 3 - x, and links x and x + 1: the pair (x, x - 1) is found at x - 1
    assert mean.flatten().tolist() == [0, (1 + 3) / 2, (2 + 2) / 2, (3 + 1) / 2]


def test_offsets_that_do_not_change_into_each_other_are_refused(tiles):
    only_y = ((-1, 0, 0), (0, -1, 0))
    with pytest.raises(ConfigError, match="use --tta flips"):
        average(LabelNetwork(only_y), tiles, only_y, orientations("flips+transpose"))
    one_diagonal = ((0, -1, -1),)
    with pytest.raises(ConfigError, match="use --tta none"):
        average(LabelNetwork(one_diagonal), tiles, one_diagonal, orientations("flips"))
