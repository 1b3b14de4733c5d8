"""LineTool: a brush for a line through one fragment, in a small layer around the middle of the view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.errors import ProofreadError, TokenUnifyError
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.edit_plan import plan_line
from napari_tokenunify.gui.view_box import visible_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Labels

    from napari_tokenunify.gui.edit_plan import Plan
    from napari_tokenunify.gui.proofread_marks import Marks
    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.session import Session

_THICK, _WIDE = 16, 1024  # voxels along the axis that is looked along, and across it


class LineTool:
    """Holds the layer that is painted on.

    Attributes
    ----------
    layer : Labels or None
        It, while there is one.

    Parameters
    ----------
    viewer : Viewer
        What is in the middle of it can be painted on.
    session : Session
        Whose segmentation.
    marks : Marks
        Makes the layer.
    painted : callable
        Called after each stroke.
    """

    def __init__(self, viewer: Viewer, session: Session, marks: Marks, painted: Callable[[], None]) -> None:
        self._viewer, self._session, self._marks, self._painted = viewer, session, marks, painted
        self._box = Box((0, 0, 0), (1, 1, 1))
        self.layer: Labels | None = None

    def begin(self) -> None:
        """Give the user the brush.

        Raises
        ------
        ProofreadError
            If no segments are in view.
        VolumeError
            If the volume cannot be opened.
        """
        segmentation = self._session.segmentation
        most = [_WIDE] * 3
        most[self.axis] = _THICK
        seen = visible_box(self._viewer, self._session.volume, (most[0], most[1], most[2]))
        if seen is None or segmentation is None:
            raise ProofreadError("No segments are in the middle of the view: move it there, then paint the line.")
        inside = seen.seen_from(segmentation.origin).clipped(segmentation.shape)
        if inside is None:
            raise ProofreadError("No segments are in the middle of the view: move it there, then paint the line.")
        self._box, self.layer = inside, self._marks.paint_line(inside)
        if self.layer is not None:
            self.layer.events.paint.connect(self._stroke)

    def end(self) -> None:
        """Take the brush away."""
        if self.layer is not None:
            self.layer = None
            self._marks.drop_line()
            self._marks.choose_segments()

    def clear(self) -> None:
        """Wipe the line away; the brush stays, where the view is now if segments are there."""
        if self.layer is None:
            return
        try:
            self.begin()
        except TokenUnifyError:
            self.layer.data = np.zeros_like(self.layer.data)

    def take_back(self) -> None:
        """Wipe the last stroke away."""
        if self.layer is not None:
            self.layer.undo()
            self._painted()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is painted."""
        return self.layer is None or not np.any(self.layer.data)

    @property
    def axis(self) -> int:
        """The axis that is looked along: 0, 1 or 2 for z, y or x."""
        first = self._viewer.dims.ndim - 3
        hidden = [axis - first for axis in range(first, first + 3) if axis not in self._viewer.dims.displayed]
        return hidden[0] if hidden else 0

    def planner(self) -> Callable[[Proofreading], Plan] | None:
        """Return what plans the cut, for a thread."""
        if self.layer is None:
            return None
        line, box, axis = np.asarray(self.layer.data) > 0, self._box, self.axis
        return lambda proofreading: plan_line(proofreading, line, box, axis)

    def _stroke(self, _: object = None) -> None:
        self._painted()
