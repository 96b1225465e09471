"""Links of tenants: who may have them, how many, and what their loss leaves behind."""

from __future__ import annotations

import pytest

from common import frames
from common.wire import Denied, GoAway, Welcome
from relay_server.public import side as module
from relay_server.public.side import TENANTS_PER_KEY, PublicConfig
from tests.common.loops import on_both_loops, turns, until
from tests.relay_server.owners import ALICE, ALICE_TOO, BOB
from tests.relay_server.public_stage import HEARTBEAT_S, FakeLink, Stage, is_free, played

CONFIG = PublicConfig(host="127.0.0.1", reserve_s=5.0)


def test_a_key_has_so_many_tenants_and_no_more() -> None:
    async def play(stage: Stage) -> None:
        links = [
            stage.link((ALICE[0], number.to_bytes(16, "big"))) for number in range(TENANTS_PER_KEY)
        ]
        assert stage.verdict(ALICE) == "too-many-links"
        # One that is here already may come again, and another key is not concerned.
        assert not stage.verdict((ALICE[0], bytes(16)))
        assert not stage.verdict(BOB)
        links[7].lose("gone")  # it holds nothing, so nothing is kept of it
        assert stage.public.tenants_present == TENANTS_PER_KEY - 1
        assert not stage.verdict(ALICE)

    played("asyncio", play)


def test_links_of_a_tenant_and_of_a_key_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINKS_PER_TENANT", 3)
    monkeypatch.setattr(module, "LINKS_PER_KEY", 5)

    async def play(stage: Stage) -> None:
        stage.link(ALICE)
        stage.link(ALICE_TOO)
        stage.link(BOB)
        stage.link(ALICE, "raw")
        await stage.channel(ALICE)
        assert stage.verdict(ALICE, "raw") == "too-many-links"
        last = stage.link(ALICE_TOO, "raw")
        assert stage.verdict(ALICE_TOO, "visitors") == "too-many-links"
        assert not stage.verdict(BOB, "visitors")
        last.lose("gone")
        assert not stage.verdict(ALICE_TOO, "visitors")

    played("asyncio", play)


def test_only_who_exposes_has_links_for_visitors() -> None:
    async def play(stage: Stage) -> None:
        assert stage.verdict(ALICE, role="entry-point") == "wrong-role"
        assert stage.verdict(ALICE, "visitors") == "no-exposures"
        link = stage.link(ALICE)
        assert isinstance(link.told[0], Welcome)
        assert not stage.verdict(ALICE, "raw")
        assert stage.verdict(ALICE_TOO, "raw") == "no-exposures"
        stage.expose(link)
        link.lose("gone")
        assert stage.verdict(ALICE, "raw") == "no-exposures"

    played("asyncio", play)


@on_both_loops
def test_what_an_absent_tenant_holds_is_over_when_the_reserve_is(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link)
        link.lose("gone")
        now = stage.loop.time()
        stage.public.sweep(now + 4)
        assert stage.public.exposures == 1
        stage.public.sweep(now + 6)
        assert stage.public.exposures == 0
        assert is_free(port)
        stage.public.sweep(now + 7)
        assert not stage.public._tenants

    played(kind, play, CONFIG)


def test_who_is_lost_with_its_welcome_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE))
        # The next link takes the place of the one there is, and is dead already.
        monkeypatch.setattr(FakeLink, "dead", True)
        stage.link(ALICE)
        assert stage.public.tenants_present == 0
        assert len(stage.clients) == 0
        stage.public.sweep(stage.loop.time() + 6)
        assert stage.public.exposures == 0
        assert is_free(port)

    played("asyncio", play, CONFIG)


@on_both_loops
def test_a_new_link_takes_the_place_of_one_not_known_to_be_dead(kind: str) -> None:
    async def play(stage: Stage) -> None:
        old = stage.link(ALICE)
        port = stage.expose(old)
        new = stage.link(ALICE)
        assert old.closed
        assert stage.expose(new, port=port.port) == port
        service = await stage.channel(ALICE)
        visitor = stage.visitor(port, b"hello")
        await until(lambda: service.received == b"hello", "the visitor is served")
        service.end()
        visitor.sock.shutdown(1)
        await until(lambda: visitor.look().ended, "the visitor has its end")
        assert len(stage.clients) == 1

    played(kind, play)


def test_a_silent_link_is_dead_after_three_heartbeats() -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        raw = stage.link(ALICE, "raw")
        now = stage.loop.time()
        stage.public.sweep(now + 2.5 * HEARTBEAT_S)
        assert stage.public.tenants_present == 1
        raw.heard_at = now + 3
        stage.public.sweep(now + 3.5 * HEARTBEAT_S)
        assert link.closed
        assert raw.closed  # its tenant holds nothing and is away

    played("asyncio", play)


@on_both_loops
def test_a_key_that_is_no_longer_trusted_loses_everything_at_once(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link, other = stage.link(ALICE), stage.link(BOB)
        port, others = stage.expose(link), stage.expose(other)
        service = await stage.channel(ALICE)
        visitor = stage.visitor(port, b"hello")
        await until(lambda: service.received == b"hello", "the visitor is served")
        del stage.keys[ALICE[0]]
        stage.public.recheck(lambda party, host: None)
        assert isinstance(link.told[-1], Denied)
        assert link.closed
        await visitor.is_reset()
        assert is_free(port)
        assert not is_free(others)
        assert not other.closed
        assert list(stage.public._tenants) == [BOB]

    played(kind, play)


@on_both_loops
def test_the_end_of_the_relay_is_told_and_visitors_are_served_to_their_end(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link)
        service, idle = await stage.channel(ALICE), await stage.channel(ALICE)
        visitor = stage.visitor(port, b"hello")
        await until(lambda: b"hello" in service.received + idle.received, "it is served")
        if idle.received:
            service, idle = idle, service
        stage.public.stop()
        assert any(isinstance(each, GoAway) for each in link.told)
        await until(lambda: idle.lost, "the idle channel is closed")
        assert is_free(port)
        service.say(b"goodbye")
        await visitor.gets(b"goodbye")
        visitor.sock.shutdown(1)
        await until(lambda: frames.FIN in service.frames, "the service sees the end")
        service.end()
        await stage.public.quiet()
        assert stage.public.guide.visitors == 0

    played(kind, play)


@on_both_loops
def test_a_raw_link_that_is_lost_before_its_answer_costs_the_visitor_nothing(kind: str) -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE), raw=True)
        raw = [stage.link(ALICE, "raw") for _ in range(module.MOST_CALLS)]
        visitor = stage.visitor(port)
        for number, link in enumerate(raw):
            await until(lambda link=link: link.paired, "the link is told of it")  # type: ignore[misc]
            await turns()
            assert not visitor.look().reset, number
            link.lose("gone")
        await visitor.is_reset()
        assert stage.public.guide.visitors == 0
        assert not stage.public.guide.raw

    played(kind, play)
