from __future__ import annotations

import pytest

from napari_tokenunify.gui.preferences import on_closing

pytestmark = pytest.mark.gui


def test_the_preferences_of_napari_have_an_answer_and_it_is_to_ask_at_first():
    pytest.importorskip("napari", minversion="0.9")
    from napari.settings import get_plugin_settings

    chosen = get_plugin_settings("napari-tokenunify").jobs
    assert on_closing() == "ask"
    chosen.closing = "leave running"
    try:
        assert on_closing() == "leave running"
    finally:
        chosen.closing = "ask"
