"""The step Proofread: merge, split and cut segments, follow the likely errors, go back in time, learn from edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QGroupBox, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.config import (
    ProofreadAtConfig,
    ProofreadConfig,
    ProofreadLogConfig,
)
from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.edit_history import EditHistory
from napari_tokenunify.gui.improve_box import ImproveBox
from napari_tokenunify.gui.kept_segmentations import KeptSegments
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.look_at import look_at
from napari_tokenunify.gui.project_layers import SEGMENTS
from napari_tokenunify.gui.proofread_keys import StepKeys, key_words
from napari_tokenunify.gui.proofread_marks import COLOURS, Marks
from napari_tokenunify.gui.proofread_rows import row_of
from napari_tokenunify.gui.proofread_tools import ProofreadTools
from napari_tokenunify.gui.proofread_words import NO_SEGMENTS, PICK
from napari_tokenunify.gui.segment_table import SegmentTable
from napari_tokenunify.gui.side_views import SideViewsButton
from napari_tokenunify.gui.suggestion_queue import SuggestionQueue
from napari_tokenunify.gui.surface_view import SurfaceView
from napari_tokenunify.pipeline import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.gui.shown_segments import ShownSegments
    from napari_tokenunify.gui.suggestion_search import Offer
    from napari_tokenunify.gui.workbench import Workbench

_AROUND: Final = 20  # voxels on each side of a place that is flown to ...
_AROUND_SEGMENT: Final = 80  # ... and of one in a segment that is to be seen with what is beside it
_TOOL_KEYS: Final = (
    *("Q", "J", "D", "K", "T", "Backspace", "Enter", "Escape", "R", "I", "N"),
    *("Delete", "Control-Z", "Control-Shift-Z"),
)


class ProofreadPanel(QWidget):
    """Correct segments; every edit can be undone, today and in a year.

    Parameters
    ----------
    bench : Workbench
        The viewer, the session, and who edits.
    """

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._viewer, self._session, self.editing = bench.viewer, bench.session, bench.editing
        self._layers = bench.layers
        self._is_shown = False
        self._listed: ShownSegments | None = None
        self.marks, self.surface = Marks(bench.viewer), SurfaceView(bench.viewer)
        self.tools = ProofreadTools(bench.viewer, bench.session, bench.editing, self.marks)
        self.queue = SuggestionQueue(bench.editing, lambda: self.tools.threshold)
        self.segments = SegmentTable(bench.editing, lambda: self.tools.threshold)
        self.history = EditHistory(bench.editing)
        self.improve = ImproveBox(bench.session, bench.improvement)
        self.kept = KeptSegments(bench.session)
        self.solid = QPushButton()
        self.solid.setToolTip("The surfaces of the segments that stand out, made in the background.")
        self.sides = SideViewsButton(bench.viewer)
        self.copy = CopyButtons(self._stage, self.config)
        self.keys = StepKeys(bench.viewer, {**self.tools.actions(), **self.queue.actions(), **self.segments.actions()})
        self._lay_out()
        self._connect()
        self._segmented()

    def _lay_out(self) -> None:
        help_line = QLabel(key_words(_TOOL_KEYS))
        help_line.setWordWrap(True)
        help_line.setToolTip("They work while this step is shown and the pointer was last in the view.")
        layout = QVBoxLayout(self)
        layout.addWidget(self.tools)
        layout.addLayout(row_of(self.solid, self.sides))
        layout.addWidget(help_line)
        layout.addWidget(self.copy)
        parts = {
            "Likely errors": self.queue,
            "Segments": self.segments,
            "History": self.history,
            "Improve": self.improve,
        }
        for title, part in parts.items():
            box = QGroupBox(title)
            QVBoxLayout(box).addWidget(part)
            layout.addWidget(box)
        layout.addWidget(self.kept)
        layout.addStretch()

    def _connect(self) -> None:
        self.tools.said.connect(self._say)
        self.tools.changed.connect(self._changed)
        self.queue.offered.connect(lambda found: self._in_sections(lambda: self._offer(found)))
        self.segments.go_to.connect(lambda place: self._in_sections(lambda: self._pick(place)))
        self.history.go_to.connect(lambda place: self._in_sections(lambda: self._fly(place)))
        self.solid.clicked.connect(self._turn)
        self.surface.failed.connect(show_error)
        listen(self.surface.changed, self._turned)
        listen(self._session.segmentation_changed, self._segmented)
        listen(self._session.project_opened, self._segmented)
        self._viewer.layers.events.removed.connect(self._removed)
        self._viewer.mouse_drag_callbacks.append(self._click)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take the keys, and open the edits."""
        super().showEvent(event)
        self._is_shown = True
        self._layers.show_segments_again()
        self._begin()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Give the keys back, and let nothing stand out."""
        super().hideEvent(event)
        self._is_shown = False
        self.keys.release()
        self.tools.rest()
        self.marks.say("")

    def config(self) -> ProofreadConfig:
        """Return what the edit that is planned would be on the command line; without one, the list of all edits.

        Raises
        ------
        ProofreadError
            If there are no segments, or it is a cut.
        """
        if self._session.segmentation is None:
            raise ProofreadError(NO_SEGMENTS)
        folder, stage, planned = str(self._session.project.segmentation), self._stage(), self.tools.plan
        if planned is None:
            return ProofreadLogConfig(segmentation=folder)
        if self._is_cut:
            raise ProofreadError("A painted line has no command: make the cut here, then share the log of edits.")
        sides = [
            " ".join(",".join(map(str, point)) for point in group if isinstance(point, tuple))
            for group in planned.edit.places
        ]
        kind: Any = STAGES[stage].config
        made: ProofreadAtConfig = kind(segmentation=folder, at=" / ".join(sides), threshold=self.tools.threshold)
        return made

    @property
    def _is_cut(self) -> bool:
        """Whether parts of a fragment stand out that are not parts yet."""
        return self.tools.plan is not None and self.tools.plan.edit.kind == "cut"

    def _stage(self) -> str:
        planned = self.tools.plan
        return "proofread log" if planned is None or self._is_cut else f"proofread {planned.edit.kind}"

    def _begin(self) -> None:
        """Be ready for the user, if she looks at this step and there are segments."""
        if not self._is_shown or self._session.segmentation is None or self.marks.layer is None:
            return
        self.editing.open()
        self.segments.refresh()
        self.history.refresh()
        self._viewer.dims.ndisplay = 2  # in 3-D napari would read all segments to draw them
        self.marks.choose_segments()
        self.keys.bind(self.marks.layers)
        self.tools.escape()

    def _segmented(self) -> None:
        """Begin anew with other segments."""
        self.surface.back()
        self.keys.release()
        self.tools.restart()
        self.queue.forget()
        self.segments.forget()
        self.history.forget()
        layer = self.marks.layer
        if layer is not None and layer.data is not self._listed:
            self._listed = layer.data
            listen(self._listed.changed, self.segments.refresh)
        self._begin()

    def _removed(self, event: Any) -> None:
        """Let go of everything if the user deletes the segments."""
        if self._is_shown and event.value.metadata.get("tokenunify", {}).get("layer") == SEGMENTS:
            self.tools.escape()

    def _click(self, viewer: object, event: Any) -> Generator[None, None, None]:
        """Take a click, but not a drag, which moves the view, nor a stroke of a brush."""
        active = self._viewer.layers.selection.active
        if not self._is_shown or (active is not None and str(active.mode) != "pan_zoom"):
            return
        yield
        if event.type != "mouse_move":
            voxel = self.marks.voxel(event.position)
            if voxel is not None:
                self.tools.click(voxel)

    def _in_sections(self, act: Callable[[], None]) -> None:
        """Do something while sections are shown; napari takes its time to turn from 3-D."""
        if self._viewer.dims.ndisplay == 2:
            act()
            return
        self._viewer.dims.ndisplay = 2
        QTimer.singleShot(0, act)

    def _offer(self, found: Offer) -> None:
        """Fly to a suggestion; of one that is found while she looks at another step, nothing is seen."""
        if not self._is_shown:
            return
        self.tools.step_aside()
        self.marks.show(found.shown)
        self.marks.point([], found.place)
        self._look_at(found.place)
        self.keys.bind(self.marks.layers)
        self.marks.say(f"{found.suggestion.kind.capitalize()} orange and blue? G yes, W no, H later")
        self._changed()

    def _fly(self, place: Triple) -> None:
        self.tools.escape()
        self.marks.point([], place)
        self._look_at(place)

    def _pick(self, place: Triple) -> None:
        """Fly to a segment of the list and choose it, as a click would."""
        self.tools.step_aside()
        self.tools.click(place)
        self._look_at(place, _AROUND_SEGMENT)

    def _look_at(self, place: Triple, around: int = _AROUND) -> None:
        segmentation = self._session.segmentation
        if segmentation is None:
            return
        near = Box(place, (place[0] + 1, place[1] + 1, place[2] + 1)).grown((around,) * 3).shifted(segmentation.origin)
        look_at(self._viewer, self._session.volume, near)

    def _say(self, words: str) -> None:
        if self._is_shown:
            self.marks.say(words)

    def _changed(self) -> None:
        """Allow what can be done with what stands out."""
        self.queue.see(self.marks.coloured)
        if self.tools.chosen is not None and self.tools.mode == PICK:
            self.segments.choose(self.tools.chosen.segment)
        if self._is_shown:
            self.keys.bind(self.marks.layers)
        is_free = not self.surface.busy and self.marks.coloured is not None and not self._is_cut
        self.solid.setEnabled(self.surface.shown or is_free)
        words = "Making it..." if self.surface.busy else "Show in 3-D"
        self.solid.setText("Back to sections" if self.surface.shown else words)

    def _turned(self) -> None:
        if self._is_shown and not self.surface.shown:
            self.marks.choose_segments()
        self._changed()

    def _turn(self) -> None:
        layer, shown = self.marks.layer, self.marks.coloured
        if self.surface.shown:
            self.surface.back()
        elif layer is not None and shown is not None:
            ids = np.unique(shown.colours[shown.colours > 0]).tolist()
            self.surface.show(layer, *ids, table=shown.colours, colours=[COLOURS[number] for number in ids])
