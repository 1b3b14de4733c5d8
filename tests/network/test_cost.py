from __future__ import annotations

import pytest

from napari_tokenunify.network import NETWORK_PRESETS
from napari_tokenunify.network.cost import multiply_adds, parameter_count

# Parameters, and 10^9 multiplications of a crop of 16x160x160 voxels, as they were counted of the official code.
OFFICIAL = {
    "base": (28_296_131, 117),
    "100M": (112_534_403, 466),
    "200M": (206_577_475, 1042),
    "500M": (506_567_395, 2338),
    "1B": (1_008_908_931, 4179),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_sizes_cost_what_is_known_of_them(name):
    parameters, work = OFFICIAL[name]
    assert parameter_count(NETWORK_PRESETS[name]) == parameters
    assert round(multiply_adds(NETWORK_PRESETS[name], (16, 160, 160)) / 1e9) == work


def test_twice_the_crop_is_twice_the_work():
    config = NETWORK_PRESETS["tiny"]
    assert multiply_adds(config, (16, 64, 64)) == 2 * multiply_adds(config, (8, 64, 64))
