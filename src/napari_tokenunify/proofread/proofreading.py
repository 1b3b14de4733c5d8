"""Proofreading: a segmentation, its history and what is shown, tied together; what the plugin and the verbs call."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread import planning
from napari_tokenunify.proofread.constraints import Constraints
from napari_tokenunify.proofread.correction import Corrected, corrected, corrected_again, members_of
from napari_tokenunify.proofread.cut_fragment import CutFragments, Voxels, cut_along, demands_of_parts, with_parts
from napari_tokenunify.proofread.edits import account_name, as_place, new_edit
from napari_tokenunify.proofread.fragment_graph import FragmentGraph, fragments_key
from napari_tokenunify.proofread.history import PATIENCE_S, History
from napari_tokenunify.proofread.pace import Statistics
from napari_tokenunify.segment.fragment_store import FRAGMENTS, SegmentView
from napari_tokenunify.segment.segmentation import EDITS, Segmentation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokenunify.geometry import Box
    from napari_tokenunify.proofread.constraints import Change
    from napari_tokenunify.proofread.edits import Edit, FragmentCut, Kind, Place
    from napari_tokenunify.proofread.planning import Shown
    from napari_tokenunify.segment.fragment_store import StoredFragments


_ELSEWHERE: Final = "The segments were edited elsewhere in the meantime, and are now as they were left there: "


class _Applied(NamedTuple):
    """An edit in force, without what it weighs."""

    uuid: str
    kind: Kind
    time: datetime
    change: Change


class Proofreading:
    """Edits of a segmentation; made with `open`. May be used by several threads.

    Attributes
    ----------
    segmentation : Segmentation
        What is edited; nothing of it is ever rewritten.
    history : History
        All edits.
    author : str
        Who makes new ones.
    constraints : Constraints
        What the edits in force demand.
    graph : FragmentGraph
        Contacts and sizes of fragments, those that were divided included.
    fragments : StoredFragments
        The voxels, a lazy array (z, y, x) of uint64; as divided.
    """

    def __init__(self, segmentation: Segmentation, history: History, author: str) -> None:
        self.segmentation, self.history, self.author = segmentation, history, author
        self._lock = RLock()
        self._whole = FragmentGraph.of(segmentation)
        self._applied: list[_Applied] = []
        self._divided: list[Edit] = []
        self._bases: dict[float | None, NDArray[np.uint64]] = {}
        self._corrected: dict[float | None, Corrected] = {}  # of the threshold that was shown last
        self._touched: list[NDArray[np.uint64]] = []  # by edits since
        self.constraints = Constraints()
        self._rebuild()
        for edit in history.active():
            self._apply(edit)
        self._touched = []

    @classmethod
    def open(
        cls,
        segmentation: Segmentation | str | Path,
        author: str | None = None,
        *,
        read_only: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> Self:
        """Open the edits of a segmentation, or start them.

        Parameters
        ----------
        segmentation : Segmentation or path
            What to edit.
        author : str, optional
            Who does; by default the name of the account.
        read_only : bool
            Change nothing on the disk.
        patience_s : float
            Seconds to wait while another program writes.

        Raises
        ------
        ProofreadError
            If the edits there are of other fragments, locked, damaged, or cannot be written.
        SegmentError
            If there is no segmentation.
        """
        found = segmentation if isinstance(segmentation, Segmentation) else Segmentation.open(segmentation)
        key = fragments_key(found)
        history = History(found.folder / EDITS, key, read_only=read_only, patience_s=patience_s)
        try:
            return cls(found, history, author or account_name())
        except BaseException:
            history.close()
            raise

    def __enter__(self) -> Self:
        """Return itself; the history is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the history."""
        self.close()

    def close(self) -> None:
        """Close the history; everything is on the disk already."""
        self.history.close()

    # What is shown

    def base(self, threshold: float | None = None) -> NDArray[np.uint64]:
        """Return the table without edits, for a threshold or as agglomerated; parts of a fragment are as the whole."""
        with self._lock:
            if threshold not in self._bases:
                table = self.segmentation.table if threshold is None else self.segmentation.at(threshold)
                self._bases = {key: kept for key, kept in self._bases.items() if key is None}
                self._bases[threshold] = with_parts(table, self.divided, self.graph.nodes)
            return self._bases[threshold]

    def table(self, threshold: float | None = None) -> NDArray[np.uint64]:
        """Return the segment of each fragment with all edits in force, for a threshold or as agglomerated.

        Returns
        -------
        ndarray of uint64, shape (nodes + 1,)
            Not to be written to; a later edit makes another one.

        Raises
        ------
        SegmentError
            If the method has no threshold to move.
        """
        with self._lock:
            base = self.base(threshold)
            found = self._corrected.get(threshold)
            if found is None:
                found = corrected(self.graph, base, self.constraints)
            elif self._touched:
                touched = np.unique(np.concatenate(self._touched))
                found = corrected_again(found, self.graph, base, self.constraints, touched)
            self._corrected, self._touched = {threshold: found}, []
            return found.table

    def view(self, threshold: float | None = None) -> SegmentView:
        """Return the segments with all edits as a lazy array (z, y, x) of uint64."""
        with self._lock:
            return SegmentView(self.fragments, self.table(threshold))

    def shown(self, threshold: float | None = None) -> Shown:
        """Return what edits are planned on."""
        with self._lock:
            table = self.table(threshold)
            united = self._corrected[threshold].united
            return planning.Shown(self.graph, self.base(threshold), self.constraints, table, united)

    def fragment_at(self, place: Place) -> int:
        """Return the fragment at a voxel (z, y, x) of the segmentation; an id is returned as it is.

        Raises
        ------
        ProofreadError
            If the voxel lies outside, or in no fragment.
        """
        if isinstance(place, int | np.integer):
            return int(place)
        z, y, x = (int(number) for number in place)
        if not all(0 <= a < n for a, n in zip((z, y, x), self.segmentation.shape, strict=True)):
            raise ProofreadError(f"The point {z},{y},{x} lies outside the segmentation, {self.segmentation.shape}.")
        fragment = int(self.fragments[z, y, x])
        if fragment == 0:
            raise ProofreadError(f"At {z},{y},{x} nothing was segmented: point at a segment.")
        return fragment

    # Edits: each is planned on the segments at a threshold, by default those that were agglomerated

    def merge(self, *places: Place, threshold: float | None = None) -> Edit:
        """Join the segments of two places or more into one; see `plan`."""
        return self.commit(self.plan("merge", [places], threshold=threshold))

    def split(self, *sides: Sequence[Place], threshold: float | None = None) -> Edit:
        """Cut the segment of two sets of places or more between them, where affinities are least; see `plan`."""
        return self.commit(self.plan("split", sides, threshold=threshold))

    def detach(self, place: Place, *, threshold: float | None = None) -> Edit:
        """Take one fragment out of its segment; see `plan`."""
        return self.commit(self.plan("detach", [[place]], threshold=threshold))

    def delete(self, *places: Place, threshold: float | None = None) -> Edit:
        """Make segments background; see `plan`."""
        return self.commit(self.plan("delete", [places], threshold=threshold))

    def lock(self, place: Place, *, threshold: float | None = None) -> Edit:
        """Mark a segment correct: no edit and no threshold changes it from now on; see `plan`."""
        return self.commit(self.plan("lock", [[place]], threshold=threshold))

    def unlock(self, place: Place, *, threshold: float | None = None) -> Edit:
        """Let a segment be changed again; see `plan`."""
        return self.commit(self.plan("unlock", [[place]], threshold=threshold))

    def comment(self, text: str, *places: Place) -> Edit:
        """Keep a remark, and the places that it is about."""
        return self.commit(self.plan("comment", [places] if places else [], text=text))

    def cut(self, line: NDArray[np.bool_], box: Box, *, fragment: int | None = None) -> Edit:
        """Divide a fragment along a painted line; see `plan_cut`."""
        return self.commit(self.plan_cut(line, box, fragment=fragment))

    def plan(
        self, kind: Kind, places: Sequence[Sequence[Place]], *, threshold: float | None = None, text: str = ""
    ) -> Edit:
        """Return the edit that would be made, without making it.

        Parameters
        ----------
        kind : str
            "merge", "split", "detach", "delete", "lock", "unlock" or "comment".
        places : sequence of sequences of places
            Voxels (z, y, x) of the segmentation, or ids of fragments; one group for each side of a split, else one.
        threshold : float, optional
            Which segments were pointed at; by default those that were agglomerated.
        text : str
            Of a comment.

        Returns
        -------
        Edit
            For `preview` and `commit`.

        Raises
        ------
        ProofreadError
            If it cannot be made: nothing is there, a segment is locked, the points do not fit the kind.
        """
        with self._lock:
            shown = self.shown(threshold)
            fragments = [[self.fragment_at(place) for place in group] for group in places]
            fields = planning.plan_edit(kind, shown, fragments)
            kept = tuple(tuple(as_place(place) for place in group) for group in places)
            return new_edit(kind, self.author, self._head, places=kept, text=text, **fields)

    def plan_cut(self, line: NDArray[np.bool_], box: Box, *, fragment: int | None = None) -> Edit:
        """Return the edit that would divide a fragment, without making it.

        Parameters
        ----------
        line : ndarray of bool, shape of the box
            What was painted.
        box : Box
            Where, in voxels of the segmentation.
        fragment : int, optional
            Which to divide; by default the one that most of the line lies in.

        Raises
        ------
        ProofreadError
            If nothing is divided by the line, or the segment is locked.
        """
        with self._lock:
            free = max(self.history.next_fragment, self.graph.nodes + 1)
            on = Voxels(self.segmentation, self.fragments, self.graph)
            division = cut_along(on, line, box, fragment=fragment, free=free)
            shown = self.shown()
            shown.refuse_locked(shown.segment_of(division.fragment))
            demands = demands_of_parts(division, self.constraints)
            return new_edit("cut", self.author, self._head, division=division, **demands)

    def preview(self, edit: Edit, threshold: float | None = None) -> NDArray[np.uint64]:
        """Return the table as it would be after an edit; nothing is committed.

        Parameters
        ----------
        edit : Edit
            That `plan` has made; of a cut the parts are not seen before it is committed.
        threshold : float, optional
            By default as agglomerated.
        """
        with self._lock:
            plain = edit if edit.division is None else edit.model_copy(update={"cuts": (), "links": (), "released": ()})
            change = self.constraints.changed_by(plain)
            self.table(threshold)
            base, demands = self.base(threshold), self.constraints.after(change)
            return corrected_again(self._corrected[threshold], self.graph, base, demands, change.touched).table

    def commit(self, edit: Edit) -> Edit:
        """Keep an edit, on the disk before this returns, and show it.

        Raises
        ------
        ProofreadError
            If it was planned on an earlier state, which is left then, or cannot be saved: then nothing has changed.
        """
        with self._lock:
            try:
                self.history.append(edit)
            except ProofreadError as error:
                if not self._follow():
                    raise
                raise ProofreadError(_ELSEWHERE + "repeat this edit.") from error
            self._apply(edit)
            return edit

    def undo(self) -> Edit | None:
        """Take the last edit back and return it; None if there is none.

        Raises
        ------
        ProofreadError
            If there are edits from elsewhere, which are in force from now on: what nobody saw is not taken back.
        """
        with self._lock:
            if self._follow():
                raise ProofreadError(_ELSEWHERE + "look at them before you undo.")
            edit = self.history.undo()
            if edit is not None:
                self._revert()
            return edit

    def redo(self) -> Edit | None:
        """Make the edit that was taken back last again, and return it; None if there is none.

        Raises
        ------
        ProofreadError
            If there are edits from elsewhere, which are in force from now on.
        """
        with self._lock:
            if self._follow():
                raise ProofreadError(_ELSEWHERE + "look at them before you redo.")
            edit = self.history.redo()
            if edit is not None:
                self._apply(edit)
            return edit

    def go_to(self, uuid: str | None) -> None:
        """Show the segments as they were after any edit of any branch; with None, before the first."""
        with self._lock:
            self.history.go_to(uuid)
            self._follow()

    def segments_after(self, edit: Edit, threshold: float | None = None) -> int:
        """Return how many segments there would be of those that an edit points at.

        Two sides are two. It may be more where a fragment is taken out that held the rest together.
        """
        with self._lock:
            before, after = self.table(threshold), self.preview(edit, threshold)
            named = [self.fragment_at(place) for group in edit.places for place in group]
            return len(np.unique(after[members_of(before, before[named])]))

    def statistics(self) -> Statistics:
        """Count the edits in force."""
        with self._lock:
            return Statistics.of([(applied.kind, applied.time) for applied in self._applied])

    # What is in force

    @property
    def in_force(self) -> tuple[str, ...]:
        """Names of the edits in force, from the first."""
        return tuple(applied.uuid for applied in self._applied)

    @property
    def divided(self) -> tuple[FragmentCut, ...]:
        """How fragments are divided, in the order in which they were."""
        return tuple(edit.division for edit in self._divided if edit.division is not None)

    @property
    def _head(self) -> str | None:
        return self._applied[-1].uuid if self._applied else None

    def _apply(self, edit: Edit) -> None:
        change = self.constraints.changed_by(edit)
        self.constraints = self.constraints.after(change)
        self._applied.append(_Applied(edit.uuid, edit.kind, edit.time, change))
        self._touched.append(change.touched)
        if edit.division is not None:
            self._divided = [*self._divided, edit]
            self._rebuild()

    def _revert(self) -> None:
        last = self._applied.pop()
        self.constraints = self.constraints.before(last.change)
        self._touched.append(last.change.touched)
        if self._divided and self._divided[-1].uuid == last.uuid:
            self._divided = self._divided[:-1]
            self._rebuild()

    def _follow(self) -> bool:
        """Show what the history says, and tell whether its head was moved elsewhere."""
        head = self.history.head
        if head == self._head:  # what leads to an edit never changes
            return False
        wanted = self.history.path_to(head)
        same = 0
        for applied, other in zip(self._applied, wanted, strict=False):
            if applied.uuid != other:
                break
            same += 1
        while len(self._applied) > same:
            self._revert()
        for uuid in wanted[same:]:
            self._apply(self.history[uuid])
        return True

    def _rebuild(self) -> None:
        """Divide fragments anew: the voxels, their contacts, and tables of the right length."""
        nodes = max(self.segmentation.nodes, self.history.next_fragment - 1)
        self.graph = self._whole.with_divided(self.divided, nodes)
        self.fragments: StoredFragments = self.segmentation.fragments
        if nodes > self.segmentation.nodes:
            self.fragments = CutFragments(self.segmentation.folder / FRAGMENTS, nodes, self.divided)
        self._bases, self._corrected, self._touched = {}, {}, []
