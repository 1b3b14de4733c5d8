"""A training that is killed at any moment goes on from a whole state; and two processes train as one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.toy import drive, loop

KILLS = 100
CHILD = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import torch
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train import loop as loop_module
from napari_tokenunify.train.state import load_state
from tests.train.toy import drive, loop

torch.set_num_threads(1)  # a forked child has no threads of its parent
loop_module._Due.now = lambda *_, **__: True  # a checkpoint after every step
folder, rng, step = Path(sys.argv[1]), np.random.default_rng(0), 0
drive(loop(folder / "first", steps=2).run())  # loads what torch loads late
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        drive(loop(folder, steps=10**9).run())
        os._exit(1)
    time.sleep(rng.uniform(0.01, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = load_state(RunPaths(folder), "toy")
    if found is not None:
        assert found[0].step >= step, (found[0].step, step)
        step = found[0].step
print(step)
"""
RANK = """
import sys
from pathlib import Path
import torch
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train.loop import Loop
from napari_tokenunify.train.ranks import join_ranks
from tests.train.toy import ToyTask, drive, plan

ranks, _ = join_ranks(torch.device("cpu"))
torch.manual_seed(0)
paths = RunPaths(Path(sys.argv[1]))
losses, _, _ = drive(Loop(torch.nn.Linear(3, 1), ToyTask(), plan(4, batch=2), paths, "toy", ranks).run())
if ranks.first:
    print(*losses.values())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_leave_a_run_that_goes_on_as_if_there_had_been_none(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), str(KILLS)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    step = int(told.stdout)
    assert step > KILLS / 4  # the kills did not just hit the start
    losses, _, standing = drive(loop(tmp_path, steps=step + 3).run())
    assert standing.step == step + 3
    assert list(losses) == [step + 1, step + 2, step + 3]
    assert np.isfinite(list(losses.values())).all()


def test_two_processes_take_the_steps_of_one_with_the_double_batch(tmp_path):
    one, _, _ = drive(loop(tmp_path / "one", steps=4).run())
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    told = subprocess.run(
        [*words, str(script), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert [float(word) for word in told.stdout.split()] == pytest.approx(list(one.values()), rel=1e-5)
