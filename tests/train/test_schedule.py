from __future__ import annotations

import time

import pytest

from napari_tokenunify.train.schedule import Budget, Clock, learning_rate


def test_the_learning_rate_warms_up_and_ends_with_the_budget():
    assert learning_rate(1.0, 0, 10, 0.0) == pytest.approx(0.1)
    assert learning_rate(1.0, 9, 10, 0.0) == pytest.approx(1.0)
    assert learning_rate(1.0, 50, 10, 0.5) == pytest.approx(0.505)
    assert learning_rate(1.0, 99, 10, 1.0) == pytest.approx(0.01)


def test_a_budget_of_steps_does_not_look_at_the_time():
    budget = Budget(10, None)
    assert budget.share(5, 1e9) == 0.5
    assert not budget.is_used(9, 1e9, 1e9)
    assert budget.is_used(10, 0, 0)


def test_a_budget_of_time_ends_where_the_next_step_would_end_mostly_after_it():
    budget = Budget(None, 100.0)
    assert budget.share(7, 25) == 0.25
    assert budget.share(7, 40, 20.0) == 0.5
    assert budget.share(7, 80, 20.0) == 1.0
    assert not budget.is_used(7, 94, 10)
    assert budget.is_used(7, 96, 10)


def test_a_clock_that_stands_still_counts_nothing():
    clock = Clock(100.0)
    clock.stop()
    before = clock.seconds
    time.sleep(0.02)
    assert clock.seconds == before >= 100
    clock.go()
    time.sleep(0.02)
    assert clock.seconds >= before + 0.02
