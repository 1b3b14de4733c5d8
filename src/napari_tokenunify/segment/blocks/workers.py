"""Who does the blocks: this process, several processes of this machine, or a dask cluster; the result is the same."""

from __future__ import annotations

import errno
import logging
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from napari_tokenunify.errors import ConfigError, SegmentError, TokenUnifyError
from napari_tokenunify.network.peak_memory import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

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


class Workers:
    """A context manager that runs a function on blocks; it starts processes when the first block comes.

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
        self._client: Any = None

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what was started, whatever has happened."""
        self._client = None
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
            yield from self._run_on_cluster(function, blocks)

    def _run_on_cluster(
        self, function: Callable[[Block], Result], blocks: Sequence[Block]
    ) -> Generator[Answer, None, None]:
        distributed: Any = import_module("distributed")
        client = self._client = self._client or self._connect()
        rest = iter(blocks)
        handed_out: dict[Any, Block] = {}
        ahead = _AHEAD * max(self.number, len(client.nthreads()))

        def hand_out(block: Block) -> Any:
            future = client.submit(attempt, function, block, pure=False)
            handed_out[future] = block
            return future

        try:
            answers = distributed.as_completed([hand_out(block) for block in islice(rest, ahead)], loop=client.loop)
            for future in answers:
                yield _answer(future, handed_out.pop(future))
                for block in islice(rest, 1):
                    answers.add(hand_out(block))
        finally:
            for future in handed_out:
                future.cancel()

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
