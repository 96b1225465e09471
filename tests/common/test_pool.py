from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.pool import HighWater, PoolSize

counts = st.integers(0, 10_000)


def sizes() -> st.SearchStrategy[PoolSize]:
    return st.tuples(st.integers(0, 64), st.integers(0, 4096)).map(
        lambda pair: PoolSize(min(pair), max(pair))
    )


def test_the_mark_is_the_largest_of_the_last_while() -> None:
    mark = HighWater(10.0)
    assert mark.observe(5, 100.0) == 5
    assert mark.observe(2, 101.0) == 5
    assert mark.observe(2, 109.9) == 5
    assert mark.observe(2, 110.0) == 5  # the bucket before counts still
    assert mark.observe(1, 120.0) == 2
    assert mark.observe(9, 120.0) == 9


def test_the_mark_forgets_after_a_long_silence() -> None:
    mark = HighWater(10.0)
    mark.observe(50, 0.0)
    assert mark.observe(1, 1000.0) == 1


@given(st.lists(st.tuples(st.floats(0, 1), counts), min_size=1, max_size=100))
def test_a_mark_looked_at_often_covers_linger_and_not_much_more_than_twice_that(
    steps: list[tuple[float, int]],
) -> None:
    linger_s, now = 5.0, 1000.0
    mark, seen = HighWater(linger_s), []
    for step_s, value in steps:
        now += step_s
        seen.append((now, value))
        result = mark.observe(value, now)
        recent = [each for at, each in seen if now - at < linger_s]
        remembered = [each for at, each in seen if now - at <= 2 * (linger_s + 1)]
        assert max(recent) <= result <= max(remembered)


def test_an_opener_keeps_half_of_the_minimum_ready_beyond_what_is_used() -> None:
    size = PoolSize(8, 64)
    assert [size.for_opener(busy, 0) for busy in (0, 1, 4, 5, 20, 64)] == [8, 8, 8, 9, 24, 64]
    assert size.for_opener(8, 10) == 22


def test_one_stream_after_the_other_never_asks_for_more_than_the_minimum() -> None:
    assert {PoolSize(minimum, 64).for_opener(1, 0) for minimum in (2, 3, 8)} == {2, 3, 8}


@given(sizes(), counts, counts)
def test_an_opener_stays_within_its_bounds(size: PoolSize, busy: int, waiting: int) -> None:
    wanted = size.for_opener(busy, waiting)
    assert size.minimum <= wanted <= size.limit
    assert wanted == size.limit or wanted >= busy + waiting


def test_an_acceptor_keeps_its_minimum_pending_and_follows_the_backlog() -> None:
    size = PoolSize(8, 64)
    assert size.for_acceptor(0, 0) == 8
    assert size.for_acceptor(30, 20) == 20
    assert size.for_acceptor(60, 20) == 4
    assert size.for_acceptor(64, 20) == 0


@given(sizes(), counts, counts)
def test_an_acceptor_never_exceeds_its_limit(size: PoolSize, channels: int, backlog: int) -> None:
    wanted = size.for_acceptor(channels, backlog)
    assert wanted >= 0
    assert wanted == 0 or wanted + channels <= size.limit
