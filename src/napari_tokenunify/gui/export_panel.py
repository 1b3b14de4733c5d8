"""The step Export: write the segments for other programs, or take them into a layer that can be painted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from napari.layers import Labels
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tokenunify.errors import ConfigError, ProjectError, TokenUnifyError
from napari_tokenunify.events import Progress
from napari_tokenunify.export.formats import FORMATS
from napari_tokenunify.gui.background import Background
from napari_tokenunify.gui.copy_buttons import CopyButtons
from napari_tokenunify.gui.layers import grid_of
from napari_tokenunify.gui.listening import listen

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari import Viewer
    from numpy.typing import NDArray

    from napari_tokenunify.config import ExportConfig
    from napari_tokenunify.export import Segments
    from napari_tokenunify.segment.segmentation import Segmentation
    from napari_tokenunify.session import Session

WHERE = "The file or folder to make. What is there already is not overwritten."
COPY = "Copy to a Labels layer"
NOTHING_YET = "There are no segments yet: make them in the step Segment."
_SPARE = 0.8  # of the memory that is free, what a copy may take


class ExportPanel(QWidget):
    """Take the segments elsewhere.

    Parameters
    ----------
    viewer : Viewer
        Where a copy of the segments goes.
    session : Session
        Whose segments, and who starts the job.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        super().__init__()
        self._viewer, self._session = viewer, session
        self._proposed, self._agreed = "", ""  # a place nobody chose; one that the user let be overwritten
        self.format, self.where, self.browse = QComboBox(), QLineEdit(), QPushButton("...")
        self.segments = QLineEdit()
        self._offer_formats()
        self.segments.setPlaceholderText("all")
        self.segments.setToolTip("Ids of the segments to write, e.g. 12, 345; a click on a segment shows its id.")
        self.where.setToolTip(WHERE)
        self.browse.setToolTip("Choose another place.")
        self.browse.setFixedWidth(36)
        self.export, self.copy = QPushButton("Export"), QPushButton(COPY)
        self.export.setMinimumHeight(36)
        self.export.setToolTip("Write the segments at the threshold that is shown, in the background.")
        self.copy.setToolTip("A plain layer in memory that can be painted; the segmentation stays as it is.")
        self.kind, self.about = QLabel(), QLabel(NOTHING_YET)
        for label in (self.kind, self.about):
            label.setWordWrap(True)
        self._lay_out()
        self.format.currentIndexChanged.connect(self._propose)
        self.where.textChanged.connect(lambda text: self.where.setToolTip(text or WHERE))
        self.browse.clicked.connect(self._browse)
        self.export.clicked.connect(self._export)
        self.copy.clicked.connect(self._copy)
        self._copying = Background(self)
        self._copying.reported.connect(self._tell_copying)
        self._copying.done.connect(self._show_copy)
        self._copying.failed.connect(self._fail_copy)
        self._listen()
        self._enable(is_there=False)
        self._propose()
        if session.segmentation is not None:
            self._segmented(session.segmentation)

    def _listen(self) -> None:
        listen(self._session.project_opened, self._opened)
        listen(self._session.segmentation_changed, self._segmented)
        listen(self._session.state_changed, self._tell)

    def _offer_formats(self) -> None:
        for name, form in FORMATS.items():
            last = FORMATS.get(self.format.itemData(self.format.count() - 1))
            if last is not None and last.group != form.group:
                self.format.insertSeparator(self.format.count())
            self.format.addItem(form.title, name)
        self.format.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.format.setMinimumContentsLength(16)
        self.format.setMaxVisibleItems(self.format.count())
        self.format.setToolTip("What is written: voxels, surfaces, skeletons or a table.")

    def _lay_out(self) -> None:
        place, rows, layout = QHBoxLayout(), QFormLayout(), QVBoxLayout(self)
        place.addWidget(self.where, 1)
        place.addWidget(self.browse)
        rows.addRow("format", self.format)
        rows.addRow("", self.kind)
        rows.addRow("segments", self.segments)
        rows.addRow("where", place)
        layout.addWidget(self.about)
        layout.addLayout(rows)
        layout.addWidget(self.export)
        layout.addWidget(CopyButtons("export", self.config))
        layout.addSpacing(12)
        layout.addWidget(self.copy)
        layout.addStretch()

    def config(self) -> ExportConfig:
        """Return what the next export would do.

        Raises
        ------
        ProjectError
            If no project is open, or there are no segments yet.
        ConfigError
            If the segments are no ids.
        """
        if self._session.segmentation is None:
            raise ProjectError(NOTHING_YET)
        out = self.where.text().strip()
        place = {"out": out} if out else {}
        kind, chosen = self.format.currentData(), _ids(self.segments.text())
        return self._session.export_config(format=kind, segments=chosen, overwrite=out == self._agreed, **place)

    def _enable(self, *, is_there: bool) -> None:
        for widget in (self.format, self.segments, self.where, self.browse, self.export, self.copy):
            widget.setEnabled(is_there)

    def _opened(self, _: object) -> None:
        self._copying.forget()
        self._end_copy()
        self._enable(is_there=False)
        self._agreed = self._proposed = ""
        self.where.clear()
        self.segments.clear()
        self.about.setText(NOTHING_YET)

    def _segmented(self, _: object) -> None:
        self._enable(is_there=True)
        self._tell()
        self._propose()

    def _tell(self, _: object = None) -> None:
        """Say what would be written."""
        segmentation = self._session.segmentation
        if segmentation is None:
            return
        z, y, x = segmentation.shape
        how = (
            f"at the threshold {self._session.state.threshold:.3f}" if segmentation.spec["has_tree"] else "as they are"
        )
        self.about.setText(f"The segments {how}, {z} x {y} x {x} voxels (z, y, x).")

    def _propose(self, _: object = None) -> None:
        """Name a free place, or give the one that the user chose the format's ending."""
        text, kind = self.where.text().strip(), self.format.currentData()
        self.kind.setText(FORMATS[kind].about)
        if self._session.segmentation is None:
            return
        if text in {"", self._proposed}:
            self._proposed = self._session.export_config(format=kind).out
            self.where.setText(self._proposed)
        elif Path(text).suffix in {form.suffix for form in FORMATS.values()}:
            self.where.setText(str(Path(text).with_suffix(FORMATS[kind].suffix)))

    def _browse(self, _: object = None) -> None:
        suffix = FORMATS[self.format.currentData()].suffix
        chosen, _filter = QFileDialog.getSaveFileName(self, "Export to", self.where.text(), f"*{suffix}")
        if chosen:
            self.choose(chosen if Path(chosen).suffix else chosen + suffix)

    def choose(self, out: str) -> None:
        """Write to a place of the user's choice, who agrees that an export that is there goes."""
        self._agreed = out
        self.where.setText(out)

    def _export(self, _: object = None) -> None:
        try:
            self._session.start("export", self.config())
        except TokenUnifyError as error:
            show_error(str(error))
            return
        self._agreed = ""
        self._propose()

    def _copy(self, _: object = None) -> None:
        """Read all voxels in a thread, if there is room for them."""
        segmentation = self._session.segmentation
        if segmentation is None:
            return
        dtype = np.promote_types(np.min_scalar_type(segmentation.nodes), np.uint32)  # has room for ids to be painted
        needed = dtype.itemsize * math.prod(segmentation.shape)
        free = psutil.virtual_memory().available
        if needed > free * _SPARE:
            show_error(
                f"A copy in memory would take {size_words(needed)}, and {size_words(free)} are free: export to "
                "OME-Zarr instead, and open that."
            )
            return
        self.copy.setEnabled(False)
        self.copy.setText("Copying...")
        threshold = self._session.shown_threshold
        self._copying.start(lambda: _copied(segmentation, threshold, dtype))

    def _tell_copying(self, event: Progress) -> None:
        self.copy.setText(f"Copying, {100 * event.done // event.total} %")

    def _fail_copy(self, sentence: str) -> None:
        self._end_copy()
        show_error(sentence)

    def _show_copy(self, copied: tuple[NDArray[Any], Segments]) -> None:
        self._end_copy()
        voxels, segments = copied
        z, y, x = (a + b for a, b in zip(segments.origin, segments.box.start, strict=True))
        layer = Labels(
            voxels,
            name="segments (copy)",
            **grid_of(self._session.volume, (z, y, x)),
            metadata={"tokenunify": segments.provenance},
        )
        self._viewer.add_layer(layer)

    def _end_copy(self) -> None:
        self.copy.setText(COPY)
        self.copy.setEnabled(self._session.segmentation is not None)


def _copied(
    segmentation: Segmentation, threshold: float | None, dtype: np.dtype[Any]
) -> Generator[Progress, None, tuple[NDArray[Any], Segments]]:
    """Read all voxels, block by block; in the thread."""
    from napari_tokenunify.export import Segments
    from napari_tokenunify.proofread import open_edited

    segments = Segments.of(open_edited(segmentation.folder), threshold)
    voxels, grid = np.empty(segments.shape, dtype), segments.grid()
    for block in grid:
        yield Progress(block.index, len(grid), "copying")
        voxels[block.core.slices] = segments.read(block.core)
    return voxels, segments


def _ids(text: str) -> tuple[int, ...]:
    """Read ids with commas or spaces between them."""
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"'{text}' are no segments: write their ids, e.g. 12, 345, or nothing for all of them.")
    return tuple(map(int, words))


def size_words(count: float) -> str:
    """Return bytes for people, e.g. 3.2 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
