"""Edits, killed at any moment, many times: a child of this process edits, this one kills it and looks what is there.

In a process of its own, as it forks: what takes long to load is loaded once.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path

from napari_tokenunify.proofread.history import History
from napari_tokenunify.proofread.proofreading import Proofreading
from napari_tokenunify.segment.segmentation import EDITS


def main(folder: Path, kills: int) -> None:
    chance = random.Random(0)
    key, known = "bars", 0
    for kill in range(kills):
        said = killed_child(folder, chance.random() ** 2 * 0.1)
        with History(folder / EDITS, key) as history:
            assert len(history) >= known, kill
            known = len(history)
            edits = {edit.uuid: edit for edit in history.all_edits()}  # every record is whole
            assert set(said) <= set(edits), kill
            if said:  # the head is where the child said, or one step further
                head = history.head
                after = {uuid for uuid, edit in edits.items() if edit.parent == said[-1]}
                assert head in {said[-1], edits[said[-1]].parent} | after, kill
        database = sqlite3.connect(folder / EDITS)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), kill
        database.close()
    with Proofreading.open(folder) as proofreading:
        assert len(proofreading.in_force) <= known
        proofreading.table()
    sys.stdout.write(f"edits {known}\n")


def killed_child(folder: Path, after_s: float) -> list[str]:
    """Let a child edit, kill it some time after it is ready, and return the heads that it has reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            edit_without_end(folder, writing)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    ready = os.read(reading, 6)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().split("\n")[:-1]
    _, status = os.waitpid(child, 0)
    assert (ready, os.WTERMSIG(status)) == (b"ready\n", signal.SIGKILL)
    return [line for line in lines if line]


def edit_without_end(folder: Path, report: int) -> None:
    with Proofreading.open(folder, "child") as proofreading:
        os.write(report, b"ready\n")
        number = 0
        while True:
            number += 1
            table = proofreading.table()
            one = 1 + number % 40
            other = next((fragment for fragment in range(1, 41) if table[fragment] != table[one]), None)
            if number % 3 == 0 or other is None:
                proofreading.undo()
            else:
                proofreading.merge(one, other)
            os.write(report, f"{proofreading.history.head or ''}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
