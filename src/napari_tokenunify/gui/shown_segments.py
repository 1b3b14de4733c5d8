"""ShownSegments: the segments of a layer; another threshold or edit is computed in a thread and never waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_tokenunify.gui.background import Background
from napari_tokenunify.segment.fragment_store import SegmentView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.segment.fragment_store import StoredFragments
    from napari_tokenunify.segment.segmentation import Segmentation


class ShownSegments(SegmentView):
    """A lazy (z, y, x) array of segments that knows what it shows.

    Parameters
    ----------
    segmentation : Segmentation
        Whose fragments.
    threshold : float
        What to show soon; first comes what was saved. Of no account for a method without a threshold.

    Attributes
    ----------
    segmentation : Segmentation
        As given.
    threshold : float
        What is shown now; the last that was asked for may still be on its way.
    changed : Signal()
        There is another table.
    """

    changed = Signal()

    def __init__(self, segmentation: Segmentation, threshold: float) -> None:
        super().__init__(segmentation.fragments, segmentation.table)  # which is there at once
        saved = segmentation.spec["value"]
        self.segmentation, self.threshold = segmentation, np.nan if saved is None else float(saved)
        self._edits: Proofreading | None = None
        self._is_stale = False  # edits were made since
        self._work = Background(None)
        self._work.done.connect(self._take)
        self._work.failed.connect(show_error)
        self.move(threshold)

    def __deepcopy__(self, memo: object) -> SegmentView:
        """Return the segments as they are shown now; a layer that is duplicated follows no threshold and no edits."""
        return SegmentView(self.fragments, self.table.copy())

    @property
    def movable(self) -> float | None:
        """The threshold that is shown; None where the method has none to move."""
        return self.threshold if self.segmentation.spec["has_tree"] else None

    def move(self, threshold: float) -> None:
        """Show another threshold soon; of several that come quickly, the last."""
        self._wanted = threshold
        if not self._work.busy:
            self._begin()

    def follow(self, edits: Proofreading) -> None:
        """Show the edits in force soon, and with every threshold from now on."""
        self._edits, self._is_stale = edits, True
        if not self._work.busy:
            self._begin()

    def forget(self) -> None:
        """Want nothing that is on its way."""
        self._work.forget()

    def _begin(self) -> None:
        threshold, segmentation, edits = self._wanted, self.segmentation, self._edits
        has_tree = segmentation.spec["has_tree"]
        if not self._is_stale and (threshold == self.threshold or not has_tree):
            return
        self._is_stale = False
        if edits is not None:
            self._work.start(lambda: (threshold, *_edited(edits, threshold if has_tree else None)))
        else:
            self._work.start(lambda: (threshold, segmentation.fragments, segmentation.at(threshold)))

    def _take(self, found: tuple[float, StoredFragments, NDArray[np.uint64]]) -> None:
        self.threshold, self.fragments, table = found
        self.set_table(table)
        self.changed.emit()
        self._begin()


def _edited(edits: Proofreading, threshold: float | None) -> tuple[StoredFragments, NDArray[np.uint64]]:
    """Return fragments and the table for them; another thread may divide a fragment in between."""
    while True:
        table, fragments = edits.table(threshold), edits.fragments
        if fragments.nodes is None or len(table) == fragments.nodes + 1:
            return fragments, table
