import itertools

from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(rng=lambda: 1.0, base_s=0.5, cap_s=3.0)
    assert [backoff.next_delay() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full() -> None:
    shares = itertools.cycle([0.0, 0.5])
    backoff = Backoff(rng=lambda: next(shares), base_s=1.0, cap_s=30.0)
    assert [backoff.next_delay() for _ in range(4)] == [0.0, 1.0, 0.0, 4.0]


def test_reset_begins_again() -> None:
    backoff = Backoff(rng=lambda: 1.0)
    for _ in range(10_000):  # years of a dead relay overflow nothing
        last = backoff.next_delay()
    assert last == 30.0
    backoff.reset()
    assert backoff.next_delay() == 0.5


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 100), st.floats(0.01, 100))
def test_no_delay_leaves_its_bounds(share: float, base_s: float, cap_s: float) -> None:
    backoff = Backoff(rng=lambda: share, base_s=base_s, cap_s=cap_s)
    assert all(0 <= backoff.next_delay() <= cap_s for _ in range(12))
