from __future__ import annotations

import pytest

from napari_tokenunify.gui.curve_plots import CurvePlots

pytestmark = pytest.mark.gui

TRAINING = {"loss": {1: 0.5, 2: 0.4}, "validation_loss": {2: 0.6}, "learning_rate": {1: 1e-3}}
PRETRAINING = {
    "loss": {1: 0.5},
    "loss_random": {1: 0.3, 2: 0.2},
    "loss_next": {2: 0.4},
    "validation_random": {2: 0.25},
    "weight_random": {1: 0.73, 2: 0.18},
    "weight_next": {1: 0.18, 2: 0.73},
}


@pytest.fixture
def plots(qtbot):
    plots = CurvePlots()
    qtbot.addWidget(plots)
    return plots


def test_a_training_has_one_plot_of_loss_and_scores(plots):
    plots.draw(TRAINING)
    assert set(plots.lines) == {"loss", "validation_loss"}
    assert plots.weights.isHidden()


def test_a_pre_training_has_a_curve_for_each_objective_and_for_its_weight(plots):
    plots.draw(PRETRAINING)
    assert set(plots.lines) == set(PRETRAINING) - {"loss"}
    assert not plots.weights.isHidden()
    for words in ("random&nbsp;token", "next&nbsp;token", "dashed: held out"):
        assert words in plots.legend.text()
    assert "next-all" not in plots.legend.text()
    steps, values = plots.lines["weight_next"].getData()
    assert (list(steps), list(values)) == ([1, 2], [0.18, 0.73])
    colours = {name: plots.lines[name].opts["pen"].color().name() for name in plots.lines}
    assert colours["loss_random"] == colours["validation_random"] == colours["weight_random"]
    assert colours["loss_random"] != colours["loss_next"]


def test_another_job_leaves_nothing_of_the_one_before(plots):
    plots.draw(PRETRAINING)
    plots.draw(TRAINING)
    assert set(plots.lines) == {"loss", "validation_loss"}
    assert len(plots.weights.listDataItems()) == 0
    plots.draw({})
    assert plots.isHidden()
