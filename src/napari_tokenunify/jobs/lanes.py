"""Lanes: jobs of one lane run one after the other on a machine, in the order in which they were started.

There is no server. A worker that waits holds a lock on its ticket, a file named after the time of its start, and the
one that runs holds the lock of the lane. A lock goes with its process, so the dead are seen as dead.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout

from napari_tokenunify.errors import JobError
from napari_tokenunify.jobs.processes import this_host

if TYPE_CHECKING:
    from collections.abc import Iterator


def state_folder() -> Path:
    """Return the folder of queue and history: `NAPARI_TOKENUNIFY_STATE`, or the user's own for such things."""
    chosen = os.environ.get("NAPARI_TOKENUNIFY_STATE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_state_path("napari-tokenunify")


class Lane:
    """One lane of this machine.

    Parameters
    ----------
    name : str
        Its name.
    run : str
        The run folder that asks, to be told to those who wait for it.
    """

    def __init__(self, name: str, run: str = "") -> None:
        self._folder = state_folder() / "queue" / f"{this_host()}-{name}"  # a home may be shared by machines
        self._door = FileLock(self._folder / "door.lock")
        self._lane = FileLock(self._folder / "lane.lock")
        self._run, self._at_work = run, self._folder / "at_work.txt"

    @property
    def at_work(self) -> str:
        """The run folder that has the lane, or had it last; "" if that is not known."""
        try:
            with self._door:
                return self._at_work.read_text("utf-8", errors="replace")
        except OSError:
            return ""

    def wait(self, since: float) -> Iterator[int]:
        """Wait in line; ends when the lane is ours.

        Parameters
        ----------
        since : float
            Our place in line, as seconds since 1970.

        Yields
        ------
        int
            Our place: 1 is next. Whoever takes it sleeps before asking again; closing the iterator leaves the line.

        Raises
        ------
        JobError
            If the state folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(
                f"{self._folder}: cannot be made ({error.strerror or error}); set NAPARI_TOKENUNIFY_STATE to a folder "
                "that you may write, or use no lane."
            ) from error
        path = self._folder / f"{since * 1e6:020.0f}-{os.getpid()}.ticket"
        ticket = FileLock(path)
        with self._door:
            ticket.acquire()
        try:
            while True:
                with self._door:
                    before = self._waiting_before(path)
                    if before == 0 and _take(self._lane):
                        with suppress(OSError):  # nobody's turn hangs on these words
                            self._at_work.write_text(self._run, "utf-8")
                        return
                yield before + 1
        finally:
            with self._door:
                ticket.release()
                path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let the next one in."""
        self._lane.release()

    def _waiting_before(self, mine: Path) -> int:
        """Count the living before us, and remove the tickets of the dead."""
        count = 0
        for path in sorted(self._folder.glob("*.ticket")):
            if path.name >= mine.name:
                break
            ticket = FileLock(path)
            if not _take(ticket):
                count += 1
                continue
            ticket.release()
            path.unlink(missing_ok=True)
        return count


def _take(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
