"""How much the answers to several orientations differ, from the prediction to each contact of the segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_tokenunify.config import SegmentConfig
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import Segmentation, open_affinities, predict_volume, segment
from tests.segment.fake_networks import LabelNetwork, drive, label_image, settings

SHAPE = (12, 28, 30)


class Doubtful(LabelNetwork):
    """Sees labels, and is less sure the further on in the tile, so that it matters how a tile is turned."""

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        doubt = torch.linspace(0, 0.4, tiles.shape[4]) + torch.linspace(0, 0.3, tiles.shape[2])[:, None, None]
        return super().__call__(tiles) * (1 - doubt)


@pytest.fixture(scope="module", params=["flips", "none"])
def made(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    folder = tmp_path_factory.mktemp("made")
    store, out = folder / "affinities.zarr", folder / "segmentation"
    volume = Volume.from_array(label_image(SHAPE))
    drive(predict_volume(volume, Doubtful(), store, settings((6, 14, 15), tta=request.param)))
    box = {"box": "1:12,2:28,0:30", "block": (11, 13, 15), "halo": (0, 4, 4)}
    drive(segment(SegmentConfig(affinities=str(store), out=str(out), **box)))
    return request.param, store, out


def test_each_contact_has_the_mean_spread_of_its_pairs_whatever_the_blocks(made: tuple[str, Path, Path]):
    tta, store, out = made
    graph = Segmentation.open(out).graph
    assert open_affinities(store).has_spread == (tta == "flips")
    if tta == "none":
        assert graph.spread is None
        return
    spread = open_affinities(store).read_spread(Box((1, 2, 0), SHAPE)).astype(float)
    ids, found = Segmentation.open(out).fragments[:], {}
    for axis in range(3):
        here = (slice(None),) * axis + (slice(1, None),)
        before = (slice(None),) * axis + (slice(None, -1),)
        for u, v, s in zip(ids[here].ravel().tolist(), ids[before].ravel().tolist(), spread[here].ravel(), strict=True):
            if u != v and u and v:
                found.setdefault((min(u, v), max(u, v)), []).append(s)
    assert [tuple(pair) for pair in graph.edges.tolist()] == sorted(found)
    wanted = [np.mean(found[pair]) for pair in sorted(found)]
    assert 0.05 < max(wanted) < 0.95
    np.testing.assert_allclose(graph.spread, wanted, atol=1e-6)
