"""SurfaceView: segments in 3-D, and the way back to the sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Surface
from napari.utils.colormaps import Colormap
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_tokenunify.export.fragment_shapes import FragmentShapes
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.layers import own_layer, own_metadata
from napari_tokenunify.gui.project_layers import SURFACE
from napari_tokenunify.gui.viewer_parts import camera_of, canvas_size
from napari_tokenunify.segment.segmentation import SPEC

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari import Viewer
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_tokenunify.export.meshes import Mesh
    from napari_tokenunify.gui.shown_segments import ShownSegments

_ASLANT: Final = (-10.0, 35.0, 60.0)  # degrees; straight from the front a solid looks flat
_VOXELS: Final = 3_000_000  # of a mesh; about as many as a viewer turns smoothly


class SurfaceView:
    """Makes the surfaces of segments in a thread, then shows nothing but these, in 3-D.

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
        self._colours: list[Any] = []
        self._shapes: tuple[Path | None, int, FragmentShapes] = None, 0, FragmentShapes()
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

    def show(
        self,
        segments: Labels,
        *ids: int,
        table: NDArray[np.uint64] | None = None,
        colours: Sequence[Any] | None = None,
    ) -> None:
        """Show segments once their surfaces are made.

        Parameters
        ----------
        segments : Labels
            The layer of segments.
        *ids : int
            Their ids there.
        table : ndarray of uint64, shape (nodes + 1,), optional
            Other segments of the same fragments, which the ids are of.
        colours : sequence, optional
            Of each; by default as in the layer.
        """
        shown: ShownSegments = segments.data
        folder, members = shown.segmentation.folder, shown.table if table is None else table
        scale = 1.0 if shown.segmentation.voxel_size_nm is None else segments.scale
        self._colours = list(colours or [segments.get_color(segment) for segment in ids])
        self._looks = {
            "translate": np.array(segments.translate) - np.multiply(shown.segmentation.origin, scale),
            "units": segments.units,
            "axis_labels": segments.axis_labels,
            "metadata": own_metadata(segments, SURFACE),
        }
        shapes = self._shapes_of(folder)
        self._work.start(lambda: [_mesh(folder, segment, members, shapes) for segment in ids])
        self.changed.emit()

    def back(self) -> None:
        """Go back to the sections."""
        self._work.forget()
        if self._viewer.dims.ndisplay == 3:
            self._viewer.dims.ndisplay = 2
        self.changed.emit()

    def _shapes_of(self, folder: Path) -> FragmentShapes:
        """Return what is kept of the fragments in a folder; another segmentation may have come to lie there."""
        made = (folder / SPEC).stat().st_mtime_ns
        if self._shapes[:2] != (folder, made):
            self._shapes = folder, made, FragmentShapes()
        return self._shapes[2]

    def _add(self, meshes: list[Mesh]) -> None:
        viewer = self._viewer
        self._restore()
        self._remove()
        self._point = viewer.dims.point
        self._hidden = [layer for layer in viewer.layers if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        camera = camera_of(viewer)
        self._camera = {"center": camera.center, "zoom": camera.zoom}
        for mesh, colour in zip(meshes, self._colours, strict=True):
            colours = Colormap([colour, colour])
            looks = {**self._looks, "colormap": colours, "shading": "smooth", "name": SURFACE}
            viewer.add_layer(Surface((mesh.vertices, mesh.faces), **looks))
        viewer.dims.ndisplay = 3
        low = np.min([mesh.vertices.min(axis=0) for mesh in meshes], axis=0) + self._looks["translate"]
        high = np.max([mesh.vertices.max(axis=0) for mesh in meshes], axis=0) + self._looks["translate"]
        camera.angles = _ASLANT
        camera.center = tuple(((low + high) / 2).tolist())
        height, width = canvas_size(viewer)
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
        camera = camera_of(self._viewer)
        camera.center, camera.zoom = self._camera["center"], self._camera["zoom"]

    def _stand_where_it_was(self) -> None:
        self._viewer.dims.point = self._point

    def _remove(self) -> None:
        """Let the surface go: its vertices are finer than sections, and the slider would count nanometres."""
        while (layer := own_layer(self._viewer, SURFACE)) is not None:
            self._viewer.layers.remove(layer)

    def _fail(self, sentence: str) -> None:
        self.failed.emit(sentence)
        self.changed.emit()


def _mesh(folder: Path, segment: int, table: NDArray[np.uint64], shapes: FragmentShapes) -> Mesh:
    """Make a surface; in the thread, with a segmentation of its own, as the window reads from the other one."""
    from napari_tokenunify.export.meshes import segment_mesh  # here, as they load a compiler
    from napari_tokenunify.proofread import open_edited
    from napari_tokenunify.segment import Segmentation

    found = Segmentation.open(folder)
    if len(table) != found.nodes + 1:  # fragments were divided
        found = open_edited(folder)
    return segment_mesh(found, segment, table, _VOXELS, shapes)
