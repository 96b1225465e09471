"""The way of visitors: the claim that admits them, the budget, and what is said to those it does
not let in."""

from __future__ import annotations

import logging
import socket

import pytest

from common import logs
from common.log_budget import LogBudget
from common.wire import Expose
from relay_server.public import side as side_module
from relay_server.public.budget import Budget
from relay_server.public.side import PublicConfig
from tests.common.loops import on_both_loops, until
from tests.relay_server.owners import ALICE
from tests.relay_server.public_stage import Stage, played


@on_both_loops
def test_the_most_specific_source_wins_and_strangers_are_reset(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, 1)
        stage.says(link, Expose(1, "tcp", "", port.port, "127.0.0.0/30"))
        stage.says(link, Expose(2, "tcp", "", port.port, "127.0.0.2"))
        # Number 1 is narrower now: what it was is not held besides.
        assert stage.public.exposures == 2
        service = await stage.channel(ALICE)
        stage.visitor(port, source="127.0.0.2")
        await until(lambda: service.visits, "the visitor is served")
        assert service.visits[0].exposure == 2
        assert service.visits[0].visitor_host == "127.0.0.2"
        assert service.visits[0].public_port == port.port
        await stage.visitor(port, source="127.0.0.9").is_reset()
        assert stage.metrics.visitors_rejected == 1

    played(kind, play)


@on_both_loops
def test_places_are_given_back_however_a_visitor_ends(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_module, "Budget", lambda in_all: Budget(in_all, 2, 2))

    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE))
        guide = stage.public.guide
        for _ in range(3):
            services = [await stage.channel(ALICE) for _ in range(2)]
            inside = [stage.visitor(port, b"x") for _ in range(2)]
            await until(lambda: guide.visitors == 2, "two are in")
            await stage.visitor(port).is_reset()
            assert guide.visitors == 2
            inside[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            inside[0].sock.close()
            await until(lambda: sum(bool(s.visits) for s in services) == 2, "both served")  # noqa: B023
            for service in services:
                service.channel.abort()
            await inside[1].is_reset()
            await until(lambda: guide.visitors == 0, "all have left")
        assert not stage.tenant(ALICE).account.lines

    played(kind, play)


@on_both_loops
def test_a_visitor_may_vanish_and_is_asked_for_a_sign_of_life(kind: str) -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE))
        service = await stage.channel(ALICE)
        stage.visitor(port)
        await until(lambda: service.visits, "the visitor is served")
        (line,) = stage.tenant(ALICE).account.lines
        sock = line.channel.handler.local  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60

    played(kind, play)


def test_a_crowd_that_is_turned_away_is_summed_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_budget", LogBudget())
    caplog.set_level(logging.INFO)

    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link)
        stage.says(link, Expose(1, "tcp", "", port.port, "192.0.2.7"))
        for number in range(60):
            await stage.visitor(port, source=f"127.0.1.{number + 1}").is_reset()
        lines = [each for each in caplog.messages if each.startswith("visitor turned away")]
        assert 1 <= len(lines) < 10

    played("asyncio", play, PublicConfig(host="127.0.0.1"))
