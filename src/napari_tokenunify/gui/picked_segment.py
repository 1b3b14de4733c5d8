"""PickedSegment: one segment that stands out, whatever the threshold; its numbers, and its surface in 3-D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Labels
from napari.settings import get_settings
from napari.utils.colormaps import CyclicLabelColormap
from psygnal import Signal

from napari_tokenunify.gui.layers import own_layer, own_metadata
from napari_tokenunify.gui.project_layers import PICKED, SEGMENTS
from napari_tokenunify.gui.shown_segments import ShownSegments
from napari_tokenunify.segment.fragment_store import SegmentView

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari import Viewer
    from numpy.typing import NDArray

_FULL, _DIM = 0.5, 0.2  # opacity of the segments, alone and behind a picked one
_BRIGHT: Final = ((0.0, 0.0, 0.0, 0.0), (1.0, 0.9, 0.1, 1.0))


@dataclass(frozen=True)
class Numbers:
    """What is known of a segment.

    Attributes
    ----------
    segment : int
        Its id.
    fragments, voxels : int
        How many it has.
    volume_um3 : float or None
        Its volume in cubic micrometres; None if the voxel size is unknown.
    """

    segment: int
    fragments: int
    voxels: int
    volume_um3: float | None


class PickedSegment:
    """The segment of a fragment, bright in a layer of its own.

    A fragment is remembered and not a segment, so the same place stays picked while the threshold moves.

    Parameters
    ----------
    viewer : Viewer
        Where the layer of segments is.

    Attributes
    ----------
    changed : Signal()
        Another segment is picked, it has grown or shrunk, or none is picked any more.
    is_resting : bool
        Clicks are none of its business, as another step is shown.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._fragment = 0
        self.numbers: Numbers | None = None
        self._on_click = False
        self.is_resting = False
        viewer.mouse_drag_callbacks.append(self._click)

    @property
    def layer(self) -> Labels | None:
        """The layer of segments; None if there is none."""
        found = own_layer(self._viewer, SEGMENTS)
        return found if found is not None and isinstance(found.data, ShownSegments) else None

    def attend(self, toggle: Callable[[], None]) -> None:
        """Follow the layer of segments, which is new or has new data; `toggle` is bound to napari's keys for picking.

        These are L and 5, unless the user has chosen others in Preferences > Shortcuts.
        """
        self.pick(0)
        layer = self.layer
        if layer is None:
            return
        layer.data.changed.connect(self._show)
        layer.events.selected_label.connect(self._take_selected)
        if self._double_click not in layer.mouse_double_click_callbacks:
            layer.mouse_double_click_callbacks.append(self._double_click)
        for key in get_settings().shortcuts.shortcuts.get("napari:activate_labels_picker_mode", ()):
            layer.bind_key(key, lambda _: toggle(), overwrite=True)

    def on_click(self, wanted: bool) -> None:
        """Choose whether a click picks."""
        self._on_click = wanted

    def pick(self, fragment: int) -> None:
        """Pick the segment that a fragment is in now; 0 picks none."""
        self._fragment = fragment
        self._show()

    def stand_out(self) -> None:
        """Show what is picked again; another step may have hidden it."""
        layer, picked = self.layer, own_layer(self._viewer, PICKED)
        if layer is not None and picked is not None and not picked.visible:
            picked.visible = True
            if layer.opacity == _FULL:
                layer.opacity = _DIM

    def alone(self, wanted: bool) -> None:
        """Hide or show the other segments."""
        layer = self.layer
        if layer is not None and layer.visible == wanted:  # napari reads it anew whenever it is told
            layer.visible = not wanted

    def _click(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Pick at the end of a click, but not of a drag, which moves the view."""
        if not self._on_click:
            return
        yield
        if event.type != "mouse_move":
            self._pick_at(event.position)

    def _double_click(self, layer: Labels, event: Any) -> None:
        self._pick_at(event.position)

    def _pick_at(self, position: Any) -> None:
        layer = self.layer
        if layer is None or self.is_resting or self._viewer.dims.ndisplay == 3:
            return
        voxel = np.round(layer.world_to_data(position)).astype(int)
        if ((voxel >= 0) & (voxel < layer.data.shape)).all():
            z, y, x = voxel.tolist()
            self.pick(int(layer.data.fragments[z, y, x]))

    def _take_selected(self, _: object) -> None:
        """Pick what was chosen in napari's own controls: a segment has the id of one of its fragments."""
        layer = self.layer
        if layer is not None and 0 < layer.selected_label < len(layer.data.table):
            chosen = int(layer.selected_label)
            if self.numbers is None or self.numbers.segment != chosen:
                self.pick(chosen)

    def _show(self) -> None:
        """Bring layer and numbers to what the table says now."""
        layer = self.layer
        segment = 0 if layer is None or self._fragment == 0 else int(layer.data.table[self._fragment])
        if layer is None or segment == 0:
            self.numbers = None
            self._clear()
        else:
            members = layer.data.table == np.uint64(segment)
            self.numbers = _count(layer.data, segment, members)
            self._put(layer, members.astype(np.uint64))
            layer.selected_label = segment
        self.changed.emit()

    def _put(self, segments: Labels, members: NDArray[np.uint64]) -> None:
        found = own_layer(self._viewer, PICKED)
        if found is not None and found.data.fragments is segments.data.fragments:
            found.data.set_table(members)
            found.refresh(thumbnail=False, highlight=False, extent=False)
            return
        self._clear()
        shown = Labels(
            SegmentView(segments.data.fragments, members),
            name=PICKED,
            scale=segments.scale,
            translate=segments.translate,
            units=segments.units,
            axis_labels=segments.axis_labels,
            opacity=0.5,
            colormap=CyclicLabelColormap(_BRIGHT),
            metadata=own_metadata(segments, PICKED),
        )
        active = self._viewer.layers.selection.active
        self._viewer.add_layer(shown)
        shown.editable = False
        self._viewer.layers.selection.active = active  # the keys stay those of the layer that had them
        if segments.opacity == _FULL:
            segments.opacity = _DIM

    def _clear(self) -> None:
        if (picked := own_layer(self._viewer, PICKED)) is not None:
            self._viewer.layers.remove(picked)
        layer = self.layer
        if layer is not None:
            self.alone(wanted=False)
            if layer.opacity == _DIM:
                layer.opacity = _FULL


def _count(shown: ShownSegments, segment: int, members: NDArray[np.bool_]) -> Numbers:
    segmentation = shown.segmentation
    voxels = int(segmentation.sizes[members].sum())
    size = segmentation.voxel_size_nm
    volume = None if size is None else voxels * float(np.prod(size)) / 1e9
    return Numbers(segment, int(np.count_nonzero(members)), voxels, volume)
