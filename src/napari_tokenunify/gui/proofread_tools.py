"""The tools of proofreading: what a click means, what would come of it, and the edit itself once it is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.gui.edit_plan import CHOSEN, FIRST, choose, plan
from napari_tokenunify.gui.line_tool import LineTool
from napari_tokenunify.gui.proofread_rows import row_of, tool_button
from napari_tokenunify.gui.proofread_words import (
    CUT,
    DONE,
    LOOKING,
    MERGE,
    MODES,
    NO_SEGMENTS,
    PICK,
    REMOVED,
    SIDE_COLOURS,
    SIDES,
    SPLIT,
    about_chosen,
    about_plan,
    next_step,
    on_canvas,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.gui.edit_plan import Chosen, Plan
    from napari_tokenunify.gui.editing import Editing
    from napari_tokenunify.gui.proofread_marks import Marks
    from napari_tokenunify.proofread import Edit, Proofreading
    from napari_tokenunify.proofread.edits import Kind, Place
    from napari_tokenunify.session import Session

LARGE: Final = 1_000_000
"""Voxels of the smaller segment from which on a merge is asked about once more."""


class ProofreadTools(QWidget):
    """Modes, actions, and the confirmation of what they would do.

    Attributes
    ----------
    plan : Plan or None
        What would be done now.
    chosen : Chosen or None
        The segment that was clicked last.
    said : Signal(str)
        What is going on, for the canvas.
    changed : Signal()
        Something else is chosen or planned.

    Parameters
    ----------
    viewer : Viewer
        Where the user clicks.
    session : Session
        Whose segments.
    editing : Editing
        Makes the edits.
    marks : Marks
        Shows what they are about.
    """

    said = Signal(str)
    changed = Signal()

    def __init__(self, viewer: Viewer, session: Session, editing: Editing, marks: Marks) -> None:
        super().__init__()
        self._viewer, self._session, self._editing, self._marks = viewer, session, editing, marks
        self.plan: Plan | None = None
        self.chosen: Chosen | None = None
        self._groups: list[list[Triple]] = [[]]
        self._side, self._is_asked, self._asks, self._news = 0, False, 0, ""
        self.line = LineTool(viewer, session, marks, self._stroke)
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._tell()

    def _make_widgets(self) -> None:
        self.modes = {name: tool_button(name, tip, checkable=True) for name, (_, tip) in MODES.items()}
        self.modes[PICK].setChecked(True)
        self._group = QButtonGroup(self)
        for button in self.modes.values():
            self._group.addButton(button)
        self.side = tool_button("", "Which side the next click is on (T).")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setMinimumHeight(3 * self.words.fontMetrics().height())
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.do, self.drop = (
            tool_button("Do it", "Make this edit (Enter)."),
            tool_button("Drop it", "Forget it (Escape)."),
        )
        self.lock = tool_button(
            "Mark correct", "No edit and no threshold changes it from then on; again, to unlock (R)."
        )
        self.isolate = tool_button("Isolate fragment", "Take the clicked fragment out of its segment (I).")
        self.delete = tool_button("Delete", "Make the segment background (Delete).")
        self.text, self.comment = QLineEdit(), tool_button("Note", "Keep this remark, with the place (Enter).")
        self.text.setPlaceholderText("a remark on this place")
        self.text.setToolTip("It is kept in the history, with the place (N, then Enter).")
        self.undo = tool_button("Undo", "Take the last edit back; there is no limit (Ctrl-Z).")
        self.redo = tool_button("Redo", "Make it again (Ctrl-Shift-Z).")

    def _lay_out(self) -> None:
        layout, grid = QVBoxLayout(self), QGridLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row_of(*self.modes.values()))
        layout.addWidget(self.side)
        layout.addWidget(self.words)
        layout.addLayout(row_of(self.do, self.drop))
        for place, button in enumerate((self.lock, self.isolate, self.delete)):
            grid.addWidget(button, 0, place)
        layout.addLayout(grid)
        layout.addLayout(row_of(self.text, self.comment))
        layout.addLayout(row_of(self.undo, self.redo))

    def _connect(self) -> None:
        self._group.buttonToggled.connect(lambda _, on: self._turn() if on else None)
        self.side.clicked.connect(self.other_side)
        self.do.clicked.connect(self.confirm)
        self.drop.clicked.connect(self.escape)
        self.lock.clicked.connect(self.mark_correct)
        self.isolate.clicked.connect(lambda: self._act("detach"))
        self.delete.clicked.connect(lambda: self._act("delete"))
        self.comment.clicked.connect(self._note)
        self.text.returnPressed.connect(self._note)
        self.undo.clicked.connect(self._editing.undo)
        self.redo.clicked.connect(self._editing.redo)
        self._editing.changed.connect(self._edited)
        self._editing.failed.connect(show_error)

    @property
    def mode(self) -> str:
        """What a click means."""
        return next(name for name, button in self.modes.items() if button.isChecked())

    @property
    def threshold(self) -> float | None:
        """At which segments are shown; None where the method has none."""
        layer = self._marks.layer
        return None if layer is None else layer.data.movable

    def actions(self) -> dict[str, Callable[[], None]]:
        """Return what each key does."""
        modes = {key: self.modes[name].click for name, (key, _) in MODES.items()}
        return {
            **modes,
            "T": self.other_side,
            "Backspace": self.take_back,
            "Enter": self.confirm,
            "Escape": self.escape,
            "R": self.mark_correct,
            "I": self.isolate.click,
            "N": self.text.setFocus,
            "Delete": self.delete.click,
            "Control-Z": self._editing.undo,
            "Control-Shift-Z": self._editing.redo,
        }

    def click(self, voxel: Triple) -> None:
        """Take a click on a voxel (z, y, x) of the segmentation."""
        if self.mode == CUT:
            return
        if self.mode == PICK:
            self._groups = [[]]
        self._groups[self._side if self.mode == SPLIT else 0].append(voxel)
        self._look()

    def other_side(self) -> None:
        """Let the next clicks be on the other side of a split."""
        if self.mode == SPLIT:
            self._side = 1 - self._side
            self._tell()

    def take_back(self) -> None:
        """Forget the last point, or wipe the last stroke away."""
        if self.mode == CUT:
            self.line.take_back()
            return
        group = self._groups[self._side if self.mode == SPLIT else 0]
        if not group and self.mode == SPLIT:
            group = self._groups[1 - self._side]
        if group:
            group.pop()
            self._look()

    def escape(self) -> None:
        """Forget what was clicked, painted or planned."""
        self._forget()
        self.line.clear()
        self._tell()

    def confirm(self) -> None:
        """Make the edit that is planned; of a line, plan the cut first."""
        if self.plan is None and self.mode == CUT:
            self._plan_cut()
        elif self.plan is not None and self._is_risky(self.plan) and not self._is_asked:
            self._is_asked = True
            self._tell()
        elif self.plan is not None:
            made, self.plan = self.plan, None
            self._editing.commit(made.edit, self._refused)

    def mark_correct(self) -> None:
        """Lock the chosen segment, or unlock it; it looks the same, so nobody is asked."""
        if self.chosen is not None:
            self._commit("unlock" if self.chosen.is_locked else "lock")

    def rest(self) -> None:
        """Let go of everything, as the user looks at something else."""
        self.line.end()
        self.escape()
        self.modes[PICK].setChecked(True)
        self._marks.remove()

    def step_aside(self) -> None:
        """Let go of everything, as something else stands out instead."""
        self._group.blockSignals(True)
        self.modes[PICK].setChecked(True)
        self._group.blockSignals(False)
        self.line.end()
        self._reset()
        self._tell()

    def restart(self) -> None:
        """Begin anew: there are other segments."""
        self._asks += 1
        self.rest()

    # What is planned

    def _turn(self) -> None:
        self._forget()
        if self.mode == CUT:
            try:
                self.line.begin()
            except TokenUnifyError as error:
                show_error(str(error))
                self.modes[PICK].setChecked(True)
                return
        else:
            self.line.end()
        self._tell()

    def _forget(self) -> None:
        self._reset()
        self._marks.clear()

    def _reset(self) -> None:
        self._asks += 1
        self.plan = self.chosen = None
        self._groups = [[], []] if self.mode == SPLIT else [[]]
        self._side, self._is_asked, self._news = 0, False, ""

    def _look(self) -> None:
        """Show what was pointed at, and plan the edit where enough is known for one."""
        self.plan, self._is_asked, self._news = None, False, ""
        groups, threshold = [list(group) for group in self._groups], self.threshold
        places: list[Place] = [point for group in groups for point in group]
        if not places:
            self.escape()
        elif self.mode == SPLIT and all(groups):
            self._ask(lambda p: plan(p, "split", groups, threshold), self._planned)
        elif self.mode == MERGE and len(places) > 1:
            self._ask(lambda p: plan(p, "merge", groups, threshold), self._planned)
        else:
            colour = CHOSEN if self.mode != MERGE else FIRST
            self._ask(lambda p: choose(p, places[-1:], colour, threshold), self._take_chosen)
        self._marks.point([] if self.mode == PICK else self._groups)  # while the thread is at work already

    def _act(self, kind: Kind) -> None:
        """Plan what is done with the chosen segment; the same button again does it."""
        if self.chosen is None or self.mode != PICK:
            return
        if self.plan is not None and self.plan.edit.kind == kind:
            self.confirm()
            return
        places, threshold = [list(self._groups[0])], self.threshold
        self._ask(lambda p: plan(p, kind, places, threshold), self._planned)

    def _commit(self, kind: Kind) -> None:
        """Do something with the chosen segment at once."""
        places, threshold = [list(self._groups[0])], self.threshold
        self._ask(lambda p: p.plan(kind, places, threshold=threshold), lambda edit: self._editing.commit(edit))

    def _note(self) -> None:
        text = self.text.text().strip()
        places = [list(group) for group in self._groups if group]
        if not text:
            show_error("Write what there is to say first.")
            return

        def noted(edit: Edit) -> None:
            self._editing.commit(edit)
            self.text.clear()

        self._ask(lambda p: p.plan("comment", places, text=text), noted)

    def _plan_cut(self, failed: Callable[[str], None] = show_error) -> None:
        work = self.line.planner()
        if work is not None:
            self._ask(work, self._planned, failed)

    def _stroke(self) -> None:
        """See at once what falls apart along the line, as far as it is painted."""
        self._forget()
        self._news = LOOKING
        self._plan_cut(self._not_yet)

    def _not_yet(self, sentence: str) -> None:
        """Say why a line divides nothing; it may not be finished."""
        self._news = sentence
        self._tell()

    def _ask(
        self,
        work: Callable[[Proofreading], Any],
        then: Callable[[Any], None],
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """Ask, and want the answer only as long as nothing else was clicked."""
        self._asks += 1
        turn = self._asks
        self._tell()
        self._editing.ask(
            self,
            lambda p: work(p) if turn == self._asks else None,
            lambda found: then(found) if turn == self._asks else None,
            lambda sentence: (failed or self._refused)(sentence) if turn == self._asks else None,
        )

    def _planned(self, found: Plan) -> None:
        self.plan = found
        self._marks.show(found.shown)
        self._tell()

    def _take_chosen(self, found: Chosen) -> None:
        self.chosen = found
        self._marks.show(found.shown)
        self._tell()

    def _refused(self, sentence: str) -> None:
        """Say why it cannot be, and forget the point that it cannot be with."""
        show_error(sentence)
        if self.mode in {MERGE, SPLIT} and sum(map(len, self._groups)) > 1:
            self.take_back()
        else:
            self.escape()

    def _edited(self, edit: Edit | None) -> None:
        """Begin the next edit."""
        self._forget()
        self.line.clear()
        self._news = "" if edit is None else DONE[edit.kind]
        self._tell()

    def _is_risky(self, found: Plan) -> bool:
        return found.edit.kind == "merge" and found.smaller >= LARGE

    # Words

    def _tell(self) -> None:
        """Say what is going on, and allow what can be done."""
        there = self._marks.layer is not None
        for button in self.modes.values():
            button.setEnabled(there)
        self.side.setVisible(self.mode == SPLIT)
        self.side.setText(f"Next click: {SIDES[self._side]} side (T changes it)")
        self.side.setStyleSheet(f"color: {SIDE_COLOURS[self._side]}")
        self.do.setEnabled(self.plan is not None or self.mode == CUT)
        self.do.setText("Show the cut" if self.mode == CUT and self.plan is None else "Do it")
        self.drop.setEnabled(self.plan is not None or self.chosen is not None or self.mode == CUT)
        is_chosen = self.chosen is not None and self.mode == PICK
        for button in (self.lock, self.isolate, self.delete):
            button.setEnabled(is_chosen)
        self.lock.setText("Unlock" if self.chosen is not None and self.chosen.is_locked else "Mark correct")
        words = self._sentence()
        self.words.setText(words)
        self.said.emit(on_canvas(self.mode, self._step(), self.plan, is_asked=self._is_asked) if there else "")
        self.changed.emit()

    def _sentence(self) -> str:
        if self._marks.layer is None:
            return NO_SEGMENTS if self._session.segmentation is None else REMOVED
        if self.plan is not None:
            return about_plan(self.plan, is_asked=self._is_asked)
        if self.chosen is not None and self.mode == PICK:
            return about_chosen(self.chosen)
        if self.mode == CUT and not self.line.is_empty:
            return self._news
        return f"{self._news} {self._step()}".strip()

    def _step(self) -> str:
        return next_step(self.mode, [len(group) for group in self._groups], self._side)
