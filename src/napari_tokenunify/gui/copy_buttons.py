"""Two buttons that stand beside an action: copy it as a command line, or as Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget

from napari_tokenunify.errors import TokenUnifyError
from napari_tokenunify.pipeline import command_line, python_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokenunify.config import Config


class CopyButtons(QWidget):
    """Copy what an action would do.

    Parameters
    ----------
    stage : str or callable
        A key of STAGES, or what returns the one that the action would use now.
    config : callable
        Returns the Config that the action would use now.
    """

    def __init__(self, stage: str | Callable[[], str], config: Callable[[], Config]) -> None:
        super().__init__()
        self._stage, self._config = stage, config
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for text, make in (("Copy as command line", command_line), ("Copy as Python", python_code)):
            button = QPushButton(text)
            button.setFlat(True)
            button.setToolTip(f"{text}: the same, to be run without napari.")
            button.clicked.connect(lambda _=False, make=make: self._copy(make))
            layout.addWidget(button)

    def _copy(self, make: Callable[[str, Config], str]) -> None:
        try:
            text = make(self._stage if isinstance(self._stage, str) else self._stage(), self._config())
        except TokenUnifyError as error:
            show_error(str(error))
            return
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
            show_info("Copied.")
