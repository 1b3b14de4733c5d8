"""The keys of the brush: on the layer of annotations alone, and only while it is the active layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS: Final = (
    ("N", "new neuron"),
    ("B", "boundary"),
    (",", "previous id"),
    (".", "next id"),
    ("E", "erase"),
    ("P", "paint"),
    ("Shift-B", "keep other labels"),
)
"""E and P are napari's own. Its key for keeping other labels is B; here that is at Shift-B."""


def bind_keys(layer: Any, new_neuron: Callable[[], None], boundary: Callable[[], None]) -> None:
    """Bind the keys to a Labels layer.

    napari (0.9) knows no keys of plugins in Preferences > Shortcuts; those that can be changed there are its own: to
    erase, to paint, to go to the previous and the next id. Whatever keys it has for "largest used label plus one"
    (M), which it cannot count in labels on disk, ask for a new neuron here, too.

    Parameters
    ----------
    layer : Labels
        The annotations.
    new_neuron, boundary : callable
        What N and B do.
    """
    actions: dict[Any, Callable[[Any], None]] = {
        key: lambda _: new_neuron() for key in ("N", *get_settings().shortcuts.shortcuts.get("napari:new_label", ()))
    }
    actions |= {
        "B": lambda _: boundary(),
        "Shift-B": lambda layer: setattr(layer, "preserve_labels", not layer.preserve_labels),
        ",": lambda layer: _step(layer, -1),
        ".": lambda layer: _step(layer, 1),
    }
    for key, action in actions.items():
        layer.bind_key(key, action, overwrite=True)


def _step(layer: Any, by: int) -> None:
    layer.selected_label = max(1, int(layer.selected_label) + by)
