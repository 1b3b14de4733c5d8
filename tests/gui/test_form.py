from __future__ import annotations

import pytest

from napari_tokenunify.config import FinetuneConfig, PredictConfig, PretrainConfig
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.gui.form import Form

pytestmark = pytest.mark.gui

NAMES = ("minutes", "parts", "loss", "widen_borders", "hold_out", "patience", "crop", "batch", "learning_rate", "seed")
PATHS = {"volume": "v", "annotations": "a", "out": "o"}


@pytest.fixture
def form(qtbot):
    form = Form(FinetuneConfig, NAMES)
    qtbot.addWidget(form.native)
    return form


def test_an_untouched_form_says_the_defaults(form):
    assert form.config(**PATHS) == FinetuneConfig(**PATHS)


def test_what_is_entered_is_in_the_config(form):
    form["parts"].value = "head"
    form["widen_borders"].value = True
    form["crop"].value = "8, 64,64"
    form["batch"].value = "2"
    form["learning_rate"].value = "1e-4"
    form["hold_out"].value = 0.3
    config = form.config(**PATHS)
    assert (config.parts, config.widen_borders, config.crop, config.batch) == ("head", True, (8, 64, 64), 2)
    assert (config.learning_rate, config.hold_out) == (1e-4, 0.3)


def test_a_config_is_shown_and_read_back(form):
    config = FinetuneConfig(**PATHS, crop=(16, 96, 96), loss="mse", seed=7, minutes=20)
    form.fill(config)
    assert form["crop"].value == "16,96,96"
    assert form.config(**PATHS) == config


def test_every_field_explains_itself(form):
    for widget in form:
        assert len(widget.tooltip) > 20


def test_one_of_several_words_or_none_is_chosen_from_a_list(qtbot):
    form = Form(PretrainConfig, ("order",))
    qtbot.addWidget(form.native)
    assert form["order"].choices == ("automatic", "raster", "hilbert", "near-to-far")
    assert form.values() == {"order": None}
    form["order"].value = "hilbert"
    assert form.values() == {"order": "hilbert"}
    form.fill(PretrainConfig(volumes=("v",), out="o"))
    assert form["order"].value == "automatic"


def test_limits_of_the_config_are_those_of_the_widgets(form):
    assert form["hold_out"].max == 0.5
    assert form["seed"].min == 0


def test_what_cannot_be_used_is_said_with_the_name_of_the_field(form):
    form["crop"].value = "8,x,64"
    with pytest.raises(ConfigError, match=r"crop.*given"):
        form.config(**PATHS)


def test_text_with_commas_stays_text(qtbot):
    form = Form(PredictConfig, ("box", "tile", "tta"))
    qtbot.addWidget(form.native)
    form["box"].value = "0:8,0:64,0:64"
    form["tile"].value = "8,64,64"
    config = form.config(volume="v", model="m", out="o")
    assert (config.box, config.tile) == ("0:8,0:64,0:64", (8, 64, 64))
