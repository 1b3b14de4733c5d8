"""The pictures say what the numbers are: points lie where their ticks say, whatever the numbers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from napari_tokenunify.train.curves import Line, curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def read(picture):
    """Return texts [(x, y, text)] and the points of each curve in pixels."""
    root = ElementTree.fromstring(picture)
    texts = [(float(t.get("x")), float(t.get("y")), t.text) for t in root.iter(f"{SVG}text")]
    curves = [np.array([p.split(",") for p in c.get("points").split()], float) for c in root.iter(f"{SVG}polyline")]
    return texts, curves


def ticks(texts, axis):
    """Return pixel and number of each tick on x (0) or y (1)."""
    found = []
    for x, y, text in texts:
        on_axis = y > 260 if axis == 0 else x < 75
        try:
            number = float(text.replace(",", ""))
        except ValueError:
            continue
        if on_axis:
            found.append((x if axis == 0 else y - 4, number))
    return np.array(sorted(found))


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([0.0, 1.0, 0.3], False),
        ([5e-5, 1e-3, 2e-4], False),
        ([-3.0, 1200.0, 77.0], False),
        ([0.7, 0.7, 0.7], False),
        ([0.0, 0.0], False),
        ([0.11, 3.0, 0.9], True),
        ([1e-6, 200.0, 0.9], True),
        ([0.5, 0.6], True),
        ([0.0, 3.0], True),
    ],
)
def test_points_lie_where_the_ticks_say(values, log):
    texts, (curve,) = read(
        curve_svg("loss", [Line("loss", [(100.0 * i, v) for i, v in enumerate(values, 1)])], log=log)
    )
    pixels, numbers = ticks(texts, 1).T
    assert 3 <= len(numbers) <= 12
    assert numbers.min() <= min(values)
    assert numbers.max() >= max(values)
    uneven = log and min(values) > 0 and max(values) > 3 * min(values)
    wanted, numbers = (np.log(values), np.log(numbers)) if uneven else (np.array(values), numbers)
    np.testing.assert_allclose(np.interp(curve[:, 1], pixels, numbers), wanted, atol=0.02 * np.ptp(numbers))
    pixels, numbers = ticks(texts, 0).T
    np.testing.assert_allclose(np.interp(curve[:, 0], pixels, numbers), np.arange(1, len(values) + 1) * 100.0, atol=3)


def test_what_is_not_finite_is_left_out():
    _, (curve,) = read(curve_svg("loss", [Line("loss", [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)])]))
    assert len(curve) == 2


def test_a_long_curve_is_thinned_and_keeps_its_level():
    points = [(i, 1.0 + (i % 2)) for i in range(50_000)]
    picture = curve_svg("loss", [Line("loss", points)])
    texts, (curve,) = read(picture)
    assert len(curve) <= 400
    assert len(picture) < 20_000
    pixels, numbers = ticks(texts, 1).T
    np.testing.assert_allclose(np.interp(curve[:, 1], pixels, numbers), 1.5, atol=0.02)


def test_several_curves_have_a_legend_and_names_are_escaped():
    texts, curves = read(curve_svg("a < b & c", [Line("x < 1", [(1, 1.0), (2, 2.0)]), Line("y", [(1, 2.0)])], mark=2))
    names = {text for _, _, text in texts}
    assert {"a < b & c", "x < 1", "y", "best"} <= names
    assert len(curves) == 2


def test_curves_over_something_else_have_its_name_a_logarithmic_axis_and_names_of_points():
    points = [(1.0, 0.3), (4.0, math.nan), (28.0, 0.2), (1000.0, 0.1)]
    line = Line("loss", points, ["tiny", "small", "base", "1B"])
    texts, (curve,) = read(curve_svg("loss", [line], against="parameters, millions"))
    assert "step" not in {text for _, _, text in texts}
    pixels, numbers = ticks(texts, 0).T
    np.testing.assert_allclose(np.interp(curve[:, 0], pixels, np.log(numbers)), np.log([1, 28, 1000]), atol=0.1)
    beside = [next((x, y) for x, y, text in texts if text == name) for name in ("tiny", "base", "1B")]
    np.testing.assert_allclose(beside, curve - [0, 8], atol=0.2)
    assert "small" not in {text for _, _, text in texts}
