"""One stream to one service: how it goes for its customer, the service and the switchboard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common import frames
from common.outcome import Outcome
from common.session import Session
from relay_server.http import exchange as module
from relay_server.http.exchange import Exchange
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import session_pair
from tests.relay_server.ends import Idle, Service

FIN, RESET = frames.encode(frames.FIN), frames.encode(frames.RESET)


class Table:
    """A customer and its exchange on the one end of a channel, the service on the other."""

    def __init__(self, near: Session, far: Session) -> None:
        self.idle, self.service = Idle(near), Service(far)
        self.answer = bytearray()
        self.ends = self.writable = 0
        self.failures: list[tuple[Outcome, str]] = []
        self.over = self.let_go = 0
        loop = asyncio.get_running_loop()
        self.exchange = Exchange(loop, lambda: b"", b"first", self, self.count_over)

    def begin(self) -> None:
        self.exchange.begin(self.idle.channel, frames.encode(frames.VISIT, b"x"), 10.0, self.freed)

    def count_over(self) -> None:
        self.over += 1

    def freed(self) -> None:
        self.let_go += 1

    def on_answer(self, data: memoryview) -> None:
        self.answer += data

    def on_end(self) -> None:
        self.ends += 1

    def on_writable(self) -> None:
        self.writable += 1

    def on_failure(self, outcome: Outcome, detail: str) -> None:
        self.failures.append((outcome, detail))


def played(kind: str, play: Callable[[Table], Awaitable[None]], *, begun: bool = True) -> None:
    async def main() -> None:
        table = Table(*await session_pair())
        if begun:
            table.begin()
        try:
            await play(table)
        finally:
            table.idle.channel.close()
            table.service.channel.close()

    run(kind, main)


@on_both_loops
def test_a_stream_ends_well_when_both_have_ended_it(kind: str) -> None:
    async def play(table: Table) -> None:
        await until(lambda: table.service.received == b"first", "the service is asked")
        assert table.exchange.send(b" more")
        table.service.channel.write(frames.encode(frames.DATA, b"answer") + FIN)
        await until(lambda: table.ends, "the service has ended its side")
        assert table.answer == b"answer"
        assert not table.exchange.open
        table.exchange.half_close()
        assert (table.exchange.over, table.over, table.let_go) == (True, 1, 1)
        assert not table.failures
        await until(lambda: frames.FIN in table.service.frames, "the service sees the end")
        assert not table.idle.channel.closed  # to be used again

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("clean", [True, False])
def test_whoever_leaves_is_told_nothing_more(kind: str, clean: bool) -> None:
    async def play(table: Table) -> None:
        table.exchange.pause()
        table.exchange.leave(clean=clean)
        table.service.channel.write(frames.encode(frames.DATA, b"answer") + FIN)
        await until(lambda: table.over == 1, "the stream is over")
        assert table.let_go == 1
        assert not table.answer
        assert not table.ends
        assert not table.failures
        told = frames.FIN if clean else frames.RESET
        await until(lambda: told in table.service.frames, "the service is told")
        assert table.idle.channel.closed is not clean

    played(kind, play)


@on_both_loops
def test_a_service_that_does_not_end_its_side_is_reset(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.01)

    async def play(table: Table) -> None:
        table.exchange.leave(clean=True)
        await until(lambda: table.over == 1, "the stream is over")
        await until(lambda: frames.RESET in table.service.frames, "the service is reset")
        assert table.let_go == 1

    played(kind, play)


@on_both_loops
def test_who_has_left_while_it_waited_costs_the_service_nothing(kind: str) -> None:
    async def play(table: Table) -> None:
        assert not table.exchange.gone()
        assert not table.exchange.send(b", and more")  # kept
        table.exchange.leave(clean=True)
        assert table.exchange.gone()
        table.begin()
        assert (table.over, table.let_go) == (1, 1)
        await turns()
        assert not table.service.received

    played(kind, play, begun=False)


@on_both_loops
def test_what_was_said_while_it_waited_is_said_first(kind: str) -> None:
    async def play(table: Table) -> None:
        table.exchange.send(b", and more")
        table.begin()
        await until(lambda: table.service.received == b"first, and more", "all is said")
        assert table.writable == 1

    played(kind, play, begun=False)


@on_both_loops
def test_without_a_channel_the_customer_is_told_once(kind: str) -> None:
    async def play(table: Table) -> None:
        table.exchange.fail(Outcome.NO_CHANNEL, "none")
        table.exchange.leave(clean=False)
        assert table.failures == [(Outcome.NO_CHANNEL, "none")]
        assert table.over == 1

    played(kind, play, begun=False)


def refused() -> bytes:
    return frames.encode_refused(frames.Refused("unreachable", "no route"))


ENDS = {
    "reset": (RESET, Outcome.RESET_BY_DESTINATION),
    "refused": (refused(), Outcome.REFUSED),
    "data after the end": (FIN + frames.encode(frames.DATA, b"x"), Outcome.LOST),
    "an open": (frames.encode(frames.OPEN, b"x"), Outcome.LOST),
    "two ends": (FIN + FIN, Outcome.LOST),
    "refused after the end": (FIN + refused(), Outcome.LOST),
}


@on_both_loops
@pytest.mark.parametrize(("said", "outcome"), ENDS.values(), ids=ENDS.keys())
def test_a_service_that_breaks_off_is_a_failure_once(
    kind: str, said: bytes, outcome: Outcome
) -> None:
    async def play(table: Table) -> None:
        table.service.channel.write(said)
        await until(lambda: table.over == 1, "the stream is over")
        assert [each for each, _ in table.failures] == [outcome]
        assert table.let_go == 1
        assert table.idle.channel.closed is (outcome is not Outcome.REFUSED)
        table.exchange.half_close()
        table.exchange.resume()
        table.exchange.leave(clean=False)
        table.exchange.stop(Outcome.STOPPED, "the end")
        assert (table.over, table.let_go) == (1, 1)

    played(kind, play)


@on_both_loops
def test_signs_of_life_are_no_answer(kind: str) -> None:
    async def play(table: Table) -> None:
        table.service.channel.write(frames.encode(frames.PONG) + frames.encode(frames.GOAWAY))
        await until(lambda: table.idle.channel.retired, "no further stream is wanted")
        assert table.exchange.open
        table.service.channel.abort()
        await until(lambda: table.failures, "the loss is told")
        assert table.failures[0][0] is Outcome.LOST

    played(kind, play)


@on_both_loops
def test_the_end_of_the_program_is_a_reset(kind: str) -> None:
    async def play(table: Table) -> None:
        table.exchange.stop(Outcome.STOPPED, "the grace is over")
        assert table.failures == [(Outcome.STOPPED, "the grace is over")]
        await until(lambda: frames.RESET in table.service.frames, "the service is reset")

    played(kind, play)
