"""Buttons and rows of the step Proofread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QPushButton

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def tool_button(text: str, tip: str, *, checkable: bool = False) -> QPushButton:
    """Return a button that leaves the keyboard to the viewer when it is clicked."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setCheckable(checkable)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


def row_of(*widgets: QWidget) -> QHBoxLayout:
    """Return widgets side by side; a line to write in takes what is left."""
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget, 1 if isinstance(widget, QLineEdit) else 0)
    return row
