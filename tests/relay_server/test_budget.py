"""How many visitors there may be: against a simple model."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.refusals import Refusal
from relay_server.public.budget import PER_EXPOSURE, PER_SOURCE, Budget


def code(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.code


def test_neither_one_source_nor_one_exposure_keeps_the_others_out() -> None:
    budget = Budget[str](in_all=PER_EXPOSURE + 1)
    for _ in range(PER_SOURCE):
        assert budget.admit("web", "192.0.2.1") is None
    refusal = budget.admit("web", "192.0.2.1")
    assert refusal == Refusal("busy-source", f"{PER_SOURCE} visitors from 192.0.2.1")
    for number in range(PER_EXPOSURE - PER_SOURCE):
        assert budget.admit("web", f"10.0.{number // 256}.{number % 256}") is None
    refusal = budget.admit("web", "192.0.2.2")
    assert refusal == Refusal("busy-exposure", f"{PER_EXPOSURE} visitors of this exposure")
    assert budget.admit("ssh", "192.0.2.1") is None
    refusal = budget.admit("ssh", "192.0.2.2")
    assert refusal is not None
    assert refusal.code == "too-many-visitors"
    assert "--max-visitors" in refusal.detail


@pytest.mark.parametrize("in_all", [0, 1])
def test_who_leaves_makes_room(in_all: int) -> None:
    budget = Budget[int](in_all)
    for _ in range(3):
        assert (budget.admit(1, "a") is None) == bool(in_all)
        assert code(budget.admit(2, "b")) == "too-many-visitors"
        if in_all:
            budget.leave(1, "a")
    assert budget.total == 0


class Visitors(RuleBasedStateMachine):
    IN_ALL, PER_EXPOSURE, PER_SOURCE = 6, 4, 2

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget[int](self.IN_ALL, self.PER_EXPOSURE, self.PER_SOURCE)
        self.inside: list[tuple[int, str]] = []

    @rule(exposure=st.integers(1, 3), source=st.sampled_from("abc"))
    def come(self, exposure: int, source: str) -> None:
        expected = None
        if len(self.inside) >= self.IN_ALL:
            expected = "too-many-visitors"
        elif Counter(each[0] for each in self.inside)[exposure] >= self.PER_EXPOSURE:
            expected = "busy-exposure"
        elif self.inside.count((exposure, source)) >= self.PER_SOURCE:
            expected = "busy-source"
        assert code(self.budget.admit(exposure, source)) == expected
        if expected is None:
            self.inside.append((exposure, source))

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.inside:
            at = data.draw(st.integers(0, len(self.inside) - 1))
            self.budget.leave(*self.inside.pop(at))

    @invariant()
    def nothing_leaks(self) -> None:
        assert self.budget.total == len(self.inside)
        assert dict(self.budget._of) == Counter(each[0] for each in self.inside)
        assert dict(self.budget._from) == Counter(self.inside)


TestVisitors = Visitors.TestCase
TestVisitors.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
