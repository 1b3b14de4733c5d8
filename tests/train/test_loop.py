from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest
import torch

from napari_tokenunify.errors import TrainError
from napari_tokenunify.events import Message, Metric, Progress
from napari_tokenunify.project import RunPaths
from napari_tokenunify.train import loop as loop_module
from napari_tokenunify.train.loop import Loop, halved
from napari_tokenunify.train.schedule import Budget
from tests.train.toy import ToyTask, drive, loop, plan


def texts(events):
    return [event.text for event in events if isinstance(event, Message)]


def test_a_task_is_learnt(tmp_path):
    losses, _, standing = drive(loop(tmp_path, steps=150).run())
    assert standing.step == 150
    assert losses[150] < 0.05 * losses[1]


def test_a_run_that_is_stopped_and_resumed_follows_the_losses_of_one_that_never_was(tmp_path):
    whole, _, _ = drive(loop(tmp_path / "whole").run())
    first, _, _ = drive(loop(tmp_path / "parts").run(), stop_after=4)
    torch.manual_seed(99)  # of no influence
    second, events, standing = drive(loop(tmp_path / "parts").run())
    assert "Going on after step 4." in texts(events)
    assert standing.step == 10
    assert list({**first, **second}) == list(whole) == list(range(1, 11))
    assert {**first, **second} == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("validation", [[], [0.5]])
def test_a_stop_after_the_last_step_costs_no_step(tmp_path, validation):
    task = ToyTask(validation=list(validation))
    generator = loop(tmp_path, task, metric_seconds=1e9).run()
    for event in generator:
        if isinstance(event, Metric) and ("validation_loss" in event.values) == bool(validation):
            generator.close()  # while the last numbers are told
    losses, events, standing = drive(loop(tmp_path, ToyTask(validation=[0.5])).run())
    assert "Going on after step 10." in texts(events)
    assert (losses, standing.step, standing.best) == ({}, 10, 0.5)


def test_a_run_that_is_over_has_nothing_left_to_do(tmp_path):
    drive(loop(tmp_path, steps=3).run())
    losses, _, standing = drive(loop(tmp_path, steps=3).run())
    assert (losses, standing.step) == ({}, 3)


def test_another_run_in_the_folder_is_refused(tmp_path):
    drive(loop(tmp_path, steps=2).run())
    other = Loop(torch.nn.Linear(3, 1), ToyTask(), plan(), RunPaths(tmp_path), "another")
    with pytest.raises(TrainError, match="choose another --out"):
        drive(other.run())


