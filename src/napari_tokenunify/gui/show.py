"""`python -m napari_tokenunify.gui.show URI ...`: napari with these volumes, for the command line, which has no Qt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_tokenunify.data import open_volume
from napari_tokenunify.gui.layers import volume_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer


def show(uris: Sequence[str]) -> Viewer:
    """Open a viewer with one layer for each of the volumes.

    Raises
    ------
    VolumeError
        If one cannot be opened.
    """
    from napari import Viewer
    from napari.layers import Layer

    viewer = Viewer(title="TokenUnify")
    for layer in volume_layers([open_volume(uri) for uri in uris]):
        viewer.add_layer(Layer.create(*layer))
    return viewer


if __name__ == "__main__":
    import napari

    show(sys.argv[1:])
    napari.run()
