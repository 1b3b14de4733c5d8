"""SideViews: the planes across the section that the viewer shows, at the same place, and the button that opens them.

Not a second viewer of napari: that reads in the thread of the window, and a plane across the sections of a volume on
disk touches so many blocks that the window would stand still.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from napari.layers import Image, Labels
from qtpy.compat import isalive
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QBoxLayout, QPushButton, QSizePolicy, QWidget

from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.look_at import stand_at
from napari_tokenunify.gui.side_picture import Plane, background, draw, shown_sources
from napari_tokenunify.gui.view_box import middle_of
from napari_tokenunify.gui.viewer_parts import camera_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari import Viewer
    from napari.layers import Layer
    from numpy.typing import NDArray
    from qtpy.QtGui import QHideEvent, QMouseEvent, QPaintEvent, QResizeEvent, QShowEvent, QWheelEvent

    from napari_tokenunify.gui.side_picture import World

NAME: Final = "Side views"
_REST_MS: Final = 40  # after a change, until it is shown
_PATIENCE: Final = 0.5  # seconds after which a picture of a place that was left is given up
_GAP: Final = 8  # pixels of the cross that are left out in its middle
_TURN: Final = 120  # of a mouse wheel, a notch
_NOTICED: Final = (
    *("set_data", "visible", "opacity", "blending", "colormap", "contrast_limits", "gamma"),
    *("selected_label", "show_selected_label", "paint"),
)


class SideView(QWidget):
    """A picture of a plane, with a cross at the place.

    Attributes
    ----------
    plane : Plane or None
        What is shown.
    pointed : Signal(tuple)
        The place (z, y, x) that was clicked, in the viewer's unit.
    turned : Signal(float)
        Notches of the wheel.
    resized : Signal()
        There is another size to fill.
    """

    pointed = Signal(object)
    turned = Signal(float)
    resized = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.plane: Plane | None = None
        self.words = ""
        self._image: QImage | None = None
        self.setMinimumSize(120, 80)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setToolTip("Click to go there; the wheel zooms.")

    def show_picture(self, plane: Plane, picture: NDArray[Any]) -> None:
        """Show a picture (height, width, 3), uint8, of a plane."""
        height, width = picture.shape[:2]
        image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        self.plane, self._image, self.words = plane, image.copy(), ""
        self.update()

    def say(self, words: str) -> None:
        """Say why there is no picture."""
        self.words = words
        self.update()

    def sizeHint(self) -> QSize:
        """Return a size that leaves most of a small screen to the section itself."""
        return QSize(320, 190)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the picture, the cross, and which plane it is."""
        painter = QPainter(self)
        if self._image is not None:
            painter.drawImage(self.rect(), self._image)
            self._draw_cross(painter)
        words = self.words or (_name(self.plane) if self.plane is not None else "...")
        box = painter.fontMetrics().boundingRect(words).adjusted(-5, -2, 5, 2)
        box.moveTo(6, 6)
        painter.fillRect(box, QColor(0, 0, 0, 140))
        painter.setPen(QColor(255, 255, 255))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Tell what was clicked."""
        if event is not None and self.plane is not None and event.button() == Qt.MouseButton.LeftButton:
            height, width = self.plane.size
            place = event.position()
            down, right = place.y() * height / max(1, self.height()), place.x() * width / max(1, self.width())
            self.pointed.emit(self.plane.at(down, right))

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Tell how far the wheel was turned."""
        if event is not None:
            self.turned.emit(event.angleDelta().y() / _TURN)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Ask for a picture of this size."""
        super().resizeEvent(event)
        self.resized.emit()

    def _draw_cross(self, painter: QPainter) -> None:
        """Draw light lines with a dark rim, to be seen on anything; the place itself stays free."""
        middle = QRectF(self.rect()).center()
        ends = ((-self.width(), 0.0), (self.width(), 0.0), (0.0, -self.height()), (0.0, self.height()))
        for colour, width in ((QColor(0, 0, 0, 90), 3.0), (QColor(255, 255, 255, 190), 1.0)):
            painter.setPen(QPen(colour, width))
            for right, down in ends:
                length = abs(right) + abs(down)
                near = QPointF(right * _GAP / length, down * _GAP / length)
                painter.drawLine(middle + near, middle + QPointF(right, down))


class SideViews(QWidget):
    """Two planes that follow the viewer: of a section in y and x these are xz and yz.

    The place is the middle of the view, or what was clicked or painted there since it was moved last.

    Attributes
    ----------
    views : tuple of SideView
        The planes.

    Parameters
    ----------
    viewer : Viewer
        What it shows is shown; a click here moves it.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer, self._began = viewer, 0.0
        self._clicked: World | None = None
        self._planes: list[Plane] = []
        self.views = (SideView(), SideView())
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._begin)
        self._work = Background(self)
        self._work.reported.connect(self._show)
        self._work.failed.connect(self._fail)
        self._layout = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        for view in self.views:
            self._layout.addWidget(view)
            view.pointed.connect(lambda place: stand_at(self._viewer, place))
            view.turned.connect(self._zoom)
            view.resized.connect(self.refresh)
        self._attend()

    @property
    def place(self) -> World:
        """The place (z, y, x) that is shown, in the viewer's unit."""
        if self._clicked is None:
            return middle_of(self._viewer)
        place = list(self._clicked)
        first = self._viewer.dims.ndim - 3
        for axis in self._viewer.dims.not_displayed:
            if axis >= first:
                place[axis - first] = float(self._viewer.dims.point[axis])
        return place[0], place[1], place[2]

    @property
    def busy(self) -> bool:
        """Whether a picture is on its way."""
        return self._rest.isActive() or self._work.busy

    def refresh(self, _: object = None) -> None:
        """Show soon what is there now."""
        if isalive(self) and self.isVisible() and not self._rest.isActive():
            self._rest.start()

    def stop(self) -> None:
        """Follow the viewer no longer."""
        for emitter in self._emitters():
            emitter.disconnect(self.refresh)
        viewer = self._viewer
        self._camera.events.center.disconnect(self._moved)
        viewer.layers.events.inserted.disconnect(self._inserted)
        viewer.layers.events.removed.disconnect(self._removed)
        if self._click in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._click)
        self._rest.stop()
        self._work.forget()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show what is there now."""
        super().showEvent(event)
        self.refresh()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Read nothing that nobody sees."""
        super().hideEvent(event)
        self._work.forget()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Put the planes where there is more room: side by side, or one below the other."""
        super().resizeEvent(event)
        side_by_side = self.width() >= self.height()
        ways = QBoxLayout.Direction
        self._layout.setDirection(ways.LeftToRight if side_by_side else ways.TopToBottom)

    @property
    def _camera(self) -> Any:
        return camera_of(self._viewer)

    def _attend(self) -> None:
        """Follow the viewer and its layers."""
        viewer = self._viewer
        for emitter in self._emitters():
            emitter.connect(self.refresh)
        self._camera.events.center.connect(self._moved)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        viewer.mouse_drag_callbacks.append(self._click)

    def _emitters(self) -> list[Any]:
        viewer = self._viewer
        ours = [viewer.dims.events.point, viewer.dims.events.order, viewer.dims.events.ndisplay]
        ours += [self._camera.events.zoom, viewer.events.theme, viewer.layers.events.reordered]
        return ours + [emitter for layer in viewer.layers for emitter in _emitters_of(layer)]

    def _inserted(self, event: Any) -> None:
        for emitter in _emitters_of(event.value):
            emitter.connect(self.refresh)
        self.refresh()

    def _removed(self, event: Any) -> None:
        for emitter in _emitters_of(event.value):
            emitter.disconnect(self.refresh)
        self.refresh()

    def _moved(self, _: object) -> None:
        self._clicked = None
        self.refresh()

    def _click(self, viewer: object, event: Any) -> Generator[None, None, None]:
        """Go to what is clicked, or to where a stroke ends; a drag moves the view, and that is followed anyway."""
        active = self._viewer.layers.selection.active
        is_stroke = active is not None and str(active.mode) != "pan_zoom"
        yield
        is_drag = event.type == "mouse_move"
        while event.type == "mouse_move":
            yield
        is_place = self._viewer.dims.ndisplay == 2 and len(event.position) > 2
        if (is_stroke or not is_drag) and is_place and isalive(self):
            z, y, x = map(float, event.position[-3:])
            self._clicked = (z, y, x)
            self.refresh()

    def _zoom(self, notches: float) -> None:
        self._camera.zoom *= 1.1**notches

    def _begin(self) -> None:
        """Make the pictures; one that takes long is given up for that of another place."""
        shown = [axis - (self._viewer.dims.ndim - 3) for axis in self._viewer.dims.displayed]
        if not self.isVisible() or self._viewer.dims.ndim < 3 or len(shown) != 2 or min(shown) < 0:
            return  # in 3-D what was shown last stays
        (down,) = {0, 1, 2} - set(shown)
        wanted = [
            Plane(along, (down, across), self.place, (view.height(), view.width()), float(self._camera.zoom))
            for along, across, view in zip(shown, reversed(shown), self.views, strict=True)
        ]
        if self._work.busy and (wanted == self._planes or time.monotonic() - self._began < _PATIENCE):
            self._rest.start()
            return
        self._planes = wanted
        sources, planes, below = shown_sources(self._viewer), list(wanted), background(self._viewer)
        self._began = time.monotonic()
        self._work.start(lambda: draw(sources, planes, below))

    def _show(self, found: tuple[int, NDArray[Any] | None]) -> None:
        number, picture = found
        if picture is not None:
            self.views[number].show_picture(self._planes[number], picture)

    def _fail(self, sentence: str) -> None:
        for view in self.views:
            view.say(sentence)


class SideViewsButton(QPushButton):
    """Opens the side views in a dock below the view, and closes them.

    Attributes
    ----------
    views : SideViews or None
        While they are open.

    Parameters
    ----------
    viewer : Viewer
        Where.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(NAME)
        self._viewer = viewer
        self.views: SideViews | None = None
        self._dock: Any = None
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setToolTip("The planes xz and yz at the place you look at. Click in the view, or in one of them, to move.")
        self.toggled.connect(self._turn)

    def _turn(self, on: bool) -> None:
        if on and self.views is None:
            self.views = SideViews(self._viewer)
            self._dock = self._viewer.window.add_dock_widget(self.views, name=NAME, area="bottom")
            self._dock.toggleViewAction().toggled.connect(_later(self._look, self._dock))
        elif not on:
            self._close()

    def _look(self, dock: Any) -> None:
        """See whether the dock was closed by its own button."""
        if dock is self._dock and (not isalive(dock) or dock.isHidden()):
            self.setChecked(False)

    def _close(self) -> None:
        views, dock, self.views, self._dock = self.views, self._dock, None, None
        if views is None or not isalive(views):
            return
        views.stop()
        if isalive(dock) and views.parent() is not None:
            self._viewer.window.remove_dock_widget(dock)
        views.deleteLater()


def _later(look: Callable[[Any], None], dock: Any) -> Callable[[object], None]:
    """Let napari finish what it is closing first."""
    owner: Any = look.__self__  # type: ignore[attr-defined]
    return lambda _: QTimer.singleShot(0, lambda: look(dock) if isalive(owner) else None)


def _emitters_of(layer: Layer) -> list[Any]:
    if not isinstance(layer, Image | Labels):
        return []
    return [getattr(layer.events, name) for name in _NOTICED if hasattr(layer.events, name)]


def _name(plane: Plane) -> str:
    down, right = ("zyx"[axis] for axis in plane.axes)
    return f"{right}{down}"