def test_the_state_before_is_taken_where_the_last_is_damaged(tmp_path):
    drive(loop(tmp_path, steps=2).run())
    drive(loop(tmp_path, steps=4).run())
    (tmp_path / "state.safetensors").write_bytes(b"half")
    _, events, standing = drive(loop(tmp_path, steps=4).run())
    assert "Going on after step 2." in texts(events)
    assert standing.step == 4
    for name in ("state.safetensors", "state.previous.safetensors"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(TrainError, match="damaged"):
        drive(loop(tmp_path, steps=4).run())


@pytest.mark.parametrize("room", [1, 2, 3])
def test_where_memory_is_full_fewer_crops_are_computed_at_once_and_the_losses_stay(tmp_path, room):
    whole, _, _ = drive(loop(tmp_path / "whole", steps=5).run())
    task = ToyTask(room=room)
    pieces, events, standing = drive(loop(tmp_path / "pieces", task, steps=5).run())
    assert pieces == pytest.approx(whole, rel=1e-5)
    assert standing.micro == {1: 1, 2: 2, 3: 2}[room]
    assert max(task.sizes[5:]) <= room
    assert any("computed at once" in text for text in texts(events))


def test_where_one_crop_is_too_much_crops_get_smaller_and_the_step_is_not_lost(tmp_path):
    class Large(ToyTask):
        def samples(self, crop):
            self.crop_voxels = crop[0] * crop[1] * crop[2]
            return super().samples(crop)

    losses, events, standing = drive(loop(tmp_path, Large(room=8 * 32 * 32), steps=3).run())
    assert standing.crop == (8, 32, 32)
    assert list(losses) == [1, 2, 3]
    assert any("crops are 8x32x32" in text for text in texts(events))
    with pytest.raises(TrainError, match="memory does not suffice"):
        drive(loop(tmp_path / "none", Large(room=1), steps=3).run())


def test_a_crop_is_halved_where_it_is_longest():
    assert halved((16, 160, 160)) == (16, 160, 80)
    assert halved((64, 64, 64)) == (32, 64, 64)
    assert halved((4, 32, 32)) is None


def test_a_step_without_a_finite_loss_changes_nothing_and_is_counted(tmp_path):
    losses, events, standing = drive(loop(tmp_path, ToyTask(bad_steps={2, 3}), steps=5).run())
    assert standing.skipped == 2
    assert list(losses) == [1, 4, 5]
    assert all(value == value for value in losses.values())
    assert sum("is left out" in text for text in texts(events)) == 2


def test_too_many_of_them_end_the_training_with_advice(tmp_path):
    with pytest.raises(TrainError, match="smaller --learning-rate"):
        drive(loop(tmp_path, ToyTask(bad_steps=range(1, 100)), steps=50).run())


def test_the_gradient_is_clipped_before_the_step(tmp_path):
    steep = loop(tmp_path, steps=1, clip=1e-6)
    seen = []
    steep.optimiser.register_step_pre_hook(
        lambda *_: seen.append(
            torch.linalg.vector_norm(torch.cat([p.grad.ravel() for p in steep.network.parameters()]))
        )
    )
    drive(steep.run())
    assert float(seen[0]) <= 1.1e-6


def test_the_best_weights_are_kept_and_training_ends_when_none_better_come(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module._Due, "now", lambda *_, **__: True)
    task = ToyTask(validation=[3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    _, _, standing = drive(loop(tmp_path, task, steps=50, patience=3).run())
    best = [step for name, step, _ in task.saved if name == "best.safetensors"]
    assert best == [1, 2]
    assert (standing.step, standing.best, standing.best_step, standing.waited) == (5, 1.0, 2, 3)


def test_a_validation_loss_that_is_no_number_is_never_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module._Due, "now", lambda *_, **__: True)
    task = ToyTask(validation=[math.nan, 3.0, math.nan, 2.0, math.nan])
    _, _, standing = drive(loop(tmp_path, task, steps=5).run())
    assert [step for name, step, _ in task.saved if name == "best.safetensors"] == [2, 4]
    assert (standing.best, standing.best_step) == (2.0, 4)


def test_time_that_the_driver_takes_is_not_time_of_the_training(tmp_path):
    generator = loop(tmp_path, budget=Budget(None, 0.5)).run()
    next(generator)
    time.sleep(0.7)
    _, events, standing = drive(generator)
    assert standing.step > 5
    assert standing.seconds < 1.0
    assert any(isinstance(event, Progress) for event in events)


@pytest.mark.parametrize(("waited", "others", "over"), [(3, 0, True), (0, 1, True), (0, 0, False)])
def test_processes_end_together_also_when_one_of_them_has_lost_patience(waited, others, over):
    asked = []
    ranks = SimpleNamespace(world=2, total=lambda own: asked.append(own) or [own + others])
    plan = SimpleNamespace(patience=3, budget=Budget(100, None))
    clock, standing = SimpleNamespace(seconds=1.0), SimpleNamespace(waited=waited, step=5)
    loop = SimpleNamespace(plan=plan, standing=standing, clock=clock, _seconds_of_steps=[], _ranks=ranks)
    assert Loop._is_over(loop) == over
    assert asked == [float(waited >= 3)]


def test_a_training_by_minutes_that_is_done_makes_no_further_step(tmp_path):
    def train(seconds):
        task = ToyTask()
        _, _, standing = drive(loop(tmp_path, task, budget=Budget(None, seconds)).run())
        return task, standing

    _, first = train(0.5)
    task, again = train(0.5)
    assert (again.step, again.seconds, task.calls, task.saved) == (first.step, first.seconds, 0, [])
    task, more = train(1.0)
    assert more.step > first.step
    assert task.calls > 0
