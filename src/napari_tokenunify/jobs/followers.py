"""The other processes of a job on several GPUs: they work as the first one does, and say nothing.

torchrun starts one worker a GPU. The first (rank 0) waits in the lane, records events and hears what is asked;
the others start when it starts and leave when it has left, as they would wait for it for ever.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from napari_tokenunify.jobs.processes import find
from napari_tokenunify.jobs.records import RecordReader
from napari_tokenunify.jobs.spec import JobState
from napari_tokenunify.pipeline import STAGES

if TYPE_CHECKING:
    from typing import Any

    from napari_tokenunify.jobs.run_folder import RunFolder

_LOOK_EVERY_S: Final = 0.2


def rank() -> int:
    """Return which of torchrun's processes this is; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def follow(folder: RunFolder) -> int:
    """Run the stage beside the first process, and return 0.

    Parameters
    ----------
    folder : RunFolder
        The run.
    """
    leader = _wait_for_leader(folder)
    if leader is None:
        return 0
    threading.Thread(target=_leave_with, args=(leader,), daemon=True).start()
    spec = folder.read_spec()
    if Path(spec.working_folder).is_dir():
        os.chdir(spec.working_folder)
    stage = STAGES[spec.stage]
    for _ in stage.run(stage.config(**spec.config)):
        pass
    return 0


def _wait_for_leader(folder: RunFolder) -> dict[str, Any] | None:
    """Return the first process once it has begun to work; None if it stopped before."""
    reader = RecordReader(folder.events)
    offset = folder.read_launch().get("offset", 0)
    leader: dict[str, Any] | None = None
    while True:
        for record in reader.read(offset):
            if record["event"] == "Start":
                leader = record
            elif record["event"] == "State" and leader is not None and record["state"] != JobState.QUEUED:
                return None if JobState(record["state"]).final else leader
        if leader is not None and find(leader) is None:
            return None
        time.sleep(_LOOK_EVERY_S)


def _leave_with(leader: dict[str, Any]) -> None:
    """End this process when the first one has ended, wherever it is in its step."""
    while find(leader) is not None:
        time.sleep(_LOOK_EVERY_S)
    os._exit(0)
