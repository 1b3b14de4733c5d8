"""SectionStrip: a bar with a line for each section: which hold labels, and which one is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent, QMouseEvent, QPaintEvent

_LABELLED: Final = QColor("#2e9e73")  # reads well on light and dark
_EDGE: Final = 5.0  # pixels left and right, for half the mark of the section that is shown
_MARK: Final = 6.0  # height of that mark


class SectionStrip(QWidget):
    """The sections of a volume from left to right; a click or the arrow keys choose one.

    Attributes
    ----------
    chosen : Signal(int)
        The section that the user wants to see.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._sections, self._shown = 1, 0
        self._labelled: tuple[int, ...] = ()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Sections with labels")
        self.setToolTip(
            "Sections from first to last; those with labels are green. Click to go to one, or use the arrow keys; "
            "page up and down lead to the next with labels."
        )

    def sizeHint(self) -> QSize:
        """Return a wide and flat size."""
        return QSize(200, 30)

    def show_labelled(self, sections: int, labelled: Sequence[int]) -> None:
        """Show which of how many sections hold labels."""
        self._sections, self._labelled = max(1, sections), tuple(labelled)
        self.update()

    def show_current(self, section: int) -> None:
        """Mark the section that the viewer shows."""
        section = self._inside(section)
        if section != self._shown:
            self._shown = section
            self.update()

    def section_at(self, x: float) -> int:
        """Return the section at a place of the bar, in pixels from the left."""
        return self._inside(int((x - _EDGE) / max(1.0, self.width() - 2 * _EDGE) * self._sections))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the bar, the sections with labels on it, and the mark."""
        painter = QPainter(self)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        bar = QRectF(_EDGE, _MARK + 1, self.width() - 2 * _EDGE, self.height() - _MARK - 3)
        trough = QColor(ink)
        trough.setAlpha(50)
        painter.fillRect(bar, trough)
        step = bar.width() / self._sections
        for section in self._labelled:
            painter.fillRect(QRectF(bar.left() + section * step, bar.top(), max(1.0, step), bar.height()), _LABELLED)
        middle = bar.left() + (self._shown + 0.5) * step
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(ink)
        painter.drawLine(QPointF(middle, _MARK), QPointF(middle, self.height() - 2))
        painter.setBrush(ink)
        half = _MARK / 2 + 1
        painter.drawPolygon(QPolygonF([QPointF(middle - half, 0), QPointF(middle + half, 0), QPointF(middle, _MARK)]))
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(bar.adjusted(-2, -2, 2, 2))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Go to the section under the pointer."""
        if event is not None:
            self._choose(self.section_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Follow the pointer while the button is held."""
        self.mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go along the sections."""
        if event is None:
            return
        later = [z for z in self._labelled if z > self._shown]
        before = [z for z in self._labelled if z < self._shown]
        wanted = {
            Qt.Key.Key_Left: self._shown - 1,
            Qt.Key.Key_Right: self._shown + 1,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: self._sections - 1,
            Qt.Key.Key_PageUp: before[-1] if before else self._shown,
            Qt.Key.Key_PageDown: later[0] if later else self._shown,
        }.get(event.key())
        if wanted is None:
            super().keyPressEvent(event)
        else:
            self._choose(wanted)

    def _choose(self, section: int) -> None:
        section = self._inside(section)
        if section != self._shown:
            self.show_current(section)
            self.chosen.emit(section)

    def _inside(self, section: int) -> int:
        return max(0, min(section, self._sections - 1))
