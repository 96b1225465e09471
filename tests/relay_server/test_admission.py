from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay_server.admission import IN_ALL, PER_SOURCE, Admission, places, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_a_source_is_what_one_site_has(address: str, source: str) -> None:
    assert source_of(address) == source


def test_a_thousand_silent_strangers_do_not_keep_one_that_speaks_out() -> None:
    admission: Admission[int] = Admission()
    admission.admit(0, "a")
    admission.spoke(0, "a")
    evicted = [admission.admit(number, "a") for number in range(1, 1001)]
    assert evicted[: PER_SOURCE - 1] == [None] * (PER_SOURCE - 1)
    assert evicted[PER_SOURCE - 1 :] == list(range(1, 1001 - PER_SOURCE + 1))
    assert len(admission) == PER_SOURCE


def test_a_thousand_that_began_a_handshake_do_not_keep_one_out_that_is_still_silent() -> None:
    """The first byte of an honest client takes a round trip; others may come in the meantime."""
    admission: Admission[int] = Admission()
    for number in range(1000):
        admission.admit(number, "a")
        admission.spoke(number, "a")
    admission.admit(1000, "a")
    for number in range(1001, 1060):
        assert admission.admit(number, "a") != 1000
        admission.spoke(number, "a")


def test_the_largest_source_pays_when_there_are_too_many_in_all() -> None:
    admission: Admission[str] = Admission(per_source=10, in_all=4)
    for name in ("a1", "a2", "a3", "b1"):
        assert admission.admit(name, name[0]) is None
    admission.spoke("a1", "a")
    assert admission.admit("c1", "c") == "a2"
    assert admission.admit("c2", "c") == "a3"
    assert len(admission) == 4


@pytest.mark.parametrize(("limit", "most"), [(1 << 20, IN_ALL), (1024, 256), (3, 1)])
def test_strangers_leave_three_of_four_descriptors(limit: int, most: int) -> None:
    assert places(limit) == most


class Strangers(RuleBasedStateMachine):
    """The admission against a list of strangers in the order of their coming."""

    PER_SOURCE, IN_ALL = 3, 5

    def __init__(self) -> None:
        super().__init__()
        self.admission: Admission[int] = Admission(self.PER_SOURCE, self.IN_ALL)
        self.ids = count()
        self.strangers: dict[int, str] = {}
        self.spoken: list[int] = []  # in the order of speaking
        self.gone: list[tuple[int, str]] = []

    def of(self, source: str) -> list[int]:
        return [each for each, its in self.strangers.items() if its == source]

    def first_to_go(self, source: str) -> int:
        silent = [each for each in self.of(source) if each not in self.spoken]
        speaking = [each for each in self.spoken if self.strangers.get(each) == source]
        return (silent if len(silent) >= len(speaking) else speaking)[0]

    def forget(self, stranger: int) -> None:
        self.gone.append((stranger, self.strangers.pop(stranger)))
        if stranger in self.spoken:
            self.spoken.remove(stranger)

    @rule(source=st.sampled_from("abc"))
    def admit(self, source: str) -> None:
        stranger = next(self.ids)
        evicted = self.admission.admit(stranger, source)
        if len(self.of(source)) >= self.PER_SOURCE:
            assert evicted == self.first_to_go(source)
        elif len(self.strangers) >= self.IN_ALL:
            assert evicted is not None
            loser = self.strangers[evicted]
            assert evicted == self.first_to_go(loser)
            assert all(len(self.of(loser)) >= len(self.of(each)) for each in "abc")
        else:
            assert evicted is None
        if evicted is not None:
            self.forget(evicted)
        self.strangers[stranger] = source

    @precondition(lambda self: self.strangers)
    @rule(data=st.data())
    def speak(self, data: st.DataObject) -> None:
        stranger = data.draw(st.sampled_from(sorted(self.strangers)))
        self.admission.spoke(stranger, self.strangers[stranger])
        if stranger not in self.spoken:
            self.spoken.append(stranger)

    @precondition(lambda self: self.strangers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        stranger = data.draw(st.sampled_from(sorted(self.strangers)))
        self.admission.leave(stranger, self.strangers[stranger])
        self.forget(stranger)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        """One that was evicted is told of it later than it speaks or leaves."""
        stranger, source = data.draw(st.sampled_from(self.gone))
        self.admission.spoke(stranger, source)
        self.admission.leave(stranger, source)

    @invariant()
    def nobody_is_counted_twice_or_forgotten(self) -> None:
        assert len(self.admission) == len(self.strangers) <= self.IN_ALL

    def teardown(self) -> None:
        for stranger, source in self.strangers.items():
            self.admission.leave(stranger, source)
        assert len(self.admission) == 0
        assert not self.admission._sources


TestStrangers = Strangers.TestCase
TestStrangers.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
