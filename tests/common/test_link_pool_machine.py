"""The pool of links against its promises, in any order of what relay, partners and owner do.

The real pool on a real loop whose clock stands still between the steps; logins, links and joiners
are played.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.addresses import HostPort
from common.backoff import Backoff
from common.errors import LinkLost
from common.link_pool import BAD_JOINS, MAX_DIALS, STUCK_S, URGENT_DELAY_S, LinkPool
from common.wire import Paired

LONGEST_DELAY_S = 8.0
TURNS = 12
"""Turns of the loop after which nothing more happens by itself."""


class Clocked(asyncio.SelectorEventLoop):
    """A loop whose clock is moved by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class PlayedLink:
    heartbeat_s = 7.0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.called: asyncio.Future[Paired] = loop.create_future()
        self.closed = 0

    async def wait(self) -> Paired:
        return await self.called

    def close(self) -> None:
        self.closed += 1


class Links(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = Clocked()
        self.dials: list[asyncio.Future[PlayedLink]] = []
        self.pending: list[PlayedLink] = []
        self.joins: dict[PlayedLink, asyncio.Future[None]] = {}
        self.began: dict[asyncio.Future[PlayedLink], float] = {}
        self.well_at = 0.0
        self.wanted = 0
        self.urgent = False
        self.goaways = self.logins = self.failures = self.bad_joins = 0
        self.troubled = self.welcomed = self.stopped = False
        self.on_goaway: Any = None
        self.pool = LinkPool(
            HostPort("relay", 1),
            cast("Any", None),
            cast("Any", self),
            wanted=lambda: self.wanted,
            on_goaway=self.heard,
            urgent=lambda: self.urgent,
            backoff=Backoff(rng=lambda: 0.999, base_s=1.0, cap_s=LONGEST_DELAY_S),
        )
        self.patch = mock.patch("common.link_pool.login", self.login)
        self.patch.start()
        self.task = self.loop.create_task(self.pool.run())
        self.settle()

    # What the pool uses

    purpose = "pair"

    def heard(self) -> None:
        self.goaways += 1

    async def login(self, relay: HostPort, client: object, goaway: Any, purpose: str) -> PlayedLink:
        assert (str(relay), purpose) == ("relay:1", "pair")
        if self.slow:  # what one is told, the others would be too
            assert all(self.loop.now >= self.began[each] + STUCK_S for each in self.dials)
        assert not self.stopped
        self.on_goaway = goaway
        dial: asyncio.Future[PlayedLink] = self.loop.create_future()
        self.dials.append(dial)
        self.began[dial] = self.loop.now
        assert self.slow or len(self.dials) <= MAX_DIALS
        return await dial

    async def join(self, link: PlayedLink, call: Paired) -> None:
        assert not link.closed
        self.joins[link] = self.loop.create_future()
        await self.joins[link]

    # Helpers

    @property
    def slow(self) -> bool:
        """Whether one link at a time is dialled."""
        return self.troubled or not self.welcomed or self.bad_joins > BAD_JOINS

    def settle(self, act: Callable[[], None] = lambda: None) -> None:
        """Act, and let the loop turn until nothing more happens by itself."""

        async def turns() -> None:
            act()
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        self.pending = [each for each in self.pending if not each.closed]

    def end(self) -> None:
        self.stopped = True
        self.settle(self.pool.stop)

    # What happens

    @rule(wanted=st.sampled_from([0, 1, 2, 3, 5, 40]))
    def want(self, wanted: int) -> None:
        self.wanted = wanted
        self.pool.poke()
        self.settle()

    @precondition(lambda self: self.dials)
    @rule(every=st.booleans())
    def welcome(self, every: bool) -> None:
        chosen = list(self.dials) if every else self.dials[:1]
        for dial in chosen:
            self.dials.remove(dial)
            link = PlayedLink(self.loop)
            self.pending.append(link)
            dial.set_result(link)
            self.logins += 1
            self.well_at = self.loop.now
            self.welcomed, self.troubled = True, False
        self.settle()
        assert self.pool.heartbeat_s == PlayedLink.heartbeat_s

    @precondition(lambda self: self.dials)
    @rule()
    def refuse(self) -> None:
        self.failures += 1
        dial = self.dials.pop(0)
        if self.began[dial] >= self.well_at:  # another has found the relay well since
            self.troubled = True
        dial.set_exception(LinkLost("cannot reach the relay"))
        self.settle()

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.pending))
        self.failures += 1
        self.troubled = True
        link.called.set_exception(LinkLost("it ended"))
        self.settle()
        assert link.closed == 1

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        self.call_one(data.draw(st.sampled_from(self.pending)))

    def call_one(self, link: PlayedLink) -> None:
        self.pending.remove(link)
        link.called.set_result(Paired(bytes(32), bytes(16), opener=True, backlog=0))
        self.settle()
        assert link in self.joins
        assert not link.closed

    @precondition(lambda self: self.joins)
    @rule(data=st.data(), fails=st.booleans())
    def joined(self, data: st.DataObject, fails: bool) -> None:
        self.join_one(data.draw(st.sampled_from(list(self.joins))), fails=fails)

    def join_one(self, link: PlayedLink, *, fails: bool) -> None:
        done = self.joins.pop(link)
        if fails:
            self.failures += 1
            self.bad_joins += 1
            done.set_exception(LinkLost("the partner has gone"))
        else:
            self.bad_joins = 0
            done.set_result(None)
        self.settle()

    @precondition(lambda self: self.wanted and not self.stopped)
    @rule(times=st.integers(1, 4))
    def refuse_for_long(self, times: int) -> None:
        """The delays grow."""
        self.urgent = False
        for _ in range(times):
            self.loop.now += LONGEST_DELAY_S
            self.settle()
            if self.dials:
                self.refuse()

    @precondition(lambda self: self.wanted and not self.stopped)
    @rule(times=st.integers(BAD_JOINS, BAD_JOINS + 2))
    def only_bad_partners(self, times: int) -> None:
        """The relay pairs, and nothing ever comes of it."""
        for _ in range(times):
            self.loop.now += LONGEST_DELAY_S
            self.settle()
            if self.dials:
                self.welcome(every=False)
            if self.pending:
                link = self.pending[0]
                self.call_one(link)
                self.join_one(link, fails=True)
        self.want(self.wanted + 3)

    @precondition(lambda self: self.on_goaway)
    @rule()
    def hear_goaway(self) -> None:
        before = self.goaways
        self.on_goaway()
        assert self.goaways == before + 1

    @rule(urgent=st.booleans())
    def hurry(self, urgent: bool) -> None:
        self.urgent = urgent
        self.pool.poke()
        self.settle()

    @rule(seconds=st.sampled_from([0.3, URGENT_DELAY_S, LONGEST_DELAY_S + 0.1]))
    def pass_time(self, seconds: float) -> None:
        lacking = not self.stopped and self.pool.links < self.wanted
        self.loop.now += seconds
        self.settle()
        if lacking and seconds > LONGEST_DELAY_S:
            assert self.dials, "nothing is dialled, however long it is"
        if lacking and self.urgent and seconds >= URGENT_DELAY_S:
            assert self.dials, "a source waits, and nothing is dialled"

    @precondition(lambda self: self.pending and not self.stopped)
    @rule()
    def renew(self) -> None:
        before = list(self.pending)
        self.settle(self.pool.renew)
        assert [each.closed for each in before] == [1] * len(before)

    @precondition(lambda self: self.logins + self.failures > 6)
    @rule()
    def stop(self) -> None:
        self.end()

    # What holds

    @invariant()
    def the_books_are_right(self) -> None:
        assert self.pool.links == len(self.dials) + len(self.pending)
        assert self.pool.joining == len(self.joins)
        assert (self.pool.logins, self.pool.failures) == (self.logins, self.failures)
        assert self.pool.healthy == (not self.troubled)
        assert self.pool.first_login.is_set() == self.welcomed

    @invariant()
    def there_are_as_many_links_as_are_wanted(self) -> None:
        if self.stopped:
            assert not self.pending
        elif not self.slow:
            if self.pool.links > self.wanted:  # a login that has begun is not broken off
                assert not self.pending
            else:
                assert self.pool.links == self.wanted or len(self.dials) >= MAX_DIALS
        elif not self.troubled and not self.welcomed and self.wanted:
            assert self.dials

    @invariant()
    def it_runs_until_it_is_stopped_and_all_is_settled(self) -> None:
        over = self.stopped and not self.dials and not self.joins
        if self.task.done():
            self.task.result()
        assert self.task.done() == over

    def teardown(self) -> None:
        try:
            self.end()
            for dial in self.dials:
                dial.set_exception(LinkLost("over"))
            for join in self.joins.values():
                join.set_result(None)
            self.settle()
            self.task.result()
            assert (self.pool.links, self.pool.joining) == (0, 0)
        finally:
            self.patch.stop()
            self.task.cancel()
            self.settle()
            self.loop.close()


TestLinks = Links.TestCase
TestLinks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
