"""Who does the blocks: this process, several processes of this machine, or a dask cluster; the result is the same."""

from __future__ import annotations

import errno
import logging
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from napari_tokenunify.errors import ConfigError, SegmentError, TokenUnifyError
from napari_tokenunify.network.peak_memory import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from napari_tokenunify.segment.blocks.grid import Block

    Result = dict[str, Any]

_AHEAD = 2  # blocks handed out for each worker
_SLURM = "slurm:"
_PATIENCE = "20s"  # for a scheduler to answer
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 32 << 20}  # of the C library


@dataclass(frozen=True)
class Answer:
    """What came of one block.

    Attributes
    ----------
    block : Block
        Which.
    result : dict or None
        What its function returned, plain values; None if it failed.
    problem : str or None
        Why it failed, as a sentence.
    is_disk_full : bool
        Whether it failed because nothing more can be written, so that no other block can be done either.
    peak_mb : float
        The largest memory of the process that did it so far, in MB; 0 for a block that was done before.
    """

    block: Block
    result: Result | None = None
    problem: str | None = None
    is_disk_full: bool = False
    peak_mb: float = 0.0


def attempt(function: Callable[[Block], Result], block: Block) -> Answer:
    """Do one block, and turn a failure into an answer, so that the others go on."""
    try:
        result = function(block)
    except Exception as error:  # noqa: BLE001  # whatever went wrong, it went wrong with this block alone
        full = disk_is_full(error)
        return Answer(block, problem=reason_of(error), is_disk_full=full, peak_mb=peak_memory_mb())
    return Answer(block, result, peak_mb=peak_memory_mb())


@dataclass(eq=False)
class _Task:
    """A function and the blocks that are still to be handed out; a thread may begin while this one takes blocks too."""

    function: Callable[[Block], Result]
    rest: Iterator[Block]
    handed_out: dict[Any, Block] = field(default_factory=dict)

    def hand_out(self, client: Any, number: int) -> list[Any]:
        """Give so many blocks to the cluster, and return their futures."""
        futures = []
        for block in islice(self.rest, number):
            future = client.submit(attempt, self.function, block, pure=False)
            self.handed_out[future] = block
            futures.append(future)
        return futures


class Workers:
    """A context manager that runs a function on blocks; it starts processes when the first block comes.

    Until processes of this machine have started, which takes seconds, this one does blocks.

    Parameters
    ----------
    number : int
        1: this process, one block after the other. More: processes of this machine, each with one thread, or that
        many Slurm jobs.
    address : str, optional
        Of a dask scheduler, e.g. tcp://host:8786: its workers do the blocks, however many they are. They must reach
        the files under the same paths. "slurm:" starts Slurm jobs through dask-jobqueue; its settings may follow, as
        in slurm:queue=cpu,cores=1,memory=8GB,walltime=02:00:00.
    """

    def __init__(self, number: int = 1, address: str | None = None) -> None:
        self.number, self.address = number, address
        self._open = ExitStack()
        self._thread = ThreadPoolExecutor(1, "workers")
        self._client: Future[Any] | None = None

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what was started, whatever has happened."""
        self._thread.shutdown(cancel_futures=True)
        self._open.close()

    def run(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> Generator[Answer, None, None]:
        """Yield an answer for each block, in the order in which they are done.

        Raises
        ------
        SegmentError
            If the cluster cannot be reached or started, or is lost.
        ConfigError
            If the address cannot be used.
        """
        if self.number == 1 and self.address is None:
            yield from map(partial(attempt, function), blocks)
        elif blocks:
            yield from self._share(_Task(function, iter(blocks)))

    def _share(self, task: _Task) -> Generator[Answer, None, None]:
        connected = self._client = self._client or self._thread.submit(self._connect)
        begun = self._thread.submit(lambda: self._begin(task, connected.result()))
        try:
            if self.address is None:
                while not connected.done() and (block := next(task.rest, None)) is not None:
                    yield attempt(task.function, block)
                if not connected.done() and begun.cancel():  # all done before there were others to do it
                    return
            yield from _answers(task, connected.result(), begun.result())
        finally:
            begun.cancel()
            for future in task.handed_out:
                future.cancel()

    def _begin(self, task: _Task, client: Any) -> list[Any]:
        return task.hand_out(client, _AHEAD * max(self.number, len(client.nthreads())))

    def _connect(self) -> Any:
        """Start or find the cluster; what was started ends with `__exit__`."""
        distributed: Any = import_module("distributed")
        try:
            cluster: Any = self.address
            if self.address is None:
                cluster = self._open.enter_context(_local_cluster(self.number))
            elif self.address.startswith(_SLURM):
                cluster = self._open.enter_context(_slurm(self.address.removeprefix(_SLURM)))
                cluster.scale(jobs=self.number)
            client = self._open.enter_context(distributed.Client(cluster, timeout=_PATIENCE, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            where = self.address or "of this machine"
            raise SegmentError(f"The dask cluster {where} does not answer ({error}): check its address.") from error
        if self.address is None:
            client.run(_ignore_interrupt)
        return client


def _answers(task: _Task, client: Any, futures: list[Any]) -> Generator[Answer, None, None]:
    """Yield what the cluster answers, and give it a further block for each."""
    answers = import_module("distributed").as_completed(futures, loop=client.loop)
    for future in answers:
        yield _answer(future, task.handed_out.pop(future))
        for following in task.hand_out(client, 1):
            answers.add(following)


def _local_cluster(number: int) -> Any:
    """Start processes on this machine, as libraries with threads of their own do not survive a fork.

    It is quiet, as dask says more than a user can act on when it ends. And the processes keep their memory from block
    to block, which needs the same again: by default dask has them give it back, which costs a quarter of the time.
    """
    dask_config: Any = import_module("dask.config")
    distributed: Any = import_module("distributed")
    with dask_config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in _MALLOC.items()}):
        return distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any free port
            silence_logs=logging.CRITICAL,
        )


def _ignore_interrupt() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that started them and will end them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _answer(future: Any, block: Block) -> Answer:
    """Return what a worker answered, or that it died: dask has tried three other workers by then."""
    error = future.exception()
    if error is None:
        answer: Answer = future.result()
        return answer
    reason = "its process was ended, mostly for want of memory; use fewer workers or a smaller --block"
    is_death = type(error).__name__ in {"KilledWorker", "CancelledError", "FutureCancelledError"}
    return Answer(block, problem=reason if is_death else f"{type(error).__name__}: {error}")


def _slurm(settings: str) -> Any:
    try:
        make = import_module("dask_jobqueue").SLURMCluster
    except ImportError as error:
        raise ConfigError("Slurm needs dask-jobqueue: pip install dask-jobqueue.") from error
    pairs = [part.partition("=") for part in settings.split(",") if part]
    if any(not value for _, _, value in pairs):
        raise ConfigError(f"'slurm:{settings}' cannot be used: write slurm:queue=NAME,cores=1,memory=8GB.")
    return make(**{name: int(value) if value.isdigit() else value for name, _, value in pairs})


def disk_is_full(error: BaseException | None) -> bool:
    """Whether this is what lies behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        error = error.__cause__ or error.__context__
    return False


def reason_of(error: Exception) -> str:
    """Return the first line of an error's text; of one that is not ours after its type."""
    lines = str(error).strip().splitlines()
    text = lines[0][:300] if lines else ""
    return text if isinstance(error, TokenUnifyError) else f"{type(error).__name__}: {text}"
