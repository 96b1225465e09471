"""The time that is left is shared by what is left to do, and nothing begins too late."""

from __future__ import annotations

import pytest

from benchmarks.budget import SHORTEST_S, Budget, Cost


def test_without_an_end_every_run_is_as_long_as_it_should_be() -> None:
    budget = Budget(1.0, Cost(100, 100), now=0.0, total_s=None)
    assert budget.take(Cost(1, 1), 1e9) == 1.0


def test_what_is_left_is_shared() -> None:
    budget = Budget(1.0, Cost(100, 20), now=7.0, total_s=50.0)
    assert budget.take(Cost(2, 1), 7.0) == pytest.approx(0.3)
    # That took no time at all: there is more for the others.
    assert budget.take(Cost(2, 1), 7.0) == pytest.approx((50 - 19) / 98)


def test_no_run_is_longer_than_it_should_be_nor_shorter_than_one_that_says_something() -> None:
    assert Budget(1.0, Cost(1, 0), 0.0, 50.0).take(Cost(1, 0), 0.0) == 1.0
    assert Budget(1.0, Cost(1000, 0), 0.0, 50.0).take(Cost(1, 0), 0.0) == SHORTEST_S


def test_what_does_not_fit_does_not_begin() -> None:
    budget = Budget(1.0, Cost(3, 6), 0.0, 10.0)
    assert budget.take(Cost(1, 2), 7.8) is not None
    assert budget.take(Cost(1, 2), 7.9) is None
    assert budget.take(Cost(0, 2), 8.1) is None


@pytest.mark.parametrize("slowness", [1.0, 2.0])
def test_steps_end_in_time_on_a_slow_machine_too(slowness: float) -> None:
    step = Cost(1.5, 0.2)
    budget, now = Budget(1.0, step * 200, 0.0, 180.0), 0.0
    for _ in range(200):
        seconds = budget.take(step, now)
        assert seconds is not None
        now += slowness * step.fixed_s + step.lengths * seconds
    assert now == pytest.approx(180.0, abs=0.5)


def test_it_learns_how_slow_the_machine_is() -> None:
    budget = Budget(1.0, Cost(0, 100), 0.0, 100.0)
    assert budget.slowness(0.0) == 1.0
    budget.take(Cost(0, 10), 0.0)
    assert budget.slowness(30.0) == 3.0
    assert budget.fits(Cost(0, 23), 30.0)
    assert not budget.fits(Cost(0, 24), 30.0)
