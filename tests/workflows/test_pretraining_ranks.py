"""Two processes pre-train as one would with the double batch, objective by objective."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.events import Metric
from napari_tokenunify.network import ModelCard, build_network, save_checkpoint
from napari_tokenunify.train import loop
from napari_tokenunify.train.pretraining.pretraining import pretrain
from tests.train.pretraining.test_pretraining import SMALLEST, config, tissue
from tests.train.toy import drive

RANK = """
import json, os, sys
from pathlib import Path
from tests.workflows.test_pretraining_ranks import metrics_of, every_step

every_step()
steps = metrics_of(Path(sys.argv[1]), "two", batch=2)
if os.environ["RANK"] == "0":
    print(json.dumps(steps))
"""


def every_step(patch=setattr):
    """Let the loop report after every step, and do nothing else."""
    patch(loop._Due, "now", lambda self, *_, **__: self.every < 5)


def metrics_of(folder, name, batch):
    """Return what is measured at each of three steps, beside the time."""
    _, events, _ = drive(pretrain(config(folder, out=str(folder / name), batch=batch, steps=3, hold_out=0)))
    steps = [event.values for event in events if isinstance(event, Metric) and "loss" in event.values]
    return [{key: value for key, value in values.items() if key != "seconds"} for values in steps]


def test_two_processes_take_the_steps_of_one_with_the_double_batch(tmp_path, monkeypatch):
    every_step(monkeypatch.setattr)
    for number in (0, 1):
        np.save(tmp_path / f"raw{number}.npy", tissue(number))
    shape = SMALLEST.replace(offsets=((0, 0, 0),))
    save_checkpoint(tmp_path / "seed", build_network(shape), ModelCard(network=shape))
    one = metrics_of(tmp_path, "one", batch=4)
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = subprocess.run(
        [*words, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert told.returncode == 0, told.stderr
    two = json.loads(told.stdout)
    assert len(one) == len(two) == 3
    assert {name for values in one for name in values} >= {"loss_random", "loss_next", "loss_next_all"}
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
