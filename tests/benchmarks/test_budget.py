"""The time that is left is shared by what is left to do, and nothing begins too late."""

from __future__ import annotations

import pytest

from benchmarks.budget import SHORTEST_S, Budget, Cost


def test_without_an_end_every_run_is_as_long_as_it_should_be() -> None:
    budget = Budget(1.0, Cost(100, 100))
    assert budget.take(Cost(1, 1), 1e9) == 1.0


def test_what_is_left_is_shared() -> None:
    budget = Budget(1.0, Cost(100, 20), until=50.0)
    assert budget.take(Cost(2, 1), 0.0) == pytest.approx(0.3)
    # That took no time at all: there is more for the others.
    assert budget.take(Cost(2, 1), 0.0) == pytest.approx((50 - 19) / 98)


def test_no_run_is_longer_than_it_should_be_nor_shorter_than_one_that_says_something() -> None:
    assert Budget(1.0, Cost(1, 0), until=50.0).take(Cost(1, 0), 0.0) == 1.0
    assert Budget(1.0, Cost(1000, 0), until=50.0).take(Cost(1, 0), 0.0) == SHORTEST_S


def test_what_does_not_fit_does_not_begin() -> None:
    budget = Budget(1.0, Cost(3, 6), until=10.0)
    assert budget.take(Cost(1, 2), 7.8) is not None
    assert budget.take(Cost(1, 2), 7.9) is None
    assert budget.take(Cost(0, 2), 10.0) is None


def test_a_run_of_steps_ends_in_time() -> None:
    step = Cost(1.5, 0.2)
    budget, now = Budget(1.0, Cost(300, 40), until=100.0), 0.0
    for _ in range(200):
        seconds = budget.take(step, now)
        assert seconds is not None
        now += step.fixed_s + step.lengths * seconds
    assert now == pytest.approx(100.0)
