from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.segment.crop_scores import crop_scores


def test_perfect_affinities_give_perfect_segments_and_random_ones_do_not():
    labels = np.ones((8, 32, 32), np.uint64)
    labels[:, :, 16:] = 2
    affinities = known_affinities(labels)[0].astype(np.float32)
    affinities[:, 0] = affinities[:, :, 0] = affinities[:, :, :, 0] = 1
    affinities[2, :, :, 16] = 0
    perfect = crop_scores(affinities, labels, DEFAULT_OFFSETS)
    assert perfect["voi"] == pytest.approx(0, abs=1e-9)
    noise = np.random.default_rng(0).random(affinities.shape).astype(np.float32)
    assert crop_scores(noise, labels, DEFAULT_OFFSETS)["voi"] > 0.5
