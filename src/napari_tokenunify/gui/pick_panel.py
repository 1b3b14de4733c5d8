"""The part of the step Segment that looks at one segment: pick it, read its numbers, see it alone and in 3-D."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.gui.listening import listen
from napari_tokenunify.gui.picked_segment import PickedSegment
from napari_tokenunify.gui.surface_view import SurfaceView

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_tokenunify.gui.picked_segment import Numbers
    from napari_tokenunify.segment.segmentation import Segmentation
    from napari_tokenunify.session import Session

_HINT = "Click a segment while Pick is pressed, or double-click one."


class PickPanel(QWidget):
    """One segment at a time.

    Parameters
    ----------
    viewer : Viewer
        Where the segments are.
    session : Session
        Tells when there are others.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self.picked, self.surface = PickedSegment(viewer), SurfaceView(viewer)
        self.pick, self.alone, self.solid = QPushButton("Pick"), QPushButton("Show alone"), QPushButton()
        self.pick.setCheckable(True)
        self.pick.setToolTip("A click on a segment picks it, a drag still moves the view (L, on the layer segments).")
        self.alone.setCheckable(True)
        self.alone.setToolTip("Hide all segments but the picked one.")
        self.solid.setToolTip("Its surface, made in the background; the other layers are hidden meanwhile.")
        self.words = QLabel(_HINT)
        self.words.setWordWrap(True)
        row = QHBoxLayout()
        for button in (self.pick, self.alone, self.solid):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.words)
        self.pick.toggled.connect(self.picked.on_click)
        self.alone.toggled.connect(self.picked.alone)
        self.solid.clicked.connect(self._turn)
        listen(self.picked.changed, self._tell)
        listen(self.surface.changed, self._tell)
        self.surface.failed.connect(show_error)
        listen(session.project_opened, self._opened)
        listen(session.segmentation_changed, self._segmented)
        self._tell()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take clicks, and let what was picked stand out again."""
        super().showEvent(event)
        self.picked.is_resting = False
        self.picked.stand_out()
        self._tell()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Leave clicks to the step that is shown instead."""
        super().hideEvent(event)
        self.picked.is_resting = True

    def _opened(self, project: object) -> None:
        self.surface.back()
        self.picked.attend(self.pick.toggle)
        self.pick.setChecked(False)
        self._tell()

    def _segmented(self, segmentation: Segmentation) -> None:
        self.picked.attend(self.pick.toggle)
        self._tell()

    def _tell(self) -> None:
        """Say what is picked, and allow what can be done."""
        numbers, surface = self.picked.numbers, self.surface
        self.pick.setEnabled(self.picked.layer is not None and not surface.shown)
        self.alone.setEnabled(numbers is not None and not surface.shown)
        if numbers is None:
            self.alone.setChecked(False)
        elif self.alone.isChecked() and not self.picked.is_resting and not surface.shown:
            self.picked.alone(True)
        self.solid.setEnabled(surface.shown or (numbers is not None and not surface.busy))
        self.solid.setText("Back to sections" if surface.shown else "Making it..." if surface.busy else "Show in 3-D")
        self.words.setText(_HINT if numbers is None else _sentence(numbers))

    def _turn(self) -> None:
        layer, numbers = self.picked.layer, self.picked.numbers
        if self.surface.shown:
            self.surface.back()
        elif layer is not None and numbers is not None:
            self.surface.show(layer, numbers.segment)


def _sentence(numbers: Numbers) -> str:
    volume = "" if numbers.volume_um3 is None else f", {numbers.volume_um3:.3g} μm³"
    of = "fragment" if numbers.fragments == 1 else "fragments"
    return f"<b>Segment {numbers.segment}</b>: {numbers.voxels:,} voxels{volume}, of {numbers.fragments:,} {of}."
