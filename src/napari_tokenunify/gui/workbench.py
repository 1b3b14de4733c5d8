"""Workbench: what the widgets of one viewer share, so that two of them never work on two projects."""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QTimer

from napari_tokenunify.gui.closing_guard import ClosingGuard
from napari_tokenunify.gui.editing import Editing
from napari_tokenunify.gui.job_watch import JobWatch
from napari_tokenunify.gui.project_layers import ProjectLayers
from napari_tokenunify.gui.saving import Saving
from napari_tokenunify.improvement import Improvement
from napari_tokenunify.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from qtpy.QtWidgets import QWidget


class Workbench:
    """A session, its layers, and a watch over its jobs; there as long as a widget holds it.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.saving = Saving()
        self.session = Session(self.saving.soon)
        self.saving.failed.connect(partial(_notify, level="error"))
        self.layers = ProjectLayers(viewer, self.session)
        self.editing = Editing(self.session)
        self.improvement = Improvement(self.session)
        self.watch = JobWatch(self._runs)
        self.guard = ClosingGuard(self.session)
        self.watch.reported.connect(self.session.take)
        self.watch.lost.connect(self.session.lose)
        self.session.said.connect(_notify)
        self.session.project_opened.connect(self._opened)
        self._preparing = Thread(target=_prepare, daemon=True)
        QTimer.singleShot(_SHOWN_MS, self._preparing.start)

    @classmethod
    def of(cls, viewer: Viewer, widget: QWidget) -> Workbench:
        """Return the workbench of a viewer, made if this is the first widget there; napari asks before it closes."""
        viewer = getattr(viewer, "__wrapped__", viewer)  # napari may hand out a stand-in
        bench = _BENCHES.get(id(viewer))
        if bench is None or bench.viewer is not viewer:
            bench = _BENCHES[id(viewer)] = cls(viewer)
        bench.guard.attend(widget)
        return bench

    def close(self) -> None:
        """Look after nothing any more; jobs go on."""
        self.watch.close()
        self.saving.close()
        if self._preparing.is_alive():
            self._preparing.join()
        self.session.close()

    def _runs(self) -> list[Path]:
        return list(reversed(self.session.project.runs)) if self.session.is_open else []

    def _opened(self, project: object) -> None:
        self.watch.forget()
        self.watch.start()


def _prepare() -> None:
    """Load what volumes, segments and recipes need, while the user looks for her data."""
    from napari_tokenunify.data import open_annotations, open_volume  # noqa: F401
    from napari_tokenunify.gui.pretrain_panel import own_recipes
    from napari_tokenunify.segment.segmentation import get_ready

    get_ready()
    own_recipes()


def _notify(text: str, level: str) -> None:
    {"info": show_info, "warning": show_warning, "error": show_error}[level](text)


_SHOWN_MS: Final = 300  # after which the widget has been drawn, and there is time for other things
_BENCHES: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()
