"""SuggestPlaces: a button that leads to the places where the network is least sure, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.layers import own_layer
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.look_at import look_at

if TYPE_CHECKING:
    from napari import Viewer
    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Box, Triple
    from napari_tokenunify.segment.annotation_places import Suggestions
    from napari_tokenunify.session import Session

FRAME: Final = "suggested place"
_MOST: Final = 8
_YELLOW: Final = (255, 221, 0, 255)
_WORDS: Final = ((0.5, "hardly knows anything"), (0.25, "is unsure"), (0.1, "is rather sure"), (0.0, "is sure"))
_WAITING: Final = "Once something was predicted, this leads to where the network is least sure."


class SuggestPlaces(QWidget):
    """Suggests where to annotate next, once there is a prediction.

    Parameters
    ----------
    viewer : Viewer
        Jumps to the place, and shows a frame around it.
    session : Session
        Whose prediction and annotations.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._found: Suggestions | None = None
        self._next = 0
        self._visited: set[Box] = set()
        self.button, self.about = QPushButton("&Suggest where to annotate next"), QLabel(_WAITING)
        self.button.setToolTip("Go to where the network is least sure and nothing is labelled; again: to the next.")
        self.button.setEnabled(False)
        self.about.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.about)
        self._background = Background(self)
        self._background.done.connect(self._take)
        self._background.failed.connect(self._fail)
        self.button.clicked.connect(self.suggest)
        listen(session.project_opened, self._opened)
        listen(session.affinities_changed, self._predicted)
        if session.is_open:
            self._predicted()

    def suggest(self, _: object = None) -> None:
        """Go to the next place; after the last, and after another prediction, look for places anew."""
        if self._found is not None and self._next < len(self._found.places):
            self._go()
            return
        path = self._session.project.affinities
        has_labels = self._session.state.annotations is not None or self._session.project.annotations.exists()
        try:
            annotations = self._session.annotations_opener() if has_labels else None
        except TokenUnifyError as error:
            self._fail(str(error))
            return

        most = _MOST + len(self._visited)

        def look() -> Suggestions:
            from napari_tokenunify.segment import open_affinities, suggest_places

            known = None if annotations is None else annotations()
            return suggest_places(open_affinities(path), known, most)

        self.button.setEnabled(False)
        self.about.setText("Looking for places...")
        self._background.start(look)

    def _take(self, found: Suggestions) -> None:
        self.button.setEnabled(True)
        new = tuple(place for place in found.places if place.box not in self._visited)
        if not new:
            self._visited.clear()
        self._found, self._next = replace(found, places=(new or found.places)[:_MOST]), 0
        if found.places:
            self._go()
        else:
            self.about.setText("No place was found: nothing is predicted by now, or all of it is annotated.")

    def _fail(self, problem: str) -> None:
        self.button.setEnabled(self._session.project.affinities.exists())
        self.about.setText(problem)

    def _go(self) -> None:
        """Show the next place, and say how sure the network is there."""
        if self._found is None:
            return
        place = self._found.places[self._next]
        self._next += 1
        self._visited.add(place.box)
        self._show_frame(place.box)
        look_at(self._viewer, self._session.volume, place.box)
        words = next(words for least, words in _WORDS if place.uncertainty >= least)
        (z0, _, _), (z1, _, _) = place.box.start, place.box.stop
        part = self._found.seen < self._found.blocks
        self.about.setText(
            f"Place {self._next} of {len(self._found.places)}, sections {z0} to {z1 - 1}: the network <b>{words}</b> "
            f"here (doubt {100 * place.uncertainty:.0f} %). Paint what is in the frame."
            + (f" A sample was looked at: {self._found.seen} of {self._found.blocks} blocks." if part else "")
        )

    def _show_frame(self, box: Box) -> None:
        volume, layer = self._session.volume, self._frame()
        known = volume.voxel_size_nm is not None
        size, start = volume.voxel_size_nm or (1.0, 1.0, 1.0), volume.origin_nm if known else (0.0, 0.0, 0.0)
        place = [a + b * s for a, b, s in zip(start, box.start, size, strict=True)]
        if layer is not None:
            if tuple(layer.data.shape[:3]) != box.shape:
                layer.data = _frame_of(box.shape)
            layer.translate = place
            return
        selected = set(self._viewer.layers.selection)
        self._viewer.add_image(  # an image: of all layers napari is quickest with it; Shapes take seconds at first
            _frame_of(box.shape),
            name=FRAME,
            scale=size,
            translate=place,
            units=("nm" if known else "pixel",) * 3,
            axis_labels=("z", "y", "x"),
            rgb=True,
            metadata={"tokenunify": {"project": str(self._session.project.folder), "layer": FRAME}},
        )
        self._viewer.layers.selection = selected  # the brush stays in the hand

    def _frame(self) -> Any:
        return own_layer(self._viewer, FRAME)

    def _opened(self, project: object) -> None:
        self._background.forget()
        self._visited.clear()
        layer = self._frame()
        if layer is not None:
            self._viewer.layers.remove(layer)
        self.about.setText(_WAITING)
        self._predicted()

    def _predicted(self, path: object = None) -> None:
        """Find new places at the next press; those that were gone to are not suggested twice."""
        self._found = None
        there = self._session.project.affinities.exists()
        self.button.setEnabled(there and not self._background.busy)
        if there and self.about.text() == _WAITING:
            self.about.clear()


def _frame_of(shape: Triple) -> NDArray[np.uint8]:
    """Return a (z, y, x, 4) picture in red, green, blue and opacity: yellow along the edges of each section."""
    wide = max(1, min(shape[1:]) // 32)
    frame = np.full((*shape, 4), _YELLOW, np.uint8)
    frame[:, wide:-wide, wide:-wide] = 0
    return frame
