"""Editing: asks Proofreading in a thread, one thing after the other, so that the window never waits for an edit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_tokenunify.errors import ProofreadError, TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.listening import listen
from napari_tokenunify.segmentations import has_edits

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.proofread import Edit, Proofreading
    from napari_tokenunify.session import Session

    Work = Callable[[Proofreading], Any]
    Then = Callable[[Any], None]

_CARRYING = "Your edits are being made again on new segments: wait a moment, so that this one is not left behind."


class Editing(QObject):
    """The edits of a session's segmentation; they are opened when first asked for, at once if there are any.

    Attributes
    ----------
    changed : Signal(object)
        An Edit was made; None where edits were opened, undone or redone.
    failed : Signal(str)
        Why something could not be done.

    Parameters
    ----------
    session : Session
        Whose segmentation.
    """

    changed = Signal(object)
    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._waiting: deque[tuple[Work, Then, Then | None]] = deque()
        self._now: tuple[Then, Then] | None = None
        self._shown: tuple[str, ...] = ()  # edits
        self._work = Background(self)
        self._work.done.connect(self._end)
        self._work.failed.connect(self._fail)
        listen(session.segmentation_changed, self._segmented)
        listen(session.project_opened, self._leave)

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._work.busy or bool(self._waiting)

    def ask(self, owner: QObject, work: Work, then: Then, failed: Then | None = None) -> None:
        """Call `work` with the Proofreading in a thread when its turn comes, then `then` with what it returned.

        Parameters
        ----------
        owner : QObject
            Who asks; if Qt has deleted it meanwhile, nobody is told.
        work : callable
            Touches no widget and no layer.
        then : callable
            Called in the thread of the window.
        failed : callable, optional
            Called instead with the sentence of a TokenUnifyError; by default the signal `failed` tells it.
        """
        self._waiting.append((work, _while_alive(owner, then), failed and _while_alive(owner, failed)))
        self._next()

    def commit(self, edit: Edit, failed: Then | None = None) -> None:
        """Make an edit that was planned."""
        self._change(lambda proofreading: proofreading.commit(edit), failed)

    def undo(self) -> None:
        """Take the last edit back."""
        self._change(lambda proofreading: _none(proofreading.undo(), "There is nothing to undo."))

    def redo(self) -> None:
        """Make the edit again that was taken back last."""
        self._change(lambda proofreading: _none(proofreading.redo(), "There is nothing to redo."))

    def go_to(self, uuid: str | None) -> None:
        """Go to the state after an edit; with None, before the first."""
        self._change(lambda proofreading: proofreading.go_to(uuid))

    def open(self) -> None:
        """Open the edits, if that was not done yet."""
        if self._session.segmentation is not None and self._session.proofreading is None:
            self.ask(self, lambda proofreading: None, lambda _: None)

    def _change(self, work: Work, failed: Then | None = None) -> None:
        if self._session.is_open and self._session.is_carrying:
            (failed or self.failed.emit)(_CARRYING)
        else:
            self.ask(self, work, self._changed, lambda sentence: self._refused(sentence, failed))

    def _refused(self, sentence: str, failed: Then | None) -> None:
        """Say why not; edits from elsewhere may be the reason, and are shown then."""
        (failed or self.failed.emit)(sentence)
        edits = self._session.proofreading
        if edits is not None and edits.in_force != self._shown:
            self._changed(None)

    def _changed(self, edit: Edit | None) -> None:
        edits = self._session.proofreading
        if edits is not None:
            self._shown = edits.in_force
            self._session.use_proofreading(edits)
        self.changed.emit(edit)

    def _next(self) -> None:
        if self._now is not None or not self._waiting:
            return
        proofreading = self._session.proofreading
        if proofreading is None:
            self._open_first()
            return
        work, then, failed = self._waiting.popleft()
        self._now = (then, failed or self.failed.emit)
        self._work.start(lambda: work(proofreading))

    def _open_first(self) -> None:
        try:
            opener = self._session.proofreading_opener()
        except TokenUnifyError as error:
            self._refuse_all(str(error))
            return
        self._now = (self._opened, self._refuse_all)
        self._work.start(opener)

    def _opened(self, proofreading: Proofreading) -> None:
        self._shown = proofreading.in_force
        self._session.use_proofreading(proofreading)
        self.changed.emit(None)

    def _refuse_all(self, sentence: str) -> None:
        """Tell all who wait that it cannot be done, and the user once."""
        waiting, self._waiting = self._waiting, deque()
        for failed in [failed for _, _, failed in waiting if failed is not None]:
            failed(sentence)
        if any(failed is None for _, _, failed in waiting):
            self.failed.emit(sentence)

    def _end(self, result: Any) -> None:
        self._finish(0, result)

    def _fail(self, sentence: str) -> None:
        self._finish(1, sentence)

    def _finish(self, which: int, value: Any) -> None:
        now, self._now = self._now, None
        if now is not None:
            now[which](value)
        self._next()

    def _leave(self) -> None:
        """Want nothing more of the project before; what is being committed is on the disk all the same."""
        self._work.forget()
        self._waiting.clear()
        self._now = None

    def _segmented(self) -> None:
        self._leave()
        if has_edits(self._session.project.segmentation):
            self.open()


def _while_alive(owner: QObject, told: Then) -> Then:
    def tell(value: Any) -> None:
        if isalive(owner):
            told(value)

    return tell


def _none(edit: Edit | None, sentence: str) -> None:
    """Refuse what did nothing."""
    if edit is None:
        raise ProofreadError(sentence)
