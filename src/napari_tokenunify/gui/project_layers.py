"""ProjectLayers: the layers of a project in a viewer; they follow the Session's signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import psutil  # type: ignore[import-untyped]
from napari.layers import Image, Labels, Points, Shapes

from napari_tokenunify import segment
from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.events import Preview
from napari_tokenunify.geometry import Box
from napari_tokenunify.gui.affinity_views import BoundaryView, ColourView
from napari_tokenunify.gui.layers import grid_of, layer_address, own_layer, volume_layer
from napari_tokenunify.gui.shown_segments import ShownSegments

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from napari.layers import Layer

    from napari_tokenunify.data import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple
    from napari_tokenunify.jobs import Job
    from napari_tokenunify.project import Project, ProjectState
    from napari_tokenunify.proofread import Proofreading
    from napari_tokenunify.segment.segmentation import Segmentation
    from napari_tokenunify.session import Session

IMAGE, ANNOTATIONS, BOUNDARIES, AFFINITIES = "image", "annotations", "boundaries", "affinities"
SEGMENTS, BEFORE, PREVIEW = "segments", "preview before training", "preview"
PICKED, SURFACE = "picked segment", "segment in 3-D"
MARKED, POINTED, LINE = "proofreading", "proofreading: points", "proofreading: line"
_OURS: Final = "tokenunify"
_COVERING: Final = {"opaque", "translucent", "translucent_no_depth"}
_OVER_IMAGE: Final[dict[str, Any]] = {"blending": "additive", "opacity": 0.7, "contrast_limits": (0, 255)}


class ProjectLayers:
    """Adds, fills and refreshes layers; what the user has changed on a layer (colours, opacity, order) stays.

    Parameters
    ----------
    viewer : Viewer
        Where.
    session : Session
        Whose project.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        self._viewer, self._session = viewer, session
        self._segments: ShownSegments | None = None
        self._stamp: list[int] = []  # of the affinities that are shown
        self._channels: set[str] = set()  # layers of affinities
        session.project_opened.connect(self._show_project)
        session.affinities_changed.connect(self._show_affinities)
        session.segmentation_changed.connect(self._show_segmentation)
        session.edited.connect(self._show_edits)
        session.state_changed.connect(self._show_state)
        session.job_said.connect(self._show_preview)
        viewer.layers.events.inserted.connect(self._set_free)
        if session.is_open:
            self._show_project(session.project)

    def paint(self) -> None:
        """Show the labels that are painted, and make them ready for the brush.

        Raises
        ------
        TokenUnifyError
            If they cannot be made.
        """
        array = _array(self._session.painted_labels(), "r+")
        layer = self._put(ANNOTATIONS, array, "labels")
        self._viewer.layers.selection = {layer}
        layer.mode = "paint"
        layer.n_edit_dimensions = 2

    def show_labels(self, labels: Volume) -> None:
        """Show labels that are not painted here and cannot be changed, in place of a layer that shows them already."""
        layer = self._put(ANNOTATIONS, labels.dask(), "labels", opacity=0.5)
        layer.editable = False
        for other in self._viewer.layers:
            if other is not layer and isinstance(other, Labels) and layer_address(other) == labels.uri:
                other.visible = False

    def _set_free(self, event: Any) -> None:
        """Make a copy of a layer of ours the user's own; what is painted on it changes nothing in the project."""
        layer, name = event.value, event.value.metadata.get(_OURS, {}).get("layer")
        if name in {None, SURFACE} or sum(_name_of(other) == name for other in self._viewer.layers) == 1:
            return
        layer.metadata = {
            **layer.metadata,
            _OURS: {key: value for key, value in layer.metadata[_OURS].items() if key not in {"layer", "project"}},
        }
        if name != ANNOTATIONS:
            return
        if layer.data.nbytes < psutil.virtual_memory().available / 2:
            layer.data = np.array(layer.data)
        else:
            layer.editable = False

    def _show_project(self, project: Project) -> None:
        for layer in [layer for layer in self._viewer.layers if self._is_ours(layer)]:
            self._viewer.layers.remove(layer)  # of the project before
        if self._segments is not None:
            self._segments.forget()
            self._segments = None
        try:
            data, attributes, kind = volume_layer(self._session.volume, name=IMAGE, as_labels=False)
        except TokenUnifyError as error:
            self._session.said.emit(str(error), "error")
            return
        attributes["metadata"][_OURS]["layer"] = IMAGE
        self._show_image(project.state.volume, data, attributes, kind)
        if project.annotations.exists() and project.state.annotations is None:
            self._put(ANNOTATIONS, _array(project.annotations / "0", "r+"), "labels")
        if project.affinities.exists():
            self._show_affinities(project.affinities)
        if self._session.segmentation is not None:
            self._show_segmentation(self._session.segmentation)

    def _show_image(self, address: str, data: Any, attributes: dict[str, Any], kind: str) -> None:
        """Show the image, in place of a layer that shows it already: one with other units would not be drawn.

        What was drawn on that one stays where it was on it.
        """
        for layer in list(self._viewer.layers):
            if isinstance(layer, Image) and layer_address(layer) == address and layer.ndim == 3:
                attributes |= {name: getattr(layer, name) for name in ("name", "contrast_limits", "colormap", "gamma")}
                del attributes["metadata"][_OURS]["layer"]  # she has opened it, and it stays when the project goes
                self._viewer.layers.remove(layer)
                _bring_along(self._viewer, layer, attributes)
                break
        self._add(data, attributes, kind)
        self._viewer.layers.move(len(self._viewer.layers) - 1, 0)
        for layer in self._viewer.layers[1:]:
            if isinstance(layer, Image) and layer.blending in _COVERING and not self._is_ours(layer):
                layer.visible = False  # of another volume, and it would cover this one
        self._viewer.reset_view()

    def _show_affinities(self, path: Path) -> None:
        """Show boundaries and affinities; while a prediction writes, what has come since."""
        try:
            stamp = [(path / name / "zarr.json").stat().st_mtime_ns for name in ("0", ".")]
            store = segment.open_affinities(path)
        except (OSError, TokenUnifyError):  # not all of it is there yet
            return
        layers = [layer for layer in map(self._layer, (BOUNDARIES, *self._channels)) if layer is not None]
        if stamp == self._stamp and layers:
            for layer in layers:
                layer.refresh(highlight=False, extent=False)
            return
        self._stamp = stamp
        array = _array(path / "0", "r")
        for first in range(0, array.shape[0], 3):
            name = AFFINITIES if first == 0 else f"{AFFINITIES} {first + 1}-{min(first + 3, array.shape[0])}"
            self._channels.add(name)
            self._put(name, ColourView(array, first), "image", store.origin, rgb=True, visible=False)
        boundaries = BoundaryView(array, store)
        self._put(BOUNDARIES, boundaries, "image", store.origin, **_OVER_IMAGE, colormap="bop orange")
        self._step_back(BEFORE, PREVIEW, ANNOTATIONS)

    def _show_segmentation(self, segmentation: Segmentation) -> None:
        if self._segments is not None:
            self._segments.forget()
        self._segments = ShownSegments(segmentation, self._session.state.threshold)
        self._segments.changed.connect(self._redraw)
        is_new = self._layer(SEGMENTS) is None
        self._put(SEGMENTS, self._segments, "labels", segmentation.origin, opacity=0.5).editable = False
        if is_new:
            self._step_back(BEFORE, PREVIEW, ANNOTATIONS, BOUNDARIES)

    def show_segments_again(self) -> None:
        """Put the layer of segments again if it was deleted."""
        segmentation = self._session.segmentation
        if segmentation is not None and self._layer(SEGMENTS) is None:
            self._session.segmentation_changed.emit(segmentation)
            if (edits := self._session.proofreading) is not None:
                self._session.use_proofreading(edits)

    def _show_state(self, state: ProjectState) -> None:
        """Show the segments of another threshold: only the table changes, no voxel is read again."""
        if self._segments is not None:
            self._segments.move(state.threshold)

    def _show_edits(self, edits: Proofreading) -> None:
        if self._segments is not None:
            self._segments.follow(edits)

    def _redraw(self) -> None:
        layer = self._layer(SEGMENTS)
        if layer is not None:
            layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _show_preview(self, job: Job, event: Event) -> None:
        if not isinstance(event, Preview) or not event.path.endswith(".npy"):  # reconstructions are .npz
            return
        try:
            array = np.load(event.path, allow_pickle=False)
        except (OSError, ValueError):  # replaced meanwhile
            return
        origin = Box.parse(event.box).start
        name, visible = (BEFORE, False) if event.step == 0 else (PREVIEW, True)
        if visible and self._layer(name) is None:
            self._step_back(ANNOTATIONS, BOUNDARIES, SEGMENTS)
        self._put(name, BoundaryView(array), "image", origin, **_OVER_IMAGE, colormap="magenta", visible=visible)

    def _step_back(self, *names: str) -> None:
        """Hide layers that would cover what comes newly; but not one that is being painted."""
        active = self._viewer.layers.selection.active
        for layer in map(self._layer, names):
            if layer is not None and not (layer is active and str(layer.mode) != "pan_zoom"):
                layer.visible = False

    def _layer(self, name: str) -> Layer | None:
        return own_layer(self._viewer, name)

    @staticmethod
    def _is_ours(layer: Layer) -> bool:
        """Whether a layer goes with its project; one of the user's may have any name."""
        return _name_of(layer) is not None

    def _put(self, name: str, data: Any, kind: str, origin: Triple = (0, 0, 0), **looks: Any) -> Layer:
        """Give a layer its data; added with these looks if it is not there."""
        grid = grid_of(self._session.volume, origin)
        layer = self._layer(name)
        if layer is not None and tuple(layer.data.shape) == tuple(data.shape):
            layer.data = data
            layer.translate = grid["translate"]
            layer.refresh()
            return layer
        if layer is not None:
            self._viewer.layers.remove(layer)
        attributes = {
            "name": name,
            **grid,
            "metadata": {_OURS: {"project": str(self._session.project.folder), "layer": name}},
        }
        return self._add(data, {**attributes, **looks}, kind)

    def _add(self, data: Any, attributes: dict[str, Any], kind: str) -> Layer:
        from napari.layers import Layer

        return self._viewer.add_layer(Layer.create(data, attributes, kind))


def _name_of(layer: Layer) -> str | None:
    """Return the name that a layer of ours was made under."""
    name: str | None = layer.metadata.get(_OURS, {}).get("layer")
    return name


def _bring_along(viewer: Viewer, image: Layer, grid: dict[str, Any]) -> None:
    """Move what was drawn on an image to where the image is now."""
    scale, shift, units = np.array(grid["scale"]), np.array(grid["translate"]), grid["units"]
    for layer in viewer.layers:
        drawn = isinstance(layer, Labels | Points | Shapes) and layer.ndim == 3 and _OURS not in layer.metadata
        if drawn and layer.units == image.units and np.allclose(layer.scale, image.scale):
            layer.translate = shift + (layer.translate - image.translate) / image.scale * scale
            layer.scale, layer.units = scale, units


def _array(path: Path, mode: Literal["r", "r+"]) -> Any:
    import zarr  # here, as a widget that opens would wait for it

    return zarr.open_array(path, mode=mode)
