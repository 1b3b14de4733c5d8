"""Work on a volume block by block: which blocks there are, which are done, and how the others get done.

A block has a core, and around it a halo that it reads but does not own; the cores tile the volume. What a block makes
is written whole before the block is marked as done, and only the process that hands out the work marks. So a run that
was killed goes on where it was, and a block that is done twice does no harm.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING, Final

from napari_tokenunify.errors import SegmentError
from napari_tokenunify.segment.blocks.workers import Answer, disk_is_full, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from napari_tokenunify.segment.blocks.grid import Block
    from napari_tokenunify.segment.blocks.workers import Result, Workers

WORK: Final = "work"  # folder for what is needed until all is done
_NAMED: Final = 5  # failed blocks that a sentence names


def run_blocks(
    function: Callable[[Block], Result], blocks: Sequence[Block], marks: Path, workers: Workers
) -> Generator[Answer, None, None]:
    """Do every block that is not done yet, and mark those that are done.

    Parameters
    ----------
    function : callable
        Takes a Block, writes what it makes, and returns plain values. Crosses to other processes, so it is a function
        of a module, or a `functools.partial` of one.
    blocks : sequence of Block
        All of them.
    marks : Path
        The file (`NAME.jsonl`) of those that are done; its parent folder exists.
    workers : Workers
        Who does the work.

    Yields
    ------
    Answer
        One a block, first those that were done before, then the others as they are done.

    Raises
    ------
    SegmentError
        At the end, if blocks have failed: which, and why. At once, if the disk is full.
    """
    known = _read_marks(marks)
    waiting = []
    for block in blocks:
        result = known.get(str(block.core))
        if result is None:
            waiting.append(block)
        else:
            yield Answer(block, result)
    failed = []
    with closing(workers.run(function, waiting)) as answers:
        for answer in answers:
            if answer.is_disk_full:
                raise SegmentError(_full(marks.parent))
            if answer.result is None:
                failed.append(answer)
            else:
                _mark(marks, answer)
            yield answer
    if failed:
        raise SegmentError(_failures(failed, len(blocks), marks.stem))


def _read_marks(marks: Path) -> dict[str, Result]:
    """Return what the blocks that are done have returned, and take away a last line that a kill cut off."""
    if not marks.exists():
        return {}
    content = marks.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(marks, whole)
    try:
        lines = [json.loads(line) for line in content[:whole].splitlines()]
        return {line["block"]: line["result"] for line in lines}
    except (ValueError, LookupError, TypeError) as error:
        raise SegmentError(f"{marks}: is damaged; start again with --overwrite.") from error


def _mark(marks: Path, answer: Answer) -> None:
    line = json.dumps({"block": str(answer.block.core), "result": answer.result})
    try:
        with marks.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SegmentError(_full(marks.parent) if disk_is_full(error) else f"{marks}: {reason_of(error)}") from error


def _full(folder: Path) -> str:
    return f"{folder}: the disk is full; make room and run the same command again, what is done is kept."


def _failures(failed: list[Answer], total: int, what: str) -> str:
    named = "; ".join(f"{answer.block.core} ({answer.problem})" for answer in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return (
        f"{len(failed)} of {total} blocks failed at {what}: {named}{more}. The others are done and kept; mend the "
        "cause and run the same command again."
    )
