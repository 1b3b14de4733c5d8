"""Saving: a project is written in a thread, as a disk may keep one waiting longer than a window may stand still."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_tokenunify.errors import TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Callable


class Saving(QObject):
    """Writes one after the other; at the end of the process, too, what is left is written.

    Attributes
    ----------
    failed : Signal(str)
        What could not be written, and why.
    """

    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, "saving")
        self._open = True

    def soon(self, save: Callable[[], None]) -> None:
        """Call `save` in the thread; at once, once this is closed."""
        if self._open:
            self._thread.submit(self._save, save)
        else:
            save()

    def close(self) -> None:
        """Wait until all is written."""
        self._open = False
        self._thread.shutdown(wait=True)

    def _save(self, save: Callable[[], None]) -> None:
        try:
            save()
        except TokenUnifyError as error:
            self.failed.emit(str(error))
