from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.train.pretraining.recipes import FOLDER, load_recipe, recipe_names

ROOT = Path(__file__).parents[3]


def test_the_named_recipes_are_there_and_can_be_read():
    assert set(recipe_names()) == {
        "autoregressive", "mae", "official-code", "paper", "random+next", "random+next-all"
    }  # fmt: skip
    for name in recipe_names():
        assert load_recipe(name).description


@pytest.mark.parametrize(
    ("share", "leading"), [(0.1, "random"), (0.29, "random"), (0.45, "next"), (0.69, "next"), (0.9, "next_all")]
)
def test_the_papers_weights_lead_with_one_objective_after_the_other(share, leading):
    weights = load_recipe("paper").weights(share)
    assert max(weights, key=weights.get) == leading
    assert sorted(weights.values()) == pytest.approx([0.09, 0.18, 0.73])


def test_the_papers_weights_move_smoothly_and_start_out_more_equal():
    recipe = load_recipe("paper")
    curve = np.array([list(recipe.weights(share).values()) for share in np.linspace(0, 1, 1001)])
    assert curve.sum(axis=1) == pytest.approx(1)
    assert np.abs(np.diff(curve, axis=0)).max() < 0.02
    assert curve[0, 0] < 0.6 < curve[100, 0]


def test_the_official_code_trains_first_the_masked_autoencoder_then_both_others_one_to_one():
    recipe = load_recipe("official-code")
    assert recipe.weights(0.49) == {"random": 1, "next": 0, "next_all": 0}
    assert recipe.weights(0.5) == recipe.weights(1.0) == {"random": 0, "next": 1, "next_all": 1}
    assert [recipe.pace(share) for share in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 0, 0.5, 1]
    assert (recipe.token, recipe.crop, recipe.mask, recipe.loss_on) == ((4, 16, 16), (16, 160, 160), 0.4, "all")
    assert recipe.clip >= 1e9


@pytest.mark.parametrize(("name", "passes"), [("paper", 1.0), ("official-code", 1.0), ("mae", 1.0)])
def test_a_crop_is_looked_at_once_in_each_recipe(name, passes):
    assert load_recipe(name).passes == pytest.approx(passes)


def test_a_recipe_that_adds_losses_up_looks_twice_where_a_crop_is_hidden_in_both_ways():
    recipe = load_recipe("paper").replace(mixing="sum")
    assert recipe.passes == pytest.approx(2)
    assert load_recipe("official-code").replace(phases=(
        {"until": 0.25, "weights": {"random": 1, "next": 1}}, {"until": 1.0, "weights": {"next": 1, "next_all": 1}},
    )).passes == pytest.approx(1.25)  # fmt: skip


def test_a_recipe_of_ones_own_is_a_file(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "title: mine\ndescription: cells, near to far\nunit: cell\norder: near-to-far\n"
        "phases: [{until: 1, weights: {next: 1}}]\n"
    )
    recipe = load_recipe(str(tmp_path / "own.yaml"))
    assert (recipe.unit, recipe.objectives) == ("cell", ("next",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: [", "cannot be read as YAML at line"),
        ("just words", "holds no settings"),
        ("title: a\ndescription: b\nphases: [{until: 1, weights: {random: 1}}]\nmaks: 0.4", "maks cannot be used"),
        ("title: a\ndescription: b\nphases: [{until: 1, weights: {nxt: 1}}]", "phases.0.weights.nxt"),
        ("title: a\ndescription: b\nphases: [{until: 0.5, weights: {next: 1}}]", "and the last at 1"),
        ("title: a\ndescription: b\nphases: [{until: 1, weights: {next: 0}}]", "trains nothing"),
        ("title: a\ndescription: b\nmask: [0.8, 0.2]\nphases: [{until: 1, weights: {next: 1}}]", "smaller share first"),
        ("title: a\ndescription: b\nhead: official\nunit: cell\nphases: [{until: 1, weights: {next: 1}}]", "4x16x16"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_in_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as raised:
        load_recipe(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match="mae"):
        load_recipe("papre")


def test_the_package_ships_the_files_of_all_recipes():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "src" / "napari_tokenunify"
    shipped = {path for pattern in patterns["napari_tokenunify"] for path in package.glob(pattern)}
    assert {FOLDER / f"{name}.yaml" for name in recipe_names()} <= shipped


def test_reading_recipes_loads_no_torch():
    module = "napari_tokenunify.train.pretraining.recipes"
    code = f"import sys, {module} as r; r.load_recipe('paper'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
