from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from types import SimpleNamespace

import psutil
import pytest

from napari_tokenunify.errors import ConfigError, SegmentError
from napari_tokenunify.segment.blocks import workers as workers_module
from napari_tokenunify.segment.blocks.grid import Block, BlockGrid
from napari_tokenunify.segment.blocks.workers import Workers

BLOCKS = list(BlockGrid((4, 4, 4), (2, 2, 2), (0, 0, 0)))


def square(block: Block) -> dict:
    return {"square": block.index**2, "process": os.getpid()}


def slow(block: Block) -> dict:
    time.sleep(0.05)
    return square(block)


def die(at: int, block: Block) -> dict:
    if block.index == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(block)


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def started(workers: Workers) -> Workers:
    """Wait until this process does no blocks any more."""
    while os.getpid() in {answer.result["process"] for answer in workers.run(slow, BLOCKS)}:
        pass
    return workers


def test_processes_do_the_same_as_this_one_and_are_gone_afterwards():
    before = processes()
    with Workers(1) as workers:
        here = {answer.block.index: answer.result["square"] for answer in workers.run(square, BLOCKS)}
    with Workers(2) as workers:
        assert processes() == before  # none before there is work
        meanwhile = [*workers.run(square, BLOCKS[:4])]
        answers = [*started(workers).run(square, BLOCKS[:4]), *workers.run(square, BLOCKS[4:])]
    assert {answer.block.index: answer.result["square"] for answer in answers} == here
    assert {answer.block.index: answer.result["process"] for answer in meanwhile} == dict.fromkeys(
        range(4), os.getpid()
    )
    assert os.getpid() not in {answer.result["process"] for answer in answers}
    assert all(answer.peak_mb > 10 for answer in answers)
    assert processes() - before <= resource_trackers()


def test_a_run_that_is_given_up_leaves_no_process():
    before = processes()
    with Workers(2) as workers:
        for ready in (workers, started(workers)):
            begun = ready.run(slow, BLOCKS)
            next(begun)
            begun.close()
    assert processes() - before <= resource_trackers()


def resource_trackers() -> set[int]:
    """The helper that Python itself starts with the first process and keeps until it ends."""
    from multiprocessing.resource_tracker import _resource_tracker

    return {_resource_tracker._pid}


@pytest.mark.slow
def test_a_process_that_dies_fails_its_block_alone():
    with Workers(2) as workers:
        answers = {answer.block.index: answer for answer in started(workers).run(partial(die, 3), BLOCKS)}
    assert "its process was ended" in answers.pop(3).problem
    assert all(answer.result for answer in answers.values())
    assert len(answers) == len(BLOCKS) - 1


def test_a_cluster_that_is_not_there_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers_module, "_PATIENCE", "0.2s")
    with (
        Workers(2, "tcp://127.0.0.1:9") as workers,
        pytest.raises(SegmentError, match=r"127\.0\.0\.1:9 does not answer"),
    ):
        list(workers.run(square, BLOCKS))


def test_a_cluster_that_runs_already_is_used_and_left_running():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, processes=False, dashboard_address=None, scheduler_port=0, protocol="tcp"
    ) as cluster:
        for _ in range(2):
            with Workers(1, cluster.scheduler_address) as workers:
                assert len(list(workers.run(square, BLOCKS))) == len(BLOCKS)


def test_slurm_takes_its_settings_from_the_address(monkeypatch: pytest.MonkeyPatch):
    asked = {}

    class Cluster:
        def __init__(self, **settings):
            asked.update(settings)
            raise ValueError("no Slurm here")

    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=Cluster))
    with Workers(3, "slurm:queue=cpu,cores=1,memory=8GB") as workers, pytest.raises(SegmentError, match="no Slurm"):
        list(workers.run(square, BLOCKS))
    assert asked == {"queue": "cpu", "cores": 1, "memory": "8GB"}
    with Workers(3, "slurm:queue") as workers, pytest.raises(ConfigError, match="slurm:queue=NAME"):
        list(workers.run(square, BLOCKS))


def test_slurm_without_its_library_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with Workers(2, "slurm:") as workers, pytest.raises(ConfigError, match="pip install dask-jobqueue"):
        list(workers.run(square, BLOCKS))
