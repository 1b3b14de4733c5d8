"""ImportBox: segments that were made elsewhere become those of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Labels
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton

from napari_tokenunify.errors import ConfigError, TokenUnifyError
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.kept_layers import file_of, in_memory, keep_array
from napari_tokenunify.session import SEGMENTING

if TYPE_CHECKING:
    from napari import Viewer

    from napari_tokenunify.session import Session

_OWN = "tokenunify"


class ImportBox(QPushButton):
    """A button with a menu: a file, a folder, supervoxels with their table, or a Labels layer of the viewer.

    Parameters
    ----------
    viewer : Viewer
        Whose layers are offered.
    session : Session
        Who starts the job.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__("Segments from elsewhere")
        self._viewer, self._session = viewer, session
        self.setToolTip(
            "Take over segments that another program made, to correct and export them here. They are cut into "
            "fragments, along the affinities if these are there for the whole volume."
        )
        self._keeping = Background(self)
        self._keeping.done.connect(self.take)
        self._keeping.failed.connect(show_error)
        self.choices = QMenu(self)
        self.choices.aboutToShow.connect(self.fill)
        self.setMenu(self.choices)

    def fill(self) -> None:
        """Offer what there is now."""
        self.choices.clear()
        self.choices.addAction("A file...", self._take_file)
        self.choices.addAction("A folder: Zarr, N5, precomputed...", self._take_folder)
        self.choices.addAction("Supervoxels and their table...", self._take_supervoxels)
        layers = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels) and "project" not in layer.metadata.get(_OWN, {})
        ]
        if layers:
            self.choices.addSeparator()
        for layer in layers:
            self.choices.addAction(f"The layer {layer.name}", lambda layer=layer: self.take_layer(layer))

    def take(self, address: str, mapping: str | None = None) -> None:
        """Start to import a label volume."""
        try:
            self._session.be_free(*SEGMENTING)
            self._session.start("import", self._session.import_config(segments=address, mapping=mapping))
        except TokenUnifyError as error:
            show_error(str(error))

    def take_layer(self, layer: Labels) -> None:
        """Import a layer: from its file, or once it is kept in the project if it is in memory alone."""
        try:
            self._session.be_free(*SEGMENTING)
            if self._keeping.busy:
                raise ConfigError("A layer is being taken already: wait until its import has started.")
            address = file_of(layer)
            array = in_memory(layer) if address is None else None
            path = self._session.place_for("imported.npy")
        except TokenUnifyError as error:
            show_error(str(error))
            return
        if array is None:
            self.take(str(address))
        else:
            kept = array
            self._keeping.start(lambda: keep_array(kept, path))

    def _take_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open segments")
        if chosen:
            self.take(chosen)

    def _take_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open segments: a Zarr, N5 or precomputed store")
        if chosen:
            self.take(chosen)

    def _take_supervoxels(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open supervoxels")
        table = chosen and QFileDialog.getOpenFileName(
            self, "Open the table: supervoxel, segment", filter="Tables (*.csv *.npy)"
        )
        if table and table[0]:
            self.take(chosen, table[0])
