"""EditHistory: all edits that lead to now and those that were undone; a click leads to the place, or back in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from qtpy.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QHBoxLayout, QLabel, QListView, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify import proofread  # its names load when they are used: the panel opens without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.gui.editing import Editing
    from napari_tokenunify.proofread import Edit, Proofreading, Statistics

    Index: TypeAlias = QModelIndex | QPersistentModelIndex

_VERBS: Final = {
    "merge": "merged",
    "split": "split",
    "detach": "isolated",
    "cut": "cut",
    "delete": "deleted",
    "lock": "marked correct",
    "unlock": "unlocked",
    "comment": "note",
}
_HEIGHT: Final = 150  # pixels; a longer list scrolls
_NOTHING: Final = "No edits yet."


@dataclass(frozen=True)
class Row:
    """An edit in a list.

    Attributes
    ----------
    uuid : str
        Its name.
    words : str
        What was done, and when.
    place : int, tuple of int or None
        A fragment, or a voxel (z, y, x) of the segmentation; None for an edit of no place.
    """

    uuid: str
    words: str
    place: int | Triple | None


@dataclass(frozen=True)
class Standing:
    """What the list shows.

    Attributes
    ----------
    rows : dict of str to Row
        Every edit that is known, by its name.
    path : tuple of str
        From the first edit over the last that is in force to the last that can be made again.
    in_force : int
        How many of these are in force.
    statistics : Statistics
        Of those.
    """

    rows: Mapping[str, Row]
    path: tuple[str, ...]
    in_force: int
    statistics: Statistics


def look_back(proofreading: Proofreading, known: Mapping[str, Row]) -> Standing:
    """Return how the history stands; in a thread.

    Parameters
    ----------
    proofreading : Proofreading
        Whose history.
    known : mapping
        Rows that were made before.
    """
    history, in_force = proofreading.history, proofreading.in_force
    path = (*in_force, *history.ahead_of(in_force[-1] if in_force else None))
    rows = {**known, **{uuid: as_row(history[uuid]) for uuid in path if uuid not in known}}
    return Standing(rows, path, len(in_force), proofreading.statistics())


def as_row(edit: Edit) -> Row:
    """Return an edit as a line of the list."""
    when = edit.time.astimezone()
    clock = f"{when:%H:%M}" if when.date() == datetime.now().astimezone().date() else f"{when:%Y-%m-%d %H:%M}"
    places = [place for group in edit.places for place in group]
    place = places[0] if places else None
    if edit.division is not None:
        z, y, x = (int(a) + int(n) // 2 for a, n in zip(edit.division.start, edit.division.shape, strict=True))
        place = (z, y, x)
    at = "" if place is None else f", fragment {place}"
    if isinstance(place, tuple):
        at = f" at {place[0]}, {place[1]}, {place[2]}"
    text = f": {edit.text}" if edit.text else ""
    return Row(edit.uuid, f"{clock}  {_VERBS[edit.kind]}{at}{text}", place)


class EditHistory(QWidget):
    """The list, and how the work goes.

    Attributes
    ----------
    go_to : Signal(tuple)
        A voxel (z, y, x) of the segmentation that the user wants to see.

    Parameters
    ----------
    editing : Editing
        Whose edits.
    """

    go_to = Signal(object)

    def __init__(self, editing: Editing) -> None:
        super().__init__()
        self._editing = editing
        self._standing: Standing | None = None
        self.model, self.list, self.back, self.pace = _Rows(self), QListView(), QPushButton("Back to here"), QLabel()
        self.list.setModel(self.model)
        self.list.setUniformItemSizes(True)
        self.list.setFixedHeight(_HEIGHT)
        self.list.setAccessibleName("History of edits")
        self.list.setToolTip("The last edit first, undone ones in grey. Click one to see its place.")
        self.list.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.back.setToolTip("Undo or redo as far as the chosen edit, so that it is the last one in force.")
        self.back.setEnabled(False)
        self.back.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.pace.setWordWrap(True)
        self.pace.setText(_NOTHING)
        row, layout = QHBoxLayout(), QVBoxLayout(self)
        row.addWidget(self.pace, 1)
        row.addWidget(self.back)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addLayout(row)
        self.list.clicked.connect(self._show_place)
        self.back.clicked.connect(self._go_back)
        selection = self.list.selectionModel()
        if selection is not None:
            selection.selectionChanged.connect(lambda *_: self._allow())
        editing.changed.connect(self.refresh)

    def refresh(self, _: object = None) -> None:
        """Look at the history again."""
        known = {} if self._standing is None else self._standing.rows
        self._editing.ask(self, lambda p: look_back(p, known), self._show)

    def forget(self) -> None:
        """Show nothing: there is another segmentation."""
        self._standing = None
        self.model.show_rows([], 0)
        self.pace.setText(_NOTHING)
        self._allow()

    def _show(self, standing: Standing) -> None:
        self._standing = standing
        self.model.show_rows([standing.rows[uuid] for uuid in standing.path], standing.in_force)
        found = standing.statistics
        per_hour = f", {found.edits_per_hour:.0f} an hour" if found.edits_per_hour else ""
        kinds = ", ".join(f"{count} {_VERBS[kind]}" for kind, count in found.kinds.items())
        edits = f"{found.edits:,} edit{'s' * (found.edits != 1)}"
        self.pace.setText(f"<b>{edits}</b>{per_hour} ({kinds})." if found.edits else _NOTHING)
        self._allow()

    def _chosen(self) -> Row | None:
        index = self.list.currentIndex()
        return self.model.row_at(index) if index.isValid() else None

    def _allow(self) -> None:
        row = self._chosen()
        last = self._standing.path[self._standing.in_force - 1] if self._standing and self._standing.in_force else None
        self.back.setEnabled(row is not None and row.uuid != last)

    def _show_place(self, index: QModelIndex) -> None:
        row = self.model.row_at(index)
        place = row.place if row is not None else None
        if isinstance(place, tuple):
            self.go_to.emit(place)
        elif place is not None:
            fragment = place
            self._editing.ask(self, lambda p: proofread.place_of_fragment(p, fragment), self.go_to.emit, _gone)
        self._allow()

    def _go_back(self) -> None:
        row = self._chosen()
        if row is not None:
            self._editing.go_to(row.uuid)


def _gone(_: str) -> None:
    """Fly nowhere: the fragment is a part that is whole again, as its cut was undone."""


class _Rows(QAbstractListModel):
    """The edits for Qt, the last one first; a list of ten thousand costs no more than one of ten."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []
        self._in_force = 0

    def show_rows(self, rows: list[Row], in_force: int) -> None:
        """Show these, of which the first `in_force` are in force."""
        self.beginResetModel()
        self._rows, self._in_force = rows, in_force
        self.endResetModel()

    def row_at(self, index: Index) -> Row | None:
        """Return what is shown at a place."""
        number = len(self._rows) - 1 - index.row()
        return self._rows[number] if 0 <= number < len(self._rows) else None

    def rowCount(self, parent: Index | None = None) -> int:
        """Return how many there are."""
        return len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the words of a row, grey if it was undone."""
        row = self.row_at(index)
        if row is None:
            return None
        undone = len(self._rows) - 1 - index.row() >= self._in_force
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{row.words} (undone)" if undone else row.words
        if role == Qt.ItemDataRole.ForegroundRole and undone:
            return QBrush(QColor(128, 128, 128))
        return None
