"""SurfaceView: a segment in 3-D, and the way back to the sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Surface
from napari.utils.colormaps import Colormap
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.project_layers import SURFACE

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_tokenunify.export.meshes import Mesh
    from napari_tokenunify.gui.shown_segments import ShownSegments

_ASLANT: Final = (-10.0, 35.0, 60.0)  # degrees; straight from the front a solid looks flat
_VOXELS: Final = 3_000_000  # of a mesh; about as many as a viewer turns smoothly


class SurfaceView:
    """Makes the surface of a segment in a thread, then shows nothing but that, in 3-D.

    All other layers are hidden meanwhile: napari would read whole volumes to draw them.

    Parameters
    ----------
    viewer : Viewer
        Where.

    Attributes
    ----------
    changed : Signal()
        A surface is being made, is shown, or is not shown any more.
    failed : Signal(str)
        Why there is none, in a sentence.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._hidden: list[Layer] = []
        self._camera: dict[str, Any] = {}
        self._point: tuple[float, ...] = ()
        self._looks: dict[str, Any] = {}
        self._work = Background(None)
        self._work.done.connect(self._add)
        self._work.failed.connect(self._fail)
        viewer.dims.events.ndisplay.connect(self._turned)

    @property
    def busy(self) -> bool:
        """Whether a surface is being made."""
        return self._work.busy

    @property
    def shown(self) -> bool:
        """Whether the viewer shows one."""
        return bool(self._hidden)

    def show(self, segments: Labels, segment: int) -> None:
        """Show a segment once its surface is made.

        Parameters
        ----------
        segments : Labels
            The layer of segments.
        segment : int
            Its id there.
        """
        shown: ShownSegments = segments.data
        folder, table = shown.segmentation.folder, shown.table
        known = shown.segmentation.voxel_size_nm is not None
        origin = shown.segmentation.spec.get("origin", (0, 0, 0))
        colour = segments.get_color(segment)
        self._looks = {
            "translate": np.array(segments.translate) - np.multiply(origin, segments.scale if known else 1.0),
            "units": segments.units,
            "axis_labels": segments.axis_labels,
            "metadata": dict(segments.metadata),
            "colormap": Colormap([colour, colour]),
        }
        self._work.start(lambda: _mesh(folder, segment, table))
        self.changed.emit()

    def back(self) -> None:
        """Go back to the sections."""
        self._work.forget()
        if self._viewer.dims.ndisplay == 3:
            self._viewer.dims.ndisplay = 2
        self.changed.emit()

    def _add(self, mesh: Mesh) -> None:
        viewer = self._viewer
        self._restore()
        self._remove()
        self._point = viewer.dims.point
        self._hidden = [layer for layer in viewer.layers if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        camera = getattr(viewer, "scene", viewer).camera  # at another place since napari 0.9
        self._camera = {"center": camera.center, "zoom": camera.zoom}
        surface = Surface((mesh.vertices, mesh.faces), name=SURFACE, shading="smooth", **self._looks)
        viewer.add_layer(surface)
        viewer.dims.ndisplay = 3
        low, high = mesh.vertices.min(axis=0) + surface.translate, mesh.vertices.max(axis=0) + surface.translate
        camera.angles = _ASLANT
        camera.center = tuple(((low + high) / 2).tolist())
        height, width = getattr(viewer, "_canvas_size", (600, 800))
        camera.zoom = 0.8 * min(height, width) / float(np.linalg.norm(high - low))
        self.changed.emit()

    def _turned(self, _: object) -> None:
        if self._viewer.dims.ndisplay == 2:
            self._restore()
            self.changed.emit()

    def _restore(self) -> None:
        """Show again what was hidden."""
        if not self._hidden:
            return
        hidden, self._hidden = self._hidden, []
        for layer in hidden:
            layer.visible = True
        self._remove()
        QTimer.singleShot(0, self._stand_where_it_was)  # napari is still in the midst of turning
        camera = getattr(self._viewer, "scene", self._viewer).camera
        camera.center, camera.zoom = self._camera["center"], self._camera["zoom"]

    def _stand_where_it_was(self) -> None:
        self._viewer.dims.point = self._point

    def _remove(self) -> None:
        """Let the surface go: its vertices are finer than sections, and the slider would count nanometres."""
        for layer in [layer for layer in self._viewer.layers if layer.name == SURFACE]:
            self._viewer.layers.remove(layer)

    def _fail(self, sentence: str) -> None:
        self.failed.emit(sentence)
        self.changed.emit()


def _mesh(folder: Path, segment: int, table: NDArray[np.uint64]) -> Mesh:
    """Make a surface; in the thread, with a segmentation of its own, as the window reads from the other one."""
    from napari_tokenunify.export.meshes import segment_mesh  # here, as they load a compiler
    from napari_tokenunify.segment import Segmentation

    return segment_mesh(Segmentation.open(folder), segment, table, _VOXELS)
