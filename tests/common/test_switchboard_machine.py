"""The pool of channels against what its callers and channels may see of it, in any order of events.

Real switchboard, lines, proofs and accounts; channels, callers and the clock are played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import cast
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common import frames
from common.joined import Joined
from common.line import Account, Line
from common.outcome import Outcome
from common.proof import PROOF_DEADLINE_S, Proof
from common.switchboard import FRESH_S, Switchboard
from tests.common.played_pool import Clock, FakeCaller, FakeChannel, fake

WAIT_S = 4.0
INSTANCES = (b"a" * 16, b"b" * 16)


class Pool(RuleBasedStateMachine):
    """What is said of the pool here is taken from what it has promised, not from how it works."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.counts = SimpleNamespace(
            proofs_asked=0, proofs_failed=0, channels_opened=0, channels_closed=0
        )
        self.waits = 0
        with mock.patch("asyncio.get_running_loop", return_value=self.clock):
            self.board = Switchboard(
                wait_s=WAIT_S,
                why_none=lambda: "nobody there",
                on_wait=self.on_wait,
                counts=self.counts,
            )
        self.accounts = [Account(10.0, lambda: None) for _ in range(2)]
        self.lines: list[Line] = []
        self.callers: list[FakeCaller] = []
        self.queue: list[FakeCaller] = []
        self.last_used: dict[Line, int] = {}
        self.uses = count()
        self.numbers = count()
        self.stopping = False

    def on_wait(self) -> None:
        self.waits += 1

    # What can be seen

    @property
    def living(self) -> list[Line]:
        return [each for each in self.lines if not fake(each).closed]

    def proving(self, line: Line) -> FakeCaller | None:
        if not isinstance(fake(line).handler, Proof) or fake(line).closed:
            return None
        asked = fake(line).written[-1]
        return next(each for each in self.callers if each.request() == asked)

    def streaming(self, line: Line) -> FakeCaller | None:
        handler = fake(line).handler
        living = isinstance(handler, FakeCaller) and handler.streaming and not fake(line).closed
        return handler if living else None

    def of(self, test: Callable[[Line], object]) -> list[Line]:
        return [each for each in self.living if test(each)]

    def resting(self, line: Line) -> bool:
        return fake(line).handler is line and line._resting

    def idle(self, line: Line) -> bool:
        return fake(line).handler is line and not line._resting

    def load(self) -> Counter[bytes]:
        held = self.of(lambda each: not self.idle(each))
        return Counter(each.instance for each in held)

    def line_of(self, caller: FakeCaller) -> Line | None:
        return next(
            (each for each in self.living if caller in (self.proving(each), self.streaming(each))),
            None,
        )

    def settle(self) -> None:
        """See what the step has changed; check that nobody was passed over."""
        self.clock.turn()
        self.queue = [
            each
            for each in self.queue
            if not (each.events or each.cancelled or self.line_of(each) is not None)
        ]
        for each in self.callers:
            lost = not (each.events or each.cancelled or self.line_of(each) or each in self.queue)
            if lost:  # its channel was dead: it waits again, behind the others
                self.queue.append(each)
        for line in self.living:
            if self.idle(line):
                self.last_used.setdefault(line, next(self.uses))
            else:
                self.last_used.pop(line, None)

    # What happens

    @rule(account=st.integers(0, 1), instance=st.sampled_from(INSTANCES))
    def add(self, account: int, instance: bytes) -> None:
        served = [each for each in self.queue if not each.hung_up][:1]
        passed = self.queue[: self.queue.index(served[0])] if served else list(self.queue)
        joined = cast(
            "Joined",
            SimpleNamespace(session=None, partner=bytes(32), instance=instance, heartbeat_s=1.0),
        )
        with mock.patch("common.line.Channel", FakeChannel):
            line = self.board.add(self.accounts[account], joined)
        self.lines.append(line)
        assert fake(line).closed == self.stopping
        self.check_served(line, served, passed)
        self.settle()

    def check_served(self, line: Line, served: list[FakeCaller], passed: list[FakeCaller]) -> None:
        """Check that a channel that has become free has gone to the first who waits for it."""
        if self.stopping:
            return
        assert all(each.outcome is Outcome.RESET_BY_SOURCE for each in passed)
        if served:
            assert self.line_of(served[0]) is line
        else:
            assert self.idle(line)

    @rule(wait_s=st.sampled_from([None, 0.5, 30.0]), hung_up=st.sampled_from([False] * 9 + [True]))
    def open(self, wait_s: float | None, hung_up: bool) -> None:
        idle, load = self.of(self.idle), self.load()
        caller = FakeCaller(next(self.numbers), self.clock, WAIT_S if wait_s is None else wait_s)
        caller.hung_up = hung_up
        self.callers.append(caller)
        waits = self.waits
        broken = {each for each in idle if fake(each).broken}
        fresh = {each for each in idle if self.clock.now - fake(each).heard_at < FRESH_S}
        self.board.open(caller, wait_s)
        line = self.line_of(caller)
        if hung_up or self.stopping:
            assert caller.outcome is (Outcome.RESET_BY_SOURCE if hung_up else Outcome.STOPPED)
        elif not idle:
            assert not caller.events
            assert self.waits == waits + 1
            self.queue.append(caller)
        elif line is None:  # the channel was dead
            assert broken
        else:
            least = min(load[each.instance] for each in idle)
            assert load[line.instance] == least
            alike = [each for each in idle if each.instance == line.instance]
            assert line is max(alike, key=self.last_used.__getitem__)
            assert caller.streaming == (line in fresh)
        self.settle()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.queue)).hung_up = True

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), by_search=st.booleans())
    def cancel(self, data: st.DataObject, by_search: bool) -> None:
        caller = data.draw(st.sampled_from(self.queue))
        if by_search:
            meant = [each for each in self.queue if each.number >= caller.number]
            assert self.board.release(lambda each: cast("FakeCaller", each) in meant) == meant
        else:
            meant = [caller]
            self.board.cancel(caller)
            self.board.cancel(caller)
        for each in meant:
            each.cancelled = True
        self.settle()

    @precondition(lambda self: self.of(self.streaming))
    @rule(data=st.data(), cut=st.booleans())
    def end_stream(self, data: st.DataObject, cut: bool) -> None:
        line = data.draw(st.sampled_from(self.of(self.streaming)))
        caller = self.streaming(line)
        assert caller is not None
        if cut:
            fake(line).abort()
        caller.end()
        assert fake(line).closed == cut
        assert cut or self.resting(line)
        self.settle()

    @precondition(lambda self: self.of(self.resting))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(self.of(self.resting)))
        served = [each for each in self.queue if not each.hung_up][:1]
        passed = self.queue[: self.queue.index(served[0])] if served else list(self.queue)
        retired = fake(line).retired
        broken = fake(line).broken
        line.on_frame(frames.DONE, b"")
        if retired:
            assert fake(line).closed
        elif not broken:
            self.check_served(line, served, passed)
        self.settle()

    @precondition(lambda self: self.of(self.proving))
    @rule(data=st.data())
    def pong(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(self.of(self.proving)))
        caller = self.proving(line)
        assert caller is not None
        fake(line).heard_at = self.clock.now
        fake(line).handler.on_frame(frames.PONG, b"")
        assert self.streaming(line) is caller
        self.settle()

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(self.living))
        fake(line).lose("cut")
        self.settle()
        assert line not in self.accounts[0].lines | self.accounts[1].lines

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def break_silently(self, data: st.DataObject) -> None:
        fake(data.draw(st.sampled_from(self.living))).broken = True

    @precondition(lambda self: self.of(lambda each: self.idle(each) or self.resting(each)))
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        line = data.draw(
            st.sampled_from(self.of(lambda each: self.idle(each) or self.resting(each)))
        )
        idle = self.idle(line)
        line.on_frame(frames.GOAWAY, b"")
        assert fake(line).closed == idle
        assert fake(line).retired
        self.settle()

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        fake(data.draw(st.sampled_from(self.living))).heard_at = self.clock.now

    @rule(seconds=st.sampled_from([0.25, 1.0, PROOF_DEADLINE_S, FRESH_S, 31.0]))
    def pass_time(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:  # in steps, so that what is seen is seen in order
            self.clock.advance(min(0.25, end - self.clock.now))
            self.settle()

    @rule(account=st.integers(0, 1), wanted=st.integers(0, 3))
    def shrink(self, account: int, wanted: int) -> None:
        its = self.accounts[account]
        idle = [each for each in its.lines if self.idle(each)]
        before = len(its.lines)
        self.board.shrink(its, wanted)
        assert len(its.lines) >= min(before, wanted)
        assert all(fake(each).closed == (each not in its.lines) for each in idle)
        self.settle()

    @precondition(lambda self: not self.stopping and len(self.callers) > 3)
    @rule(grace=st.booleans())
    def stop(self, grace: bool) -> None:
        waiting = list(self.queue)
        for line in self.of(self.idle):
            self.board.retire(line)
        self.board.stop()
        self.stopping = True
        for each in waiting:
            assert each.outcome is Outcome.STOPPED
        if not grace:
            self.board.abort(self.accounts)
            self.settle()
            assert not self.living
        self.settle()

    # What holds

    @invariant()
    def nobody_waits_beside_an_idle_channel(self) -> None:
        assert self.board.waiting == len(self.queue)
        assert self.board.idle == len(self.of(self.idle))
        assert not (self.board.waiting and self.board.idle)

    @invariant()
    def everybody_is_somewhere_once(self) -> None:
        for each in self.callers:
            assert each.events in ([], ["failed"], ["began"], ["began", "ended"])
            if each.outcome is Outcome.NO_CHANNEL:
                assert self.clock.now >= each.deadline
            if not each.events and not each.cancelled:
                assert (each in self.queue) != (self.line_of(each) is not None)
            if each in self.queue:
                assert self.clock.now <= max(each.deadline, each.accepted_at)

    @invariant()
    def the_books_are_right(self) -> None:
        proving, streaming = self.of(self.proving), self.of(self.streaming)
        assert self.board.busy == len(proving) + len(streaming)
        for account in self.accounts:
            its = [each for each in self.living if each.account is account]
            assert account.lines == set(its)
            assert account.busy == sum(not self.idle(each) for each in its)
        assert self.counts.channels_opened - self.counts.channels_closed == len(self.living)
        assert dict(self.board._idle._streams) == self.load()

    @invariant()
    def a_drain_ends_with_the_last_stream(self) -> None:
        held = self.of(lambda each: not self.idle(each))
        assert self.board._quiet.is_set() == (self.stopping and not held)

    def teardown(self) -> None:
        """Whoever still waits is told in the end, and no timer of anybody's is left."""
        self.clock.advance(1000.0)
        self.settle()
        assert not self.queue
        for line in list(self.living):
            fake(line).lose("over")
        self.clock.advance(1000.0)
        self.settle()
        assert not self.living
        assert (self.board.busy, self.board.idle, self.board.waiting) == (0, 0, 0)
        assert all(timer.cancelled for _, _, timer in self.clock.timers)
        assert not self.board._deadlines


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
