"""FindingList: what a check found, one line each; a click or Enter leads to the place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QStyle

from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.look_at import look_at, show_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from qtpy.QtGui import QKeyEvent, QResizeEvent

    from napari_tokenunify.data import Finding, Volume

_WORDS: Final = {"error": "Error", "warning": "Warning", "info": "Note"}
_ICONS: Final = {
    "error": QStyle.StandardPixmap.SP_MessageBoxCritical,
    "warning": QStyle.StandardPixmap.SP_MessageBoxWarning,
    "info": QStyle.StandardPixmap.SP_MessageBoxInformation,
}
_ORDER: Final = list(_WORDS)
_TALLEST: Final = 260  # pixels; a longer list scrolls
_MARGIN: Final = 10  # pixels around the text of a line

Target = Box | int
"""Where a finding leads: a box of voxels, or a section."""


class FindingList(QListWidget):
    """The findings, the gravest first; chosen again, one leads to its next place.

    Attributes
    ----------
    go_to : Signal(Box or int)
        Where the user wants to look.
    """

    go_to = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._targets: list[list[Target]] = []
        self._last = (-1, -1)  # row and number of the place that was gone to last
        self.setAccessibleName("Findings")
        self.setToolTip("Click a finding, or press Enter on it, to go there; again, to go to its next place.")
        self.setWordWrap(True)
        self.setIconSize(QSize(16, 16))
        self.setSpacing(1)
        self.setTextElideMode(Qt.TextElideMode.ElideNone)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.itemClicked.connect(self._choose)
        self.hide()

    def show_findings(self, findings: Sequence[Finding]) -> None:
        """Show these and no others; hidden if there is none."""
        ordered = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
        self.clear()
        self._targets = [targets(finding) for finding in ordered]
        self._last = (-1, -1)
        for finding, places in zip(ordered, self._targets, strict=True):
            more = f"  ({len(places)} places)" if len(places) > 1 else ""
            item = QListWidgetItem(f"{_WORDS[finding.severity]}: {finding.message}{more}")
            style = self.style()
            if style is not None:
                item.setIcon(style.standardIcon(_ICONS[finding.severity]))
            self.addItem(item)
        self.setVisible(bool(ordered))
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Break the lines anew, and take as much room as they need."""
        super().resizeEvent(event)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to where the current finding leads when Enter is pressed."""
        if event is not None and event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter} and self.currentItem():
            self._choose(self.currentItem())
        else:
            super().keyPressEvent(event)

    def _fit(self) -> None:
        """Give each line the height of its text at this width; Qt by itself reckons with one line of it."""
        width = self.viewport().width() - self.iconSize().width() - 2 * _MARGIN
        flags = int(Qt.TextFlag.TextWordWrap)
        height = 2 * self.frameWidth() + 2
        for row in range(self.count()):
            item = self.item(row)
            lines = self.fontMetrics().boundingRect(0, 0, width, 10_000, flags, item.text()).height()
            item.setSizeHint(QSize(0, max(lines, self.iconSize().height()) + _MARGIN))
            height += item.sizeHint().height() + 2 * self.spacing()
        self.setFixedHeight(min(_TALLEST, height))

    def _choose(self, item: QListWidgetItem) -> None:
        row = self.row(item)
        places = self._targets[row]
        if places:
            number = (self._last[1] + 1) % len(places) if self._last[0] == row else 0
            self._last = (row, number)
            self.go_to.emit(places[number])


def targets(finding: Finding) -> list[Target]:
    """Return where a finding leads: its voxels, else the first of each run of its sections."""
    if finding.places:
        return [Box((z, y, x), (z + 1, y + 1, x + 1)) for z, y, x in finding.places]
    if not finding.sections:
        return []
    sections = np.unique(finding.sections)
    return [int(z) for z in sections[np.insert(np.diff(sections) > 1, 0, True)]]


def go_to(viewer: Viewer, volume: Volume, target: Target) -> None:
    """Bring what a finding leads to into view."""
    if isinstance(target, Box):
        look_at(viewer, volume, target)
    else:
        show_section(viewer, volume, target)
