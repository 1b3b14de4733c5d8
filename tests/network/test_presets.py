import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.network.presets import NETWORK_PRESETS, NetworkConfig


def test_the_presets_load_without_torch():
    code = "import sys, napari_tokenunify.network.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_defaults_are_the_official_network():
    assert NetworkConfig() == NETWORK_PRESETS["base"]
    assert NetworkConfig().total_stride == (16, 16, 16)
    assert NetworkConfig().outputs == 3
    assert list(NETWORK_PRESETS) == ["tiny", "small", "base", "100M", "200M", "500M", "1B"]


def test_one_depth_and_one_stride_stand_for_all_stages():
    config = NetworkConfig(widths=(8, 16, 32), depth=1, strides=(1, 2, 2))
    assert config.depth == (1, 1, 1)
    assert config.strides == ((1, 2, 2), (1, 2, 2), (1, 2, 2))
    assert config.total_stride == (1, 8, 8)
    assert NetworkConfig(widths=(8, 16)).strides == ((2, 2, 2), (2, 2, 2))


@pytest.mark.parametrize("name", NETWORK_PRESETS)
def test_a_preset_survives_json(name):
    config = NETWORK_PRESETS[name]
    assert NetworkConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"widths": (8,)}, "1 stage"),
        ({"widths": (8, 16), "depth": (1, 1, 1)}, "depth has 3 entries for 2 widths"),
        ({"widths": (8, 16), "strides": ((2, 2, 2),)}, "strides has 1 entries for 2 widths"),
        ({"kernel": (1, 4, 5)}, "even extent"),
        ({"offsets": ()}, "at least one"),
        ({"offsets": ((-1, 0, 0), (-1, 0, 0))}, "none twice"),
    ],
)
def test_values_that_do_not_fit_are_said_in_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        NetworkConfig(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"widths": (0, 8)},
        {"hidden": 0},
        {"depth": 0},
        {"strides": (2, 2)},
        {"slices": "y"},
        {"slices": 0},
        {"voxel_size_nm": (0, 1, 1)},
        {"scan_backend": "fastest"},
        {"width": 8},
        {"widths": 8},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(values):
    with pytest.raises(ValidationError):
        NetworkConfig(**values)


def test_every_setting_is_explained():
    assert all(len(field.description or "") > 40 for field in NetworkConfig.model_fields.values())


def test_a_network_that_predicts_the_voxel_itself_is_only_pretrained():
    tiny = NETWORK_PRESETS["tiny"]
    assert not tiny.is_pretrained
    assert tiny.replace(offsets=((0, 0, 0),)).is_pretrained
