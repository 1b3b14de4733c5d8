"""`python -m napari_tokenunify.gui.show WHAT ...`: napari with it, for the command line, which has no Qt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tokenunify.data import open_volume
from napari_tokenunify.gui.layers import volume_layers
from napari_tokenunify.gui.main_panel import MainPanel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer


def show(what: Sequence[str]) -> Viewer:
    """Open a viewer on a project, with the widget beside it; or with one layer for each of some volumes.

    Raises
    ------
    VolumeError, ProjectError
        If one cannot be opened.
    """
    from napari import Viewer
    from napari.layers import Layer

    viewer = Viewer(title="TokenUnify")
    if len(what) == 1 and (Path(what[0]) / "project.json").exists():
        _, panel = viewer.window.add_plugin_dock_widget("napari-tokenunify", "TokenUnify")
        if isinstance(panel, MainPanel):
            panel.session.open_project(Path(what[0]))
        return viewer
    for layer in volume_layers([open_volume(uri) for uri in what]):
        viewer.add_layer(Layer.create(*layer))
    return viewer


if __name__ == "__main__":
    import napari

    show(sys.argv[1:])
    napari.run()
