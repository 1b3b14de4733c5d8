from __future__ import annotations

import numpy as np

from napari_tokenunify.network.peak_memory import peak_memory_mb


def test_the_peak_is_in_mb_and_stays_when_memory_is_given_back():
    before = peak_memory_mb()
    block = np.ones(60_000_000, np.uint8)
    del block
    assert 20 < before <= peak_memory_mb() < 1_000_000
