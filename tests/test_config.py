from __future__ import annotations

import pytest
from pydantic import ValidationError

from napari_tokenunify.config import CheckConfig, ExportConfig, FinetuneConfig, InfoConfig, what_is_wrong
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.pipeline import STAGES


def test_a_misspelt_key_is_an_error():
    with pytest.raises(ValidationError, match="voxelsize"):
        InfoConfig(uri="a.tif", voxelsize="4,4,4")


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        InfoConfig(uri="a.tif").uri = "b.tif"


def test_replacing_a_value_checks_it_again():
    config = CheckConfig(uri="a.tif").replace(voxel_size="40,4,4")
    assert config.voxel_size == "40,4,4"
    with pytest.raises(ConfigError, match="z,y,x in nm"):
        config.replace(voxel_size="forty")


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_is_explained(name: str):
    config = STAGES[name].config
    assert config.__doc__
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize("parts", ["head", "adapters"])
def test_a_new_decoder_cannot_stay_as_it_is(parts: str):
    with pytest.raises(ConfigError, match="choose --parts all or --parts decoder"):
        FinetuneConfig(volume="a", annotations="b", out="c", transfer="encoder", parts=parts)


def test_a_wrong_item_of_a_list_is_named_by_its_list():
    with pytest.raises(ValidationError) as wrong:
        FinetuneConfig(volume="v", annotations="a", out="o", crop=(8, 32))
    assert what_is_wrong(wrong.value, flag=True).startswith("--crop")


def test_the_home_of_a_user_whom_nobody_knows_is_said_at_once():
    with pytest.raises(ValidationError, match="there is no home folder of this name"):
        ExportConfig(segmentation="~nobody-of-that-name/s", out="x.zarr")
    assert ExportConfig(segmentation="~/s", out="x.zarr").segmentation == "~/s"
