"""What comes of the pairs that a relay makes, and what the pool thinks of it."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from common import link_pool as module
from common.errors import PeerError
from common.frames import INNER_ALPN
from common.link_pool import BAD_JOINS
from common.tls import acceptor_context, handshake, wrap
from common.wire import GoAway, Paired
from tests.common.fake_relay import Session
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.pool_owner import running
from tests.common.sessions import BOB, EVE


@on_both_loops
def test_a_partner_that_is_not_trusted_is_not_joined(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            await session.send(Paired(EVE.public.raw, bytes(16), True, 0))
            while True:
                await session.receive()

        async with running(script) as (owner, relay):
            await until(lambda: owner.pool.failures >= 1, "refused")
            await until(lambda: any("lost" not in str(e) for e in relay.errors), "closed")
            assert owner.joined == []

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("lie", ["key", "part"])
def test_a_relay_that_lies_about_the_partner_is_found_out(kind: str, lie: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            if lie == "part":
                (await session.pair(opener=False)).close()
                return
            raw = await session.pair(BOB)  # announced Bob, and Eve answers
            inner = wrap(acceptor_context(EVE), raw, server=True)
            try:
                await handshake(inner, INNER_ALPN)
            finally:
                inner.close()

        async with running(script, partners=(BOB, EVE)) as (owner, _):
            await until(lambda: owner.pool.failures >= 2, "found out")
            await until(lambda: owner.pool._bad_joins >= 2, "counted")
            assert owner.joined == []

    run(kind, main)


@on_both_loops
def test_pairs_that_come_to_nothing_slow_the_pool_down(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "URGENT_DELAY_S", 0.01)

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            (await session.pair()).close()

        async with running(script, 4, base_s=3600) as (owner, relay):
            await until(lambda: owner.pool._bad_joins > BAD_JOINS, "many bad joins")
            await until(lambda: owner.pool.links + owner.pool.joining == 0, "settled")
            await turns(200)
            links = relay.links
            await turns(200)
            assert relay.links == links  # not one more until the delay is over
            assert BAD_JOINS < links <= BAD_JOINS + 1 + 2 * 4

    run(kind, main)


@on_both_loops
def test_a_partner_that_does_not_answer_has_a_deadline(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.pair_joiner.INNER_DEADLINE_S", 0.02)

    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            if relay.links > 1:
                await wait_forever.wait()
            with await session.pair():
                await until(lambda: owner.pool._bad_joins, "given up")

        wait_forever = anyio.Event()
        async with running(script) as (owner, relay):
            await until(lambda: owner.pool._bad_joins == 1, "given up")

    run(kind, main)


@on_both_loops
def test_goaway_is_passed_on(kind: str) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()
            await session.send(GoAway())
            with contextlib.suppress(PeerError):
                while True:
                    await session.receive()

        async with running(script, 2) as (owner, _):
            await until(lambda: owner.goaways == 2, "told")

    run(kind, main)
