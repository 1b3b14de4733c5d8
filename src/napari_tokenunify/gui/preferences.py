"""What the user has chosen for the plugin in napari's Preferences."""

from __future__ import annotations

from typing import Literal

Closing = Literal["ask", "leave running", "stop"]


def on_closing() -> Closing:
    """Return what becomes of jobs when napari is closed; an older napari has no such settings, and asks."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return "ask"
    chosen: Closing = get_plugin_settings("napari-tokenunify").jobs.closing
    return chosen
