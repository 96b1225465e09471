import math

from hypothesis import given
from hypothesis import strategies as st

from common.log_budget import OTHERS, LogBudget


def test_a_burst_is_written_and_the_rest_counted() -> None:
    budget = LogBudget(burst=2, window_s=10.0)
    assert [budget.admit("bad", now) for now in (0.0, 0.1, 0.2, 9.9)] == [True, True, False, False]
    assert budget.summaries(9.99) == []
    assert budget.summaries(10.0) == [("bad", 2)]
    assert budget.summaries(20.0) == []


def test_a_new_window_admits_again_and_the_old_one_is_told_at_once() -> None:
    budget = LogBudget(burst=1, window_s=10.0)
    for now in (0.0, 1.0, 2.0):
        budget.admit("bad", now)
    assert budget.admit("bad", 10.0)
    assert not budget.admit("bad", 11.0)
    assert budget.summaries(12.0) == [("bad", 2)]
    assert "bad" in budget
    assert budget.summaries(20.0) == [("bad", 1)]
    assert "bad" not in budget


def test_keys_do_not_share() -> None:
    budget = LogBudget(burst=1)
    assert budget.admit("a", 0.0)
    assert budget.admit("b", 0.0)
    assert not budget.admit("a", 0.0)


def test_the_end_tells_everything() -> None:
    budget = LogBudget(burst=1)
    for _ in range(3):
        budget.admit("bad", 5.0)
    assert budget.summaries(math.inf) == [("bad", 2)]


def test_keys_are_bounded_and_the_excess_is_counted_together() -> None:
    budget = LogBudget(burst=1, window_s=10.0, max_keys=3)
    assert sum(budget.admit(f"peer {n}", 0.0) for n in range(100)) == 4
    assert budget.filed_under("peer 0") == "peer 0"
    assert budget.filed_under("peer 99") == OTHERS
    assert budget.summaries(10.0) == [(OTHERS, 96)]


def test_spent_windows_make_room() -> None:
    budget = LogBudget(burst=1, window_s=10.0, max_keys=2)
    budget.admit("a", 0.0)
    budget.admit("b", 0.0)
    assert budget.admit("c", 11.0)
    assert budget.filed_under("c") == "c"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 30)), max_size=200))
def test_no_line_is_lost_or_told_twice(lines: list[tuple[str, float]]) -> None:
    budget = LogBudget(burst=2, window_s=3.0, max_keys=3)
    admitted = told = 0
    now = 0.0
    for key, step in lines:
        now += step / 10
        admitted += budget.admit(key, now)
        if step < 10:
            told += sum(count for _, count in budget.summaries(now))
    told += sum(count for _, count in budget.summaries(math.inf))
    assert admitted + told == len(lines)
