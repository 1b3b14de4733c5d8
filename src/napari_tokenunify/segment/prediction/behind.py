"""Behind: a thread that writes to the disk while the next is computed."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITING = 2


class Behind:
    """Does what it is given, in order, in a thread of its own; a few things may wait, then the giver does.

    The first error ends the work: it is raised at the next `put`, `wait` or `close`, and what was given after it is
    not done.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write behind", daemon=True)
        self._thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Have `job` done."""
        self._raise()
        self._queue.put(job)

    def wait(self) -> None:
        """Return once all is done."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Finish what was given, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._raise()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # noqa: BLE001 - goes to the thread that gave the job
                self._error = error
            finally:
                del job
                self._queue.task_done()
        self._queue.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
