"""Asking a relay for exposures: again what is refused, never what another process has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from common import logs
from common.backoff import Backoff
from common.exposure_grammar import parse_exposures
from common.log_budget import LogBudget
from common.wire import Demand, Expose, Exposed, Pong, Unexposed
from reverse_proxy import exposer as module
from reverse_proxy.exposer import TAKEN_OVER, Exposer
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run, turns, until

EXPOSED = dict(enumerate(parse_exposures(["0:8080", "2222:22", "0:53/udp"], ["app:80"]), start=1))


class Bench:
    """An exposer, and a relay whose links a test speaks for."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self._over: dict[Session, asyncio.Event] = {}
        self.changes = 0
        self.relay = FakeRelay(self._serve)
        self.exposer = Exposer(
            self.relay.address,
            new_client("reverse-proxy"),
            EXPOSED,
            7.0,
            Backoff(rng=lambda: 0.0),
            self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def _serve(self, session: Session) -> None:
        hello = await session.welcome()
        assert hello.purpose == "exposures"
        session.heard.clear()
        self.sessions.append(session)
        pump = asyncio.create_task(self._hear(session))
        try:
            await self._over.setdefault(session, asyncio.Event()).wait()
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    @staticmethod
    async def _hear(session: Session) -> None:
        while True:
            await session.receive()

    def drop(self, session: Session) -> None:
        """End a link."""
        self._over.setdefault(session, asyncio.Event()).set()

    async def link(self, number: int) -> Session:
        await until(lambda: len(self.sessions) > number, "the relay is logged in to")
        return self.sessions[number]

    async def asked(self, session: Session, count: int = len(EXPOSED)) -> list[Expose]:
        """Wait for so many wishes, and forget them."""
        await until(lambda: len(wishes(session)) >= count, "the relay is asked")
        found = wishes(session)
        session.heard.clear()
        return found


def wishes(session: Session) -> list[Expose]:
    return [each for each in session.heard if isinstance(each, Expose)]


def played(kind: str, play: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        running = asyncio.create_task(bench.exposer.run())
        try:
            await play(bench)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await bench.relay.close()

    run(kind, main)


@on_both_loops
def test_everything_is_asked_for_and_what_is_public_is_known(kind: str) -> None:
    async def play(bench: Bench) -> None:
        relay = await bench.link(0)
        asked = await bench.asked(relay)
        assert asked == [
            Expose(1, "tcp", "", 0, hold_s=7.0),
            Expose(2, "tcp", "", 2222, hold_s=7.0),
            Expose(3, "udp", "", 0, hold_s=7.0),
            Expose(4, "http", "app", 0, hold_s=7.0),
        ]
        await relay.send(Exposed(1, 4711, ":4711"), Exposed(2, 2222, "198.51.100.1:2222"))
        await relay.send(Exposed(3, 53, ":53/udp"), Unexposed(4, "held", "of another"))
        await until(bench.exposer.answered.is_set, "all is answered")
        # A relay that listens on all addresses is known by the one that was dialled.
        host = bench.relay.address.host
        assert bench.exposer.public == {
            1: f"{host}:4711",
            2: "198.51.100.1:2222",
            3: f"{host}:53/udp",
        }

    played(kind, play)


@on_both_loops
def test_a_port_that_the_relay_chose_is_asked_for_again(kind: str) -> None:
    async def play(bench: Bench) -> None:
        first = await bench.link(0)
        await bench.asked(first)
        await first.send(Exposed(1, 4711, ":4711"), Exposed(3, 1053, ":1053/udp"))
        await until(lambda: len(bench.exposer.public) == 2, "both are public")
        bench.drop(first)
        second = await bench.link(1)
        again = {each.id: each.port for each in await bench.asked(second)}
        assert again == {1: 4711, 2: 2222, 3: 1053, 4: 0}
        assert not bench.exposer.public  # until the relay says so again
        # It has been given away meanwhile: any other will do.
        await second.send(Unexposed(1, "held", "of another"))
        await until(lambda: 1 in bench.exposer._refused, "it is refused")
        bench.drop(second)
        third = await bench.link(2)
        assert {each.id: each.port for each in await bench.asked(third)}[1] == 0

    played(kind, play)


@on_both_loops
def test_what_is_refused_is_asked_for_again_but_not_what_was_taken_over(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def play(bench: Bench) -> None:
        relay = await bench.link(0)
        await bench.asked(relay)
        await relay.send(Exposed(1, 4711, ":4711"), Unexposed(2, "held", "of another"))
        await relay.send(Unexposed(3, TAKEN_OVER, "by another"), Exposed(4, 0, "http://app"))
        await until(bench.exposer.answered.is_set, "all is answered")
        relay.heard.clear()
        assert {each.id for each in await bench.asked(relay, 3)} == {2}
        bench.drop(relay)
        again = await bench.asked(await bench.link(1), 3)
        assert {each.id for each in again[:3]} == {1, 2, 4}

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("said", [Exposed(9, 1, ""), Unexposed(0, "x", ""), Pong()])
def test_a_relay_that_breaks_the_rules_is_dialled_anew(
    kind: str, said: Exposed | Unexposed | Pong
) -> None:
    async def play(bench: Bench) -> None:
        relay = await bench.link(0)
        await bench.asked(relay)
        await relay.send(Exposed(1, 4711, ":4711"), said)
        if isinstance(said, Pong):  # that is allowed
            await until(lambda: bench.exposer.public, "it is public")
            assert len(bench.sessions) == 1
        else:
            await bench.asked(await bench.link(1))
            assert not bench.exposer.public

    played(kind, play)


@on_both_loops
def test_the_need_is_known_and_forgotten_with_the_link(kind: str) -> None:
    async def play(bench: Bench) -> None:
        relay = await bench.link(0)
        await relay.send(Demand(5, 2))
        await until(lambda: bench.exposer.waiting == Demand(5, 2), "the need is known")
        changes = bench.changes
        bench.drop(relay)
        await until(lambda: bench.exposer.waiting == Demand(0, 0), "it is forgotten")
        assert bench.changes > changes

    played(kind, play)


def test_a_relay_that_changes_its_mind_all_the_time_is_summed_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_budget", LogBudget())
    caplog.set_level(logging.INFO)
    count = 500

    async def play(bench: Bench) -> None:
        relay = await bench.link(0)
        await bench.asked(relay)
        for number in range(count):
            await relay.send(Exposed(1, 1, f"relay-{number}:1"), Unexposed(1, f"no-{number}", ""))
        await relay.send(Exposed(1, 1, "last:1"))
        await until(lambda: bench.exposer.public == {1: "last:1"}, "all is heard")
        await turns()
        lines = [each for each in caplog.messages if each in ("exposed", "not exposed")]
        assert len(lines) < count / 2
        assert len(bench.exposer._told) <= len(EXPOSED)

    played("asyncio", play)
