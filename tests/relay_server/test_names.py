"""Connections to host names: how many there may be, and what is left of them."""

from __future__ import annotations

import logging
import socket

import pytest

from common import logs
from common.log_budget import LogBudget
from common.wire import Expose, Exposed
from relay_server.public import names as module
from relay_server.public.side import PublicConfig
from tests.common.loops import on_both_loops, until
from tests.relay_server.owners import ALICE
from tests.relay_server.public_stage import Stage, played

CONFIG = PublicConfig(host="127.0.0.1", http=True, max_visitors=64)
ASK = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n"


def publish(stage: Stage) -> None:
    (answer,) = stage.says(stage.link(ALICE), Expose(1, "http", "www.example.org", 0))
    assert isinstance(answer, Exposed)


async def gone(stage: Stage, count: int) -> None:
    """Wait until so many visitors have come, ever, and have gone."""

    def all_gone() -> bool:
        return stage.metrics.visitors_accepted == count and not len(stage.public.guide.names)

    await until(all_gone, "they have come and gone")


@on_both_loops
def test_one_source_does_not_have_all_the_places(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PER_SOURCE", 4)

    async def play(stage: Stage) -> None:
        publish(stage)
        door, names = stage.http(), stage.public.guide.names
        most = max(4, CONFIG.max_visitors // 8)
        crowd = [stage.visitor(door, source="127.0.0.9") for _ in range(most)]
        await until(lambda: len(names) == most, "so many are in")
        await stage.visitor(door, source="127.0.0.9").is_reset()
        assert stage.metrics.visitors_rejected == 1
        # Another is served as ever.
        service = await stage.channel(ALICE)
        visitor = stage.visitor(door, ASK)
        await until(lambda: service.received, "the service is asked")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await visitor.gets(b"hello")
        for each in crowd:
            each.sock.close()
        await until(lambda: len(names) == 1, "they have gone")
        late = stage.visitor(door, b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n", "127.0.0.9")
        await late.gets(b"HTTP/1.1 404")

    played(kind, play, CONFIG)


@on_both_loops
def test_every_place_is_given_back(kind: str) -> None:
    async def play(stage: Stage) -> None:
        publish(stage)
        door, names = stage.http(), stage.public.guide.names
        for number in range(3 * CONFIG.max_visitors):
            words = (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", ASK)[number % 4]
            visitor = stage.visitor(door, words)
            visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            visitor.sock.close()
            await gone(stage, number + 1)
        assert names._places.total == 0

        def swept() -> bool:
            stage.public.sweep(stage.loop.time())
            return stage.public.guide.visitors == 0

        await until(swept, "nobody waits for a channel")

    played(kind, play, CONFIG)


def test_connections_that_ask_for_nothing_are_summed_up_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_budget", LogBudget())
    caplog.set_level(logging.INFO)

    async def play(stage: Stage) -> None:
        door = stage.http()
        for number in range(50):
            stage.visitor(door, b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n").sock.close()
            await gone(stage, number + 1)
        lines = [each for each in caplog.messages if each == "visitor"]
        assert 1 <= len(lines) < 10

    played("asyncio", play, CONFIG)
