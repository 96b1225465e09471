from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.flow_table import FlowTable

MOST = 4
IDLE_S = 5.0


def test_a_source_keeps_its_number_and_numbers_are_not_used_twice() -> None:
    table: FlowTable[str] = FlowTable(MOST)
    assert table.number("a", 0) == (1, True, 0)
    assert table.number("b", 0) == (2, True, 0)
    assert table.number("a", 1) == (1, False, 0)
    assert table.remove(1)
    assert not table.remove(1)
    assert table.number("a", 2) == (3, True, 0)


def test_the_flow_idle_for_longest_goes_when_the_table_is_full() -> None:
    table: FlowTable[str] = FlowTable(2)
    table.number("a", 0)
    table.number("b", 1)
    assert table.use(1, 2) == "a"  # a reply counts as well
    assert table.number("c", 3) == (3, True, 2)
    assert table.use(2, 3) is None


def test_10_000_sources_stay_bounded() -> None:
    table: FlowTable[int] = FlowTable()
    evicted = [table.number(source, 0)[2] for source in range(10_000)]
    assert len(table) == 1024
    assert [each for each in evicted if each] == list(range(1, 10_000 - 1024 + 1))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["number", "use", "remove", "expire"]),
            st.integers(1, 12),
            st.floats(0, 4),
        )
    )
)
def test_it_does_as_a_list_of_flows_does(steps: list[tuple[str, int, float]]) -> None:
    """The model: (number, source, last use), the longest idle first."""
    table: FlowTable[int] = FlowTable(MOST)
    model: list[tuple[int, int, float]] = []
    now, last = 0.0, 0
    for step, value, later in steps:
        now += later
        if step == "number":
            known = [each for each in model if each[1] == value]
            if known:
                model.remove(known[0])
                model.append((known[0][0], value, now))
                assert table.number(value, now) == (known[0][0], False, 0)
            else:
                gone = model.pop(0)[0] if len(model) == MOST else 0
                last += 1
                model.append((last, value, now))
                assert table.number(value, now) == (last, True, gone)
        elif step == "use":
            known = [each for each in model if each[0] == value]
            if known:
                model.remove(known[0])
                model.append((value, known[0][1], now))
            assert table.use(value, now) == (known[0][1] if known else None)
        elif step == "remove":
            known = [each for each in model if each[0] == value]
            model = [each for each in model if each[0] != value]
            assert table.remove(value) == bool(known)
        else:
            over = [each[0] for each in model if now - each[2] >= IDLE_S]
            model = [each for each in model if each[0] not in over]
            assert table.expire(now, IDLE_S) == over
        assert len(table) == len(model) <= MOST
