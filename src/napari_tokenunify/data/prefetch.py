"""Crops ahead of time: threads or processes make the next ones while the network works on the last."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_tokenunify.errors import TokenUnifyError

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_AHEAD = 2  # items made in advance for each worker


class Numbered(Protocol[T_co]):
    """Something that makes item number i: a CropSampler, or what wraps one to augment its crops."""

    def __getitem__(self, index: int, /) -> T_co:
        """Return item number `index`; called by several threads or processes at once."""


def iterate(source: Numbered[T], count: int, workers: int = 0, start: int = 0, processes: bool = False) -> Iterator[T]:
    """Yield `source[start]` to `source[start + count - 1]` in order, made ahead by workers.

    Close the iterator (or let it run out) to end the workers. An error in a worker is raised here as it is.

    Parameters
    ----------
    source : Numbered
        What makes the items, e.g. a CropSampler.
    count : int
        How many.
    workers : int
        How many work at once; 0 makes each item when it is asked for.
    start : int
        Number of the first; training that resumes gives the number of crops it has seen.
    processes : bool
        False: threads, which start at once and suffice where most time goes to reading, unpacking and NumPy's loops.
        True: processes, for much work in Python; each needs a second or two and its own memory to start, opens the
        files again, and `source` and its items are pickled on the way. They are spawned, so nothing of Qt or
        CUDA is forked; a script that uses them needs the usual `if __name__ == "__main__":`.

    Raises
    ------
    TokenUnifyError
        If a process was ended from outside.
    """
    if workers < 1:
        yield from (source[index] for index in range(start, start + count))
        return
    pool = _process_pool(source, workers) if processes else ThreadPoolExecutor(workers, "crops")
    make = _make if processes else source.__getitem__
    try:
        yield from _in_order(pool, make, range(start, start + count), workers * _AHEAD)
    except BrokenProcessPool as error:
        raise TokenUnifyError(
            "A process that makes crops has ended, most often for lack of memory: use fewer workers or smaller crops."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: Executor, make: Any, indices: range, ahead: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    for index in indices:
        waiting.append(pool.submit(make, index))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _process_pool(source: Numbered[Any], workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_process, initargs=(source,))


_of_this_process: dict[str, Numbered[Any]] = {}


def _start_process(source: Numbered[Any]) -> None:
    _of_this_process["source"] = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which then closes the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(index: int) -> Any:
    return _of_this_process["source"][index]
