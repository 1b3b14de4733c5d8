"""Marks: the segments that an edit is about, bright in a layer of their own, and the places that were pointed at."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Labels, Points
from napari.utils.colormaps import CyclicLabelColormap

from napari_tokenunify.gui.layers import own_layer, own_metadata
from napari_tokenunify.gui.project_layers import LINE, MARKED, PICKED, POINTED, SEGMENTS
from napari_tokenunify.gui.shown_segments import ShownSegments
from napari_tokenunify.gui.viewer_parts import canvas_size, text_overlay
from napari_tokenunify.segment.fragment_store import SegmentView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Layer

    from napari_tokenunify.geometry import Box, Triple
    from napari_tokenunify.gui.edit_plan import Coloured

_FULL, _DIM = 0.5, 0.15  # opacity of the segments, alone and behind marks
COLOURS: Final = (
    (0.0, 0.0, 0.0, 0.0),
    (1.0, 0.55, 0.0, 1.0),  # first side: orange
    (0.1, 0.6, 1.0, 1.0),  # second side: blue
    (1.0, 0.15, 0.15, 1.0),  # deleted: red
    (0.2, 0.85, 0.35, 1.0),  # marked correct: green
    (1.0, 0.9, 0.1, 1.0),  # chosen: yellow
    (0.75, 0.4, 1.0, 1.0),
    (0.2, 0.85, 0.85, 1.0),
    (1.0, 0.5, 0.8, 1.0),
)
"""Of `Coloured.colours`; apart for colour-blind eyes where two sides are compared."""
_POINT: Final = 6.0  # voxels across
_LETTER: Final = 9  # pixels, of the words on the canvas


class Marks:
    """Shows what an edit is about; the segments step back meanwhile.

    Parameters
    ----------
    viewer : Viewer
        Where the layer of segments is.

    Attributes
    ----------
    coloured : Coloured or None
        What stands out now.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.coloured: Coloured | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer of segments; None if there is none."""
        found = self._find(SEGMENTS)
        return found if found is not None and isinstance(found.data, ShownSegments) else None

    @property
    def layers(self) -> list[Layer]:
        """The layers that take part in proofreading, as far as they are there."""
        found = map(self._find, (SEGMENTS, MARKED, POINTED, LINE))
        return [layer for layer in found if layer is not None]

    def show(self, coloured: Coloured) -> None:
        """Let segments stand out."""
        segments = self.layer
        if segments is None:
            return
        self.coloured = coloured
        found = self._find(MARKED)
        if found is not None and found.data.fragments is coloured.fragments:
            found.data.set_table(coloured.colours)
            if found.visible:
                found.refresh(thumbnail=False, highlight=False, extent=False)
        elif found is not None:
            found.data = SegmentView(coloured.fragments, coloured.colours)
        else:
            found = self._add(self._like(segments, SegmentView(coloured.fragments, coloured.colours)))
        _let_be_seen(found, wanted=True)
        if segments.opacity == _FULL:
            segments.opacity = _DIM

    def point(self, groups: Sequence[Sequence[Triple]], place: Triple | None = None) -> None:
        """Show places (z, y, x), each group in the colour of its side, and a ring at one more."""
        segments = self.layer
        points = [point for group in groups for point in group] + ([] if place is None else [place])
        colours = [COLOURS[side + 1] for side, group in enumerate(groups) for _ in group]
        found = self._find(POINTED)
        if not points or segments is None:
            if found is not None:
                _let_be_seen(found, wanted=False)
            return
        ring = [] if place is None else [(1.0, 1.0, 1.0, 0.0)]
        looks = {
            "face_color": np.array([*colours, *ring]),
            "size": np.array([_POINT] * len(colours) + [3 * _POINT] * len(ring)),
        }
        if found is not None:
            _let_be_seen(found, wanted=True)  # first: napari takes no note of the data of a layer it does not draw
            found.selected_data = set()
            found.data = np.array(points, float)
            for name, value in looks.items():
                setattr(found, name, value)
            return
        self._add(
            Points(
                np.array(points, float),
                name=POINTED,
                border_color="white",
                border_width=0.12,
                **looks,
                **self._where(segments, POINTED),
            )
        )

    def clear(self) -> None:
        """Let nothing stand out any more; the layers stay, as napari takes its time to add one."""
        self.coloured = None
        for layer in map(self._find, (MARKED, POINTED)):
            if layer is not None:
                _let_be_seen(layer, wanted=False)
        segments = self.layer
        if segments is not None and segments.opacity == _DIM:
            segments.opacity = _FULL

    def remove(self) -> None:
        """Let nothing stand out, and take the layers away."""
        self.clear()
        for layer in map(self._find, (MARKED, POINTED)):
            if layer is not None:
                self._viewer.layers.remove(layer)

    def voxel(self, position: Any) -> Triple | None:
        """Return the voxel (z, y, x) of the segmentation at a place in the viewer; None outside."""
        layer = self.layer
        if layer is None or self._viewer.dims.ndisplay == 3:
            return None
        z, y, x = np.round(layer.world_to_data(position)).astype(int)[-3:].tolist()
        inside = all(0 <= a < n for a, n in zip((z, y, x), layer.data.shape, strict=True))
        return (z, y, x) if inside else None

    def paint_line(self, box: Box) -> Labels | None:
        """Give the user a brush to paint a line with, in a box of the segmentation."""
        segments = self.layer
        self.drop_line()
        if segments is None:
            return None
        looks = self._where(segments, LINE)
        first = np.array(looks["translate"]) + np.multiply(box.start, looks["scale"])
        line = Labels(np.zeros(box.shape, np.uint8), name=LINE, **{**looks, "translate": first}, opacity=1.0)
        line.colormap = CyclicLabelColormap((COLOURS[0], (1.0, 1.0, 1.0, 1.0)))
        self._viewer.add_layer(line)
        line.selected_label, line.brush_size, line.mode = 1, 3, "paint"
        self._viewer.layers.selection.active = line
        return line

    def drop_line(self) -> None:
        """Take the brush away."""
        found = self._find(LINE)
        if found is not None:
            self._viewer.layers.remove(found)

    def choose_segments(self) -> None:
        """Make the segments the layer that keys and clicks go to; what the step Segment has picked steps back."""
        layer, picked = self.layer, self._find(PICKED)
        if layer is not None:
            self._viewer.layers.selection.active = layer
            _let_be_seen(layer, wanted=True)
        if layer is not None and picked is not None and picked.visible:
            picked.visible, layer.opacity = False, _FULL

    def say(self, words: str) -> None:
        """Write into the corner of the canvas; nothing takes it away."""
        overlay, (_, width) = text_overlay(self._viewer), canvas_size(self._viewer)
        text = fill(words, max(20, width // _LETTER))  # napari lets a line that is too long run out of the canvas
        if overlay.text != text:
            overlay.text, overlay.visible = text, bool(text)

    def _like(self, segments: Labels, data: SegmentView) -> Labels:
        looks = self._where(segments, MARKED)
        layer = Labels(data, name=MARKED, colormap=CyclicLabelColormap(COLOURS), opacity=0.6, **looks)
        layer.editable = False
        return layer

    def _where(self, segments: Labels, name: str) -> dict[str, Any]:
        same = {kind: getattr(segments, kind) for kind in ("scale", "translate", "units", "axis_labels")}
        return {**same, "metadata": own_metadata(segments, name)}

    def _add(self, layer: Layer) -> Layer:
        """Add a layer; the keys stay those of the layer that had them."""
        active = self._viewer.layers.selection.active
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = active
        return layer

    def _find(self, name: str) -> Any:
        return own_layer(self._viewer, name)


def _let_be_seen(layer: Layer, *, wanted: bool) -> None:
    if layer.visible != wanted:  # napari draws it anew whenever it is told
        layer.visible = wanted
