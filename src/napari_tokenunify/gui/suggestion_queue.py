"""The queue of likely errors: it leads from place to place, and one key answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_tokenunify.gui.suggestion_search import keep_answers, offer, read_answers, search

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.gui.edit_plan import Coloured
    from napari_tokenunify.gui.editing import Editing
    from napari_tokenunify.gui.suggestion_search import Offer, Search
    from napari_tokenunify.proofread import Decision, Edit, Proofreading

_LIKE: Final = {
    "merge": "Are orange and blue one neuron, so that they should be merged?",
    "split": "Are orange and blue two neurons, so that they should be split?",
}
_MANY: Final = 200_000  # fragments; from there on a new list takes a second, so that it is made now and then only
_OFTEN: Final = 20  # answers
_START: Final = "A list of likely errors, the most important first: the view goes from one to the next."


class SuggestionQueue(QWidget):
    """Offers one suggestion after the other.

    Attributes
    ----------
    offered : Signal(Offer)
        Something to look at.
    current : Offer or None
        What is offered now.

    Parameters
    ----------
    editing : Editing
        Makes the edits that are accepted.
    threshold : callable
        Returns at which segments are shown.
    """

    offered = Signal(object)

    def __init__(self, editing: Editing, threshold: Callable[[], float | None]) -> None:
        super().__init__()
        self._editing, self._threshold = editing, threshold
        self.current: Offer | None = None
        self._search: Search | None = None
        self._searched_at: float | None = None
        self._answers: list[Decision] | None = None
        self._skipped: set[tuple[str, int, int]] = set()
        self._is_seen, self._is_ours, self._is_waiting, self._turn = False, False, False, 0
        self.words = QLabel(_START)
        self.words.setWordWrap(True)
        self.left = QLabel()
        self.left.setWordWrap(True)
        self.look = QPushButton("Look for likely errors")
        self.look.setToolTip("Ranks contacts by how unsure they are and how much would change; in the background.")
        self.accept, self.reject, self.skip = QPushButton("Yes"), QPushButton("No"), QPushButton("Later")
        self.accept.setToolTip("Make this edit and go on (G).")
        self.reject.setToolTip("It is no error: it does not come back (W).")
        self.skip.setToolTip("Go on, and come back to it the next time (H).")
        row, layout = QHBoxLayout(), QVBoxLayout(self)
        for button in (self.accept, self.reject, self.skip, self.look):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for button in (self.accept, self.reject, self.skip):
            row.addWidget(button)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.words, self.left, self.look):
            layout.addWidget(part)
        layout.addLayout(row)
        self.look.clicked.connect(self.begin)
        self.accept.clicked.connect(lambda: self._answer(accepted=True))
        self.reject.clicked.connect(lambda: self._answer(accepted=False))
        self.skip.clicked.connect(self._later)
        editing.changed.connect(self._edited)
        self._allow()

    def actions(self) -> dict[str, Callable[[], None]]:
        """Return what each key does."""
        return {
            "G": lambda: self._answer(accepted=True),
            "W": lambda: self._answer(accepted=False),
            "H": self._later,
        }

    def begin(self) -> None:
        """Look for errors anew, and offer the first; or show again what is offered."""
        if self._is_waiting:
            return
        if self.current is not None and not self._is_seen and self._threshold() == self._searched_at:
            self._show_again()
            return
        self._skipped.clear()
        self._seek()

    def forget(self) -> None:
        """Offer nothing: there are other segments."""
        self._turn += 1
        self._is_ours = self._is_waiting = False
        self.current = self._search = self._answers = None
        self._skipped.clear()
        self.words.setText(_START)
        self.left.clear()
        self._allow()

    def see(self, coloured: Coloured | None) -> None:
        """Take note of what stands out in the view: nothing is answered unseen."""
        found = self.current
        self._is_seen = found is not None and not self._is_waiting and coloured is found.shown
        self._allow()

    def _seek(self) -> None:
        """Make the list, and offer the first."""
        threshold, answers = self._threshold(), self._answers
        self._searched_at = threshold
        skipped = frozenset(self._skipped)

        def work(proofreading: Proofreading) -> Any:
            given = read_answers(proofreading) if answers is None else answers
            made = search(proofreading, threshold, given)
            return given, made, offer(proofreading, threshold, made, 0, skipped)

        self.words.setText("Looking for likely errors...")
        self._ask(work, self._searched)

    def _go_on(self) -> None:
        """Offer the next of a new list; where that would take long, of the one that there is."""
        many = self._search is not None and len(self._search.boxes) > _MANY
        if many and self._answers is not None and len(self._answers) % _OFTEN:
            self._next()
        else:
            self._seek()

    def _next(self) -> None:
        """Offer the next of the list, which still holds."""
        made, threshold, skipped = self._search, self._threshold(), frozenset(self._skipped)
        if made is None or self.current is None:
            self._seek()
            return
        first = self.current.number + 1
        self._ask(lambda p: offer(p, threshold, made, first, skipped), self._offer)

    def _ask(self, work: Callable[[Proofreading], Any], then: Callable[[Any], None]) -> None:
        self._turn += 1
        turn = self._turn
        self._is_seen, self._is_waiting = False, True
        self._allow()
        self._editing.ask(
            self,
            work,
            lambda found: then(found) if turn == self._turn else None,
            lambda sentence: self._fail(sentence) if turn == self._turn else None,
        )

    def _searched(self, found: tuple[list[Decision], Search, Offer | None]) -> None:
        self._answers, self._search, first = found
        self._offer(first)

    def _offer(self, found: Offer | None) -> None:
        self.current, self._is_waiting = found, False
        if found is None:
            self.words.setText("There is nothing more to suggest.")
            self.left.clear()
            self._allow()
            return
        self._show_again()

    def _show_again(self) -> None:
        found = self.current
        if found is None or self._search is None:
            return
        self.words.setText(f"<b>{_LIKE[found.suggestion.kind]}</b><br>{found.suggestion.sentence}")
        left, errors = len(self._search.found) - found.number, self._search.left
        self.left.setText(f"{left:,} left; about {errors:,} of them are errors worth mending.")
        self._allow()
        self.offered.emit(found)

    def _answer(self, *, accepted: bool) -> None:
        """Take an answer to what is seen; what is not seen is shown first, and a key that is held down counts once."""
        found = self.current
        if self._is_waiting:
            return
        if found is None or not self._may_be_answered:
            self.begin()
            return
        self._is_seen = False
        if accepted:
            self._is_ours = self._is_waiting = True
            self._editing.commit(found.plan.edit, self._refused)
            return
        self._note(accepted=False)
        if found.suggestion.kind == "merge":
            self._next()
        else:  # the segment may be suspicious elsewhere
            self._go_on()

    @property
    def _may_be_answered(self) -> bool:
        """Whether the view shows what is offered, on segments as they were when it was found."""
        if self._threshold() != self._searched_at:
            self._is_seen = False
        return self._is_seen

    def _later(self) -> None:
        if self._is_waiting:
            return
        if self.current is None or not self._may_be_answered:
            self.begin()
            return
        suggestion = self.current.suggestion
        self._skipped.add((suggestion.kind, *suggestion.fragments))
        self._next()

    def _edited(self, edit: Edit | None) -> None:
        """Go on after an edit of ours; after another one, the list has to be made anew."""
        if self._is_ours and edit is not None:
            self._is_ours = False
            self._note(accepted=True)
            self._go_on()
        elif self.current is not None:
            self._turn += 1
            self._is_waiting = False
            self.current = self._search = None
            self.words.setText("The segments were edited: look again.")
            self.left.clear()
            self._allow()

    def _note(self, *, accepted: bool) -> None:
        if self.current is None or self._answers is None:
            return
        answers = self._answers = [*self._answers, self.current.suggestion.decided(accepted=accepted)]
        self._editing.ask(self, lambda p: keep_answers(p, answers), lambda _: None)

    def _refused(self, sentence: str) -> None:
        self._is_ours = False
        self._fail(sentence)

    def _fail(self, sentence: str) -> None:
        show_error(sentence)
        self.words.setText(sentence)
        self.current, self._is_waiting = None, False
        self._allow()

    def _allow(self) -> None:
        is_there = self.current is not None
        for button in (self.accept, self.reject, self.skip):
            button.setVisible(is_there)
            button.setEnabled(is_there and self._is_seen)
        kind = self.current.suggestion.kind if self.current is not None else "merge"
        self.accept.setText(f"Yes, {kind} (G)")
        self.reject.setText("No error (W)")
        self.skip.setText("Later (H)")
        self.look.setText("Show it again" if is_there else "Look for likely errors")
        self.look.setVisible(not (is_there and self._is_seen))
