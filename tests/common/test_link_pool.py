"""A pool against a relay that plays a script."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from common import link_pool as module
from common.backoff import Backoff
from common.link_pool import LinkPool
from common.pair_joiner import PairJoiner
from common.tls import opener_context
from common.wire import Denied
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.pool_owner import Owner, running, wait
from tests.common.sessions import ANN, BOB


@on_both_loops
def test_links_are_kept_pending_and_let_go(kind: str) -> None:
    async def main() -> None:
        async with running(wait, 5) as (owner, relay):
            await until(lambda: owner.pool.logins == 5, "five logins")
            assert (owner.pool.links, owner.pool.healthy) == (5, True)
            assert owner.pool.heartbeat_s == 5.0
            owner.wanted = 2
            owner.pool.poke()
            await until(lambda: relay.open == 2, "three closed")
            owner.wanted = 4
            owner.pool.poke()
            await until(lambda: owner.pool.logins == 7, "two more")
            assert owner.pool.failures == 0
            owner.pool.stop()
            await until(lambda: relay.open == 0, "all closed")

    run(kind, main)


@on_both_loops
def test_the_newest_links_are_let_go(kind: str) -> None:
    """The relay pairs the oldest; its PAIRED may be on the way to us just now."""

    async def main() -> None:
        welcome: list[Session] = []
        ended: list[int] = []

        async def script(session: Session) -> None:
            await session.welcome()
            welcome.append(session)
            try:
                while True:
                    await session.receive()
            finally:
                ended.append(welcome.index(session))

        async with running(script, 2) as (owner, _):
            await until(lambda: owner.pool.logins == 2, "two logins")
            owner.wanted = 5
            owner.pool.poke()
            await until(lambda: owner.pool.logins == 5, "three more")
            owner.wanted = 2
            owner.pool.poke()
            await until(lambda: len(ended) == 3, "three closed")
            assert sorted(ended) == [2, 3, 4]

    run(kind, main)


@on_both_loops
def test_a_pair_becomes_an_inner_session_and_is_replaced_at_once(kind: str) -> None:
    async def main() -> None:
        hold = anyio.Event()

        async def script(session: Session) -> None:
            await session.welcome()
            if relay.links == 1:
                await hold.wait()
                inner = await session.join(backlog=7)
                inner.close()
            else:
                while True:
                    await session.receive()

        async with running(script) as (owner, relay):
            await until(lambda: owner.pool.logins == 1, "pending")
            hold.set()
            await until(lambda: owner.joined, "joined")
            await until(lambda: owner.pool.logins == 2, "replaced")
            (joined,) = owner.joined
            assert (joined.partner, joined.instance) == (BOB.public.raw, b"B" * 16)
            assert owner.backlogs == [7]
            assert (owner.pool.links, owner.pool.joining, owner.pool.failures) == (1, 0, 0)

    run(kind, main)


@on_both_loops
def test_a_denial_is_the_trouble_until_it_is_over(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async def script(session: Session) -> None:
            if relay.links > 3:
                await wait(session)
            await session.greeting()
            await session.send(Denied("unknown-key", "who are you?"))

        async with running(script, 3) as (owner, relay):
            await until(lambda: owner.pool.trouble, "trouble")
            assert owner.pool.trouble == "who are you?"
            assert owner.pool.links <= 3
            await until(lambda: owner.pool.logins == 3, "three links in the end")
            assert owner.pool.healthy
            assert owner.pool.failures == 3
        messages = [each.getMessage() for each in caplog.records]
        assert messages.count("relay trouble") == 1  # told when it changes, not at every try
        assert messages.count("relay connected") == 1

    run(kind, main)


@on_both_loops
def test_one_dial_at_a_time_while_there_is_trouble(kind: str) -> None:
    async def main() -> None:
        most = 0

        async def script(session: Session) -> None:
            nonlocal most
            await session.greeting()
            if relay.links > 8:
                most = max(most, relay.open)
            await session.send(Denied("x", "no"))

        async with running(script, 8) as (owner, relay):
            await until(lambda: owner.pool.failures >= 30, "many tries")
            assert most == 1

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("before", [True, False])
def test_a_dial_that_hangs_holds_up_no_other(
    kind: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay falls silent while a dial is under way: at the beginning, or after a good while."""
    monkeypatch.setattr(module, "STUCK_S", 0.05)

    async def main() -> None:
        hung, give_up = asyncio.Event(), asyncio.Event()

        async def script(session: Session) -> None:
            if relay.links == 1 + before:
                hung.set()
                await give_up.wait()
                return
            await session.welcome()
            if before and relay.links == 1:
                await hung.wait()
                return  # lost: now there is trouble, and a dial that hangs
            while True:
                await session.receive()

        async with running(script, 2) as (owner, relay):
            await until(hung.is_set, "a dial hangs")
            await until(lambda: owner.pool.logins == 1 + before, "another one is welcome")
            assert len(owner.pool._dials) == 1
            failures = owner.pool.failures
            give_up.set()
            await until(lambda: owner.pool.logins == 2 + before, "it is replaced")
            assert owner.pool.failures == failures + 1
            assert owner.pool.healthy

    run(kind, main)


