from __future__ import annotations

import math

import pytest

from napari_tokenunify.data.formats.placement import Placement, nm_per_unit


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nanometer", 1),
        ("Nanometers", 1),
        (" nm ", 1),
        ("micrometre", 1e3),
        ("\N{MICRO SIGN}m", 1e3),
        ("\N{GREEK SMALL LETTER MU}m", 1e3),
        ("microns", 1e3),
        ("angstrom", 0.1),
        ("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", 0.1),
        ("mm", 1e6),
        ("meter", 1e9),
        ("pixel", None),
        ("", None),
        (None, None),
    ],
)
def test_units_of_length(unit: object, nm: float | None):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize(
    ("axes", "units", "scale", "translation", "expected"),
    [
        ("zyx", ["nm"] * 3, [40, 4, 4], None, Placement((40, 4, 4))),
        ("xyz", ["nm", "nm", "um"], [4, 5, 0.04], [1, 2, 3], Placement((40, 5, 4), (3000, 2, 1))),
        ("czyx", [None, "nm", "nm", "nm"], [1, 40, 4, 4], [9, 1, 2, 3], Placement((40, 4, 4), (1, 2, 3))),
        ("zyx", ["nm", "nm", "s"], [40, 4, 4], None, Placement()),
        ("zyx", ["nm"] * 3, [40, 4], None, Placement()),
        ("zyx", ["nm"] * 3, [40, 4, -4], None, Placement()),
        ("tyx", ["nm"] * 3, [40, 4, 4], None, Placement()),
        ("zyx", ["nm"] * 3, [40, 4, 4], [1, 2], Placement((40, 4, 4))),
        ("zyx", ["nm"] * 3, [40, 4, 4], [1, 2, math.inf], Placement((40, 4, 4))),
    ],
)
def test_lists_by_axis_become_a_placement(axes, units, scale, translation, expected):
    assert Placement.from_axes(axes, units, scale, translation) == expected


def test_levels_averaged_from_the_same_voxels_start_at_the_same_corner():
    finest = Placement((40, 4, 4), (80, 8, 4))
    coarser = Placement((40, 8, 16), (80, 10, 10))
    assert finest.corner_nm(finest) == coarser.corner_nm(finest) == (80, 8, 4)
    assert Placement((40, 4, 4)).corner_nm(finest) == (0, 0, 0)
