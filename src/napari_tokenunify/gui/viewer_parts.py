"""Parts of a viewer that lie at another place since napari 0.9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari import Viewer


def camera_of(viewer: Viewer) -> Any:
    """Return the camera."""
    return getattr(viewer, "scene", viewer).camera


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Return height and width of the canvas in pixels."""
    canvas = getattr(viewer, "canvas", None)
    height, width = getattr(viewer, "_canvas_size", (600, 800)) if canvas is None else canvas.size
    return int(height), int(width)


def text_overlay(viewer: Viewer) -> Any:
    """Return the words on the canvas."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.text_overlay if canvas is None else canvas.overlays.text