@on_both_loops
def test_an_old_dial_that_gets_through_ends_the_pause(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dial hangs, the next is refused, and then the first is welcome after all."""
    monkeypatch.setattr(module, "STUCK_S", 0.05)

    async def main() -> None:
        let_in = asyncio.Event()

        async def script(session: Session) -> None:
            if relay.links == 1:
                await let_in.wait()
            elif not let_in.is_set():
                await session.greeting()
                await session.send(Denied("x", "no"))
                return
            await wait(session)

        async with running(script, 3, base_s=3600) as (owner, relay):
            await until(lambda: owner.pool.failures == 1, "a refusal")
            await turns()
            assert not owner.pool.healthy
            let_in.set()
            await until(lambda: owner.pool.logins == 3, "all are there without a pause")
            assert owner.pool.healthy

    run(kind, main)


@on_both_loops
def test_a_relay_that_is_not_there(kind: str) -> None:
    async def main() -> None:
        gone = FakeRelay(wait)
        await gone.close()
        async with running(wait, address=gone.address) as (owner, _):
            await until(lambda: owner.pool.failures >= 3, "tries")
            assert owner.pool.trouble.startswith(f"cannot reach the relay at {gone.address}: ")
            assert not owner.pool.first_login.is_set()

    run(kind, main)


@on_both_loops
def test_a_source_that_waits_shortens_the_delay(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "URGENT_DELAY_S", 0.01)

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.greeting()
            await session.send(Denied("x", "no"))

        async with running(script, base_s=3600) as (owner, relay):
            for tries in (1, 2, 3):
                await until(lambda: owner.pool.failures == tries, "a try")  # noqa: B023
                await turns()
                assert relay.links == tries
                owner.pool.poke()  # in a calm moment this changes nothing
                await turns()
                assert relay.links == tries
                owner.urgent = True
                owner.pool.poke()
                await until(lambda: owner.pool.failures == tries + 1, "the next try")  # noqa: B023
                owner.urgent = False

    run(kind, main)


@on_both_loops
def test_after_a_stop_in_a_delay_nobody_dials(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "URGENT_DELAY_S", 0.01)

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.greeting()
            await session.send(Denied("x", "no"))

        relay, owner = FakeRelay(script), Owner(1)
        pool = LinkPool(
            relay.address,
            new_client(),
            PairJoiner(
                new_client(),
                opener_context(ANN),
                on_joined=owner.joined.append,
                on_backlog=owner.backlogs.append,
            ),
            wanted=lambda: 1,
            on_goaway=owner.on_goaway,
            urgent=lambda: owner.urgent,
            backoff=Backoff(rng=lambda: 0.999, base_s=3600, cap_s=3600),
        )
        task = asyncio.create_task(pool.run())
        await until(lambda: pool.failures == 1, "a try")
        await turns()
        pool.stop()
        await asyncio.wait_for(task, 10)
        assert relay.links == 1
        await relay.close()

    run(kind, main)
