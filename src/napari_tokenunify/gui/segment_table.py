"""SegmentTable: all segments with their numbers, and how far proofreading is; a row leads to its segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QLineEdit, QTableView, QVBoxLayout, QWidget

from napari_tokenunify import proofread  # its names load when they are used: the panel opens without
from napari_tokenunify.gui.proofread_rows import row_of, tool_button

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from qtpy.QtGui import QShowEvent

    from napari_tokenunify.geometry import VoxelSize
    from napari_tokenunify.gui.editing import Editing
    from napari_tokenunify.proofread import SegmentList

    Index: TypeAlias = QModelIndex | QPersistentModelIndex

_HEIGHT: Final = 190  # pixels; a longer list scrolls
_ROOM: Final = 4  # pixels between the lines
_NONE_YET: Final = "No segments yet."


class SegmentTable(QWidget):
    """The list, and the way to the largest segment that nobody has marked correct yet.

    Attributes
    ----------
    go_to : Signal(tuple)
        A voxel (z, y, x) of a segment that the user wants to see.

    Parameters
    ----------
    editing : Editing
        Whose segments.
    threshold : callable
        Returns at which they are shown.
    """

    go_to = Signal(object)

    def __init__(self, editing: Editing, threshold: Callable[[], float | None]) -> None:
        super().__init__()
        self._editing, self._threshold = editing, threshold
        self._listed: SegmentList | None = None
        self._segment = 0  # that is chosen
        self._is_stale, self._is_asking, self._turn = True, False, 0
        self.model, self.table, self.words = _Rows(self), QTableView(), QLabel(_NONE_YET)
        self.find, self.next = QLineEdit(), tool_button("Next to check (U)", "The largest that is not marked correct.")
        self._lay_out()
        self.find.returnPressed.connect(self._find)
        self.next.clicked.connect(self.go_on)
        self.table.clicked.connect(self._go)
        self.table.activated.connect(self._go)

    def _lay_out(self) -> None:
        table, header = self.table, self.table.horizontalHeader()
        table.setModel(self.model)
        table.setSortingEnabled(True)
        table.sortByColumn(_Rows.VOXELS, Qt.SortOrder.DescendingOrder)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        table.setFixedHeight(_HEIGHT)
        table.setAccessibleName("Segments")
        table.setToolTip("A click on a segment picks it and leads there; a click on a title sorts.")
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        table.verticalHeader().hide()
        table.verticalHeader().setMinimumSectionSize(1)
        table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + _ROOM)
        self.find.setPlaceholderText("number of a segment or fragment")
        self.find.setToolTip("Go there (Enter).")
        self.words.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(table)
        layout.addWidget(self.words)
        layout.addLayout(row_of(self.find, self.next))

    def showEvent(self, event: QShowEvent | None) -> None:
        """List the segments as they are now."""
        super().showEvent(event)
        self.refresh()

    def actions(self) -> dict[str, Callable[[], None]]:
        """Return what each key does."""
        return {"U": self.go_on}

    def refresh(self) -> None:
        """List the segments anew: at once if they are looked at, else when they will be."""
        self._is_stale = True
        if self._is_asking or not self.isVisible():
            return
        self._is_stale, self._is_asking = False, True
        self._turn += 1
        threshold, turn = self._threshold(), self._turn
        self._editing.ask(
            self,
            lambda p: (proofread.list_segments(p, threshold), p.segmentation.voxel_size_nm),
            lambda found: self._show(*found) if turn == self._turn else None,
            lambda sentence: self._fail(sentence) if turn == self._turn else None,
        )

    def forget(self) -> None:
        """Show nothing: there is another segmentation."""
        self._listed, self._segment, self._is_stale, self._is_asking = None, 0, True, False
        self._turn += 1
        self.model.show_list(None, None)
        self.words.setText(_NONE_YET)

    def choose(self, segment: int) -> None:
        """Let the row of a segment stand out, as it was chosen elsewhere."""
        self._segment = segment
        row = self.model.place_of(segment)
        if row is None:
            self.table.clearSelection()
        elif row != self.table.currentIndex().row() or not self.table.selectionModel().hasSelection():
            self.table.selectRow(row)

    def go_on(self) -> None:
        """Go to the largest segment that is not marked correct; from that one, to the next largest."""
        listed = self._listed
        if listed is None:
            return
        left = np.flatnonzero(~listed.is_correct)
        if not len(left):
            self.words.setText("<b>All segments are marked correct.</b>")
            return
        here = listed.row_of(self._segment)
        after = left[left > here] if here is not None and not listed.is_correct[here] else left
        self._lead(int((after if len(after) else left)[0]))

    def _find(self) -> None:
        listed, text = self._listed, self.find.text().strip()
        if listed is None or not text:
            return
        if not text.isdecimal():
            show_error(f"{text!r} is not the number of a segment.")
            return
        threshold, number = self._threshold(), int(text)
        self._editing.ask(self, lambda p: p.shown(threshold).segment_of(number), self._found)

    def _found(self, segment: int) -> None:
        row = None if self._listed is None else self._listed.row_of(segment)
        if row is not None:
            self._lead(row)

    def _go(self, index: Index) -> None:
        row = self.model.row_at(index)
        if row is not None:
            self._lead(row)

    def _lead(self, row: int) -> None:
        """Say where a segment of the list is, once that was looked up."""
        if self._listed is None:
            return
        segment, threshold = int(self._listed.ids[row]), self._threshold()
        self.choose(segment)
        self._editing.ask(self, lambda p: proofread.place_of_segment(p, segment, threshold), self.go_to.emit)

    def _show(self, listed: SegmentList, voxel_size_nm: VoxelSize | None) -> None:
        self._listed, self._is_asking = listed, False
        self.model.show_list(listed, voxel_size_nm)
        correct = int(listed.is_correct.sum())
        share = f", {listed.correct_share:.1%} of the voxels" if correct else ""
        self.words.setText(f"<b>{len(listed):,} segments</b>, {correct:,} marked correct{share}.")
        self.choose(self._segment)
        if self._is_stale:
            self.refresh()

    def _fail(self, sentence: str) -> None:
        self._is_asking = False
        self.words.setText(sentence)


class _Rows(QAbstractTableModel):
    """The list for Qt, sorted by any column; a million rows cost no more than a hundred to show."""

    SEGMENT, VOXELS, VOLUME, FRAGMENTS, CORRECT = range(5)
    _TITLES = ("segment", "voxels", "μm³", "fragments", "correct")

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._listed: SegmentList | None = None
        self._voxel_um3: float | None = None
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)
        self._by, self._is_falling = self.VOXELS, True

    def show_list(self, listed: SegmentList | None, voxel_size_nm: VoxelSize | None) -> None:
        """Show these, sorted as those before."""
        self.beginResetModel()
        self._listed = listed
        self._voxel_um3 = None if voxel_size_nm is None else float(np.prod(voxel_size_nm)) / 1e9
        self._order = self._sorted()
        self.endResetModel()

    def row_at(self, index: Index) -> int | None:
        """Return which row of the list is shown at a place."""
        return int(self._order[index.row()]) if index.isValid() and index.row() < len(self._order) else None

    def place_of(self, segment: int) -> int | None:
        """Return where a segment is shown; None if it is not."""
        row = None if self._listed is None else self._listed.row_of(segment)
        return None if row is None else int(np.flatnonzero(self._order == row)[0])

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; what is chosen stays chosen."""
        self.layoutAboutToBeChanged.emit()
        kept = self.persistentIndexList()
        rows = [self.row_at(index) for index in kept]
        self._by, self._is_falling = column, order == Qt.SortOrder.DescendingOrder
        self._order = self._sorted()
        place = np.argsort(self._order)
        for index, row in zip(kept, rows, strict=True):
            if row is not None:
                self.changePersistentIndex(index, self.index(int(place[row]), index.column()))
        self.layoutChanged.emit()

    def rowCount(self, parent: Index | None = None) -> int:
        """Return how many there are."""
        return len(self._order)

    def columnCount(self, parent: Index | None = None) -> int:
        """Return how many numbers each has."""
        return len(self._TITLES)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the title of a column."""
        is_title = role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal
        return self._TITLES[section] if is_title else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the words of a number."""
        row = self.row_at(index)
        if row is None:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._words(row, index.column())
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignHCenter if index.column() == self.CORRECT else Qt.AlignmentFlag.AlignRight
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def _words(self, row: int, column: int) -> str:
        listed = self._listed
        if listed is None:
            return ""
        if column == self.VOLUME:
            return "" if self._voxel_um3 is None else f"{listed.voxels[row] * self._voxel_um3:.3g}"
        if column == self.CORRECT:
            return "✓" if listed.is_correct[row] else ""
        if column == self.SEGMENT:
            return str(listed.ids[row])
        return f"{(listed.voxels if column == self.VOXELS else listed.fragments)[row]:,}"

    def _sorted(self) -> NDArray[np.int64]:
        """Return the rows in the order of the chosen column; the larger segment first among equals."""
        listed = self._listed
        if listed is None:
            return np.zeros(0, np.int64)
        keys = {
            self.SEGMENT: listed.ids,
            self.FRAGMENTS: listed.fragments,
            self.CORRECT: listed.is_correct,
        }.get(self._by, listed.voxels)
        values = keys.astype(np.int64)
        return np.argsort(-values if self._is_falling else values, kind="stable")
