from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.gui.suggestion_search import offer, search
from napari_tokenunify.proofread import Proofreading
from tests.proofread.conftest import affinities, bars, folder, master  # noqa: F401 - fixtures

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("kind", ["split", "merge"])
def test_an_accepted_suggestion_does_what_was_shown_and_points_at_the_contact_alone(folder, kind):  # noqa: F811
    with Proofreading.open(folder) as reading:
        made = search(reading, None, [])
        number = int(np.flatnonzero(made.found.is_split == (kind == "split"))[0])
        found = offer(reading, None, made, number, frozenset())
        assert found.suggestion.kind == kind
        assert sorted(f for group in found.plan.edit.places for f in group) == sorted(found.suggestion.fragments)
        reading.commit(found.plan.edit)
        table = reading.table()
        first, second = (set(table[side].tolist()) for side in found.suggestion.sides)
        assert len(first) == len(second) == 1
        assert (first == second) == (kind == "merge")
