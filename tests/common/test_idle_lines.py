from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.idle_lines import IdleLines

PARTNERS = [bytes([number]) * 16 for number in range(3)]


@dataclass(frozen=True)
class FakeLine:
    number: int
    instance: bytes


ONE, TWO, THREE = FakeLine(1, PARTNERS[0]), FakeLine(2, PARTNERS[0]), FakeLine(3, PARTNERS[1])


def test_the_line_used_last_is_used_again() -> None:
    idle: IdleLines[FakeLine] = IdleLines()
    idle.put(ONE)
    idle.put(TWO)
    assert idle.take() == TWO
    idle.put(TWO)
    idle.discard(TWO)
    idle.discard(TWO)
    assert [idle.take(), idle.take()] == [ONE, None]


def test_the_partner_with_the_fewest_streams_is_asked() -> None:
    idle: IdleLines[FakeLine] = IdleLines()
    for line in (ONE, TWO, THREE):
        idle.put(line)
    idle.stream_began(PARTNERS[0])
    assert idle.take() == THREE
    idle.stream_ended(PARTNERS[0])
    assert idle.take() == TWO


class Lines(RuleBasedStateMachine):
    """Against a list in the order of last use, and a list of streams."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: IdleLines[FakeLine] = IdleLines()
        self.idle: list[FakeLine] = []
        self.streams: list[bytes] = []

    @rule(number=st.integers(0, 20))
    def put(self, number: int) -> None:
        line = FakeLine(number, PARTNERS[number % 3])
        if line not in self.idle:
            self.lines.put(line)
            self.idle.append(line)

    @rule()
    def take(self) -> None:
        line = self.lines.take()
        if not self.idle:
            assert line is None
            return
        assert line is not None
        load = {each.instance: self.streams.count(each.instance) for each in self.idle}
        assert load[line.instance] == min(load.values())
        assert line == [each for each in self.idle if each.instance == line.instance][-1]
        self.idle.remove(line)

    @rule(number=st.integers(0, 20))
    def discard(self, number: int) -> None:
        line = FakeLine(number, PARTNERS[number % 3])
        self.lines.discard(line)
        if line in self.idle:
            self.idle.remove(line)
        assert line not in self.lines

    @rule(partner=st.sampled_from(PARTNERS))
    def stream_began(self, partner: bytes) -> None:
        self.lines.stream_began(partner)
        self.streams.append(partner)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def stream_ended(self, data: st.DataObject) -> None:
        partner = data.draw(st.sampled_from(self.streams))
        self.lines.stream_ended(partner)
        self.streams.remove(partner)

    @invariant()
    def all_are_there(self) -> None:
        assert len(self.lines) == len(self.idle)
        assert all(each in self.lines for each in self.idle)


TestLines = Lines.TestCase
TestLines.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
