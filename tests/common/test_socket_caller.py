"""A connection that wants a channel: served, reset for want of one, or gone before its turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from common import frames
from common.addresses import HostPort
from common.channel import Channel
from common.outcome import Outcome
from common.session import Session
from common.socket_caller import SocketCaller
from tests.common.loops import on_both_loops, run, until
from tests.common.sessions import session_pair, tcp_pair

RESET = b"\1\0\0\0\0\0\0\0"


class Caller(SocketCaller):
    """Asks for nothing in particular and keeps how it went."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        super().__init__(loop, sock, HostPort("192.0.2.7", 4711))
        self.outcomes: list[tuple[Outcome, str]] = []

    def request(self) -> bytes:
        return frames.encode(frames.VISIT, b"x")

    def ended(self, outcome: Outcome, detail: str) -> None:
        self.outcomes.append((outcome, detail))


class Handler:
    """A channel's end that keeps what comes."""

    def __init__(self, session: Session) -> None:
        self.data = bytearray()
        self.kinds: list[int] = []
        self.channel = Channel(asyncio.get_running_loop(), session, self, 10.0)

    def on_data(self, data: memoryview) -> int:
        self.data += data
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        self.kinds.append(kind)

    def on_drained(self) -> None:
        pass

    def on_tick(self) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        pass


class Bench:
    def __init__(self, near: Session, far: Session) -> None:
        self.idle, self.acceptor = Handler(near), Handler(far)
        self.client, sock = tcp_pair()
        self.caller = Caller(asyncio.get_running_loop(), sock)
        self.freed = 0

    def begin(self) -> None:
        self.caller.begin(self.idle.channel, self.caller.request(), 10.0, self.free)

    def free(self) -> None:
        assert not self.caller.outcomes  # the channel first: who is told may ask for the next
        self.freed += 1


def played(kind: str, play: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(*await session_pair())
        try:
            await play(bench)
        finally:
            bench.client.close()
            bench.idle.channel.close()
            bench.acceptor.channel.close()

    run(kind, main)


@on_both_loops
def test_a_caller_is_served_and_told_of_once(kind: str) -> None:
    async def play(bench: Bench) -> None:
        assert (bench.caller.sent, bench.caller.received) == (0, 0)
        bench.client.send(b"hello")
        bench.begin()
        await until(lambda: bench.acceptor.data == b"hello", "it is served")
        assert bench.acceptor.kinds == [frames.VISIT]
        answer = frames.encode(frames.DATA, b"hi") + frames.encode(frames.FIN)
        bench.acceptor.channel.write(answer)
        bench.client.shutdown(socket.SHUT_WR)
        await until(lambda: bench.caller.outcomes, "it is over")
        assert bench.caller.outcomes == [(Outcome.FINISHED, "")]
        assert (bench.caller.sent, bench.caller.received, bench.freed) == (5, 2, 1)
        assert bench.caller.seconds >= 0

    played(kind, play)


@on_both_loops
def test_without_a_channel_the_client_is_reset(kind: str) -> None:
    async def play(bench: Bench) -> None:
        bench.caller.fail(Outcome.NO_CHANNEL, "none is left")
        assert bench.caller.outcomes == [(Outcome.NO_CHANNEL, "none is left")]
        await until(lambda: is_reset(bench.client), "the client is reset")

    played(kind, play)


@on_both_loops
def test_a_client_that_was_reset_is_gone_and_one_that_waits_is_not(kind: str) -> None:
    async def play(bench: Bench) -> None:
        assert not bench.caller.gone()
        bench.client.send(b"hello")
        bench.client.shutdown(socket.SHUT_WR)
        assert not bench.caller.gone()  # it has said all, and waits for the answer
        bench.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        bench.client.close()
        await until(bench.caller.gone, "it is gone")
        bench.caller.fail(Outcome.RESET_BY_SOURCE, "it did not wait")

    played(kind, play)


@on_both_loops
def test_the_end_of_the_program_resets_both_ends(kind: str) -> None:
    async def play(bench: Bench) -> None:
        bench.begin()
        bench.caller.stop(Outcome.STOPPED, "the grace is over")
        assert [each for each, _ in bench.caller.outcomes] == [Outcome.STOPPED]
        assert bench.freed == 1
        await until(lambda: is_reset(bench.client), "the client is reset")

    played(kind, play)


def is_reset(sock: socket.socket) -> bool:
    try:
        assert sock.recv(1), "a clean end"
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return False
