"""The keys of proofreading: none that napari uses for the image, labels and points, and only while the step is shown.

Enter, Escape, Backspace and Delete mean for an edit what they mean for a polygon or a point that is being drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari import Viewer

KEYS: Final = (
    ("Q", "pick"),
    ("J", "merge"),
    ("D", "split"),
    ("K", "cut"),
    ("T", "other side"),
    ("Backspace", "last point away"),
    ("Enter", "do it"),
    ("Escape", "drop it"),
    ("R", "mark correct"),
    ("I", "isolate fragment"),
    ("N", "comment"),
    ("Delete", "delete"),
    ("Control-Z", "undo"),
    ("Control-Shift-Z", "redo"),
    ("G", "accept the suggestion"),
    ("W", "not an error"),
    ("H", "later"),
    ("U", "next to check"),
)
_SHOWN: Final = {"Control-Z": "Ctrl-Z", "Control-Shift-Z": "Ctrl-Shift-Z", "Escape": "Esc", "Delete": "Del"}


def key_words(names: Iterable[str]) -> str:
    """Return a line that says what some keys do, as rich text."""
    words = dict(KEYS)
    return " · ".join(f"<b>{_SHOWN.get(name, name)}</b> {words[name]}" for name in names)


class StepKeys:
    """Keys that can be bound and let go again.

    A layer's own keys come before those of the viewer, so the layers of proofreading get them as well.

    Parameters
    ----------
    viewer : Viewer
        Where they are pressed.
    actions : dict
        What each key of KEYS does.
    """

    def __init__(self, viewer: Viewer, actions: dict[str, Callable[[], None]]) -> None:
        self._viewer, self._actions = viewer, actions
        self._bound: list[Any] = []

    def bind(self, layers: Iterable[Any]) -> None:
        """Let the keys work, whatever layer is chosen, but for those that the user has chosen herself to draw on."""
        for target in (self._viewer, *layers):
            if not any(target is bound for bound in self._bound):
                self._bound.append(target)
                for key, action in self._actions.items():
                    target.bind_key(key, _calling(action), overwrite=True)

    def release(self) -> None:
        """Give the keys back."""
        for target in self._bound:
            for key in self._actions:
                target.bind_key(key, None, overwrite=True)
        self._bound.clear()


def _calling(action: Callable[[], None]) -> Callable[[Any], None]:
    return lambda _: action()
