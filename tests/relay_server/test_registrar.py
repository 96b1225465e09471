"""What tenants ask for: granted, refused and taken over, with ports and visitors in step."""

from __future__ import annotations

import logging
import socket

import pytest

from common.key_options import KeyOptions
from common.sockets import listen
from common.wire import Expose, Exposed, Unexposed
from relay_server.public import registrar as module
from relay_server.public.side import PublicConfig
from tests.common.loops import on_both_loops, turns, until
from tests.relay_server.owners import ALICE, ALICE_TOO, BOB, KEYS
from tests.relay_server.public_stage import Stage, is_free, played, trust


def codes(answers: list[Exposed | Unexposed]) -> list[str]:
    return [each.code for each in answers if isinstance(each, Unexposed)]


@on_both_loops
def test_a_port_is_bound_when_it_is_granted_and_let_go_with_its_last_claim(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, 1)
        assert not is_free(port)
        stage.says(link, Expose(2, "tcp", "", port.port, "127.0.0.0/8"))
        # The first moves to another port: the second still holds this one.
        other = stage.expose(link, 1)
        assert not is_free(port)
        stage.expose(link, 2, port=other.port)
        assert is_free(port)
        assert stage.public.exposures == 1  # both were asked for at once: the last one has it

    played(kind, play)


def test_a_port_of_another_program_is_refused_and_nothing_is_left_behind() -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        with listen("127.0.0.1", 0) as sock:
            taken = sock.getsockname()[1]
            (answer,) = stage.says(link, Expose(1, "tcp", "", taken))
            assert isinstance(answer, Unexposed)
            assert answer.code == "cannot-listen"
            assert stage.public.exposures == 0
        stage.expose(link, port=taken)

    played("asyncio", play)


def test_a_port_that_cannot_be_bound_costs_what_it_would_have_replaced() -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, 1)
        with listen("127.0.0.1", 0) as sock:
            answers = stage.says(link, Expose(1, "tcp", "", sock.getsockname()[1]))
        assert set(codes(answers)) == {"cannot-listen"}  # which is asked for again, unlike others
        # Number 1 is not public any more: its port is let go, and not held by a ghost.
        assert stage.public.exposures == 0
        assert is_free(port)

    played("asyncio", play)


def test_another_key_gets_neither_the_port_nor_a_part_of_it() -> None:
    async def play(stage: Stage) -> None:
        port = stage.expose(stage.link(ALICE))
        thief = stage.link(BOB)
        for source in ("", "127.0.0.0/8", "192.0.2.7"):
            answers = stage.says(thief, Expose(1, "tcp", "", port.port, source))
            assert codes(answers) == ["held"]
        assert stage.metrics.exposures_refused == 3
        assert stage.public.exposures == 1

    played("asyncio", play)


@on_both_loops
def test_another_process_of_the_key_takes_over_and_the_first_is_told(kind: str) -> None:
    async def play(stage: Stage) -> None:
        first = stage.link(ALICE)
        port = stage.expose(first, hold_s=5.0)
        visitor = stage.visitor(port, b"hello")  # nobody has a channel: it waits
        await until(lambda: stage.public.guide.visitors == 1, "the visitor waits")
        second = stage.link(ALICE_TOO)
        service = await stage.channel(ALICE_TOO)
        assert stage.expose(second, 9, port=port.port) == port
        assert codes(first.answers()) == ["taken-over"]
        await until(lambda: service.received == b"hello", "the visitor has moved")
        assert service.visits[0].exposure == 9
        service.say(b"welcome")
        await visitor.gets(b"welcome")

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("raw", [True, False])
def test_visitors_that_wait_for_another_kind_of_exposure_are_reset(kind: str, raw: bool) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, raw=raw)
        visitor = stage.visitor(port)
        await until(lambda: stage.public.guide.visitors == 1, "the visitor waits")
        stage.expose(link, port=port.port, raw=not raw)
        await visitor.is_reset()
        assert stage.public.guide.visitors == 0

    played(kind, play)


@on_both_loops
def test_udp_ports_are_bound_and_taken_over_as_well(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        (answer,) = stage.says(link, Expose(1, "udp", "", 0))
        assert isinstance(answer, Exposed)
        assert answer.public == f"127.0.0.1:{answer.port}/udp"
        with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="in use"):
            sock.bind(("127.0.0.1", answer.port))
        for _ in range(3):
            (again,) = stage.says(link, Expose(1, "udp", "", answer.port))
            assert again == answer
        (other,) = stage.says(link, Expose(1, "udp", "", 0))
        assert isinstance(other, Exposed)
        assert other.port != answer.port
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", answer.port))

    played(kind, play)


def test_what_a_key_may_no_longer_hold_ends_and_the_rest_stays() -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, 1)
        stage.says(link, Expose(2, "http", "www.example.org", 0))
        stage.keys[ALICE[0]] = trust(KEYS[0], KeyOptions(hosts=("other.example",)))
        stage.public.recheck(lambda party, host: None)
        assert codes(link.answers()) == ["not-permitted"]
        assert not is_free(port)
        assert stage.public.exposures == 1

    played("asyncio", play, PublicConfig(host="127.0.0.1", http=True))


@on_both_loops
def test_visitors_that_wait_are_told_when_the_exposure_ends(kind: str) -> None:
    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        port = stage.expose(link, hold_s=100.0)
        link.lose("gone")
        visitor = stage.visitor(port)
        await until(lambda: stage.public.guide.visitors == 1, "the visitor waits")
        await turns()
        assert not visitor.look().reset
        stage.public.sweep(stage.loop.time() + 61)
        await visitor.is_reset()
        assert stage.public.guide.visitors == 0

    played(kind, play)


def test_who_asks_without_end_is_answered_and_not_logged_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LINES_AT_ONCE", 10)
    caplog.set_level(logging.INFO)

    async def play(stage: Stage) -> None:
        link = stage.link(ALICE)
        for _ in range(100):
            stage.expose(link)
        lines = [each for each in caplog.messages if each.startswith("exposed")]
        assert 10 <= len(lines) < 20
        assert stage.public.exposures == 1

    played("asyncio", play)
