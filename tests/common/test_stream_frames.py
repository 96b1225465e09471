"""A stream at one end, and raw frames at the other: what goes over the channel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from common import frames
from common.channel import Channel
from common.outcome import Outcome
from common.session import Session
from common.stream import Stream
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import opener_session, tcp_pair
from tests.common.talk import End, Idle, User, both_ends, other

FIN, RESET = frames.encode(frames.FIN), frames.encode(frames.RESET)


class Far:
    """The acceptor's end of a channel as raw frames."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.wire = bytearray()
        self.ended = False

    def read(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self.ended:
                piece = b""
                with contextlib.suppress(ConnectionResetError):
                    piece = self.tls.read(1 << 16)
                self.ended = not piece
                self.wire += piece
        return bytes(self.wire)


class Half:
    """A stream whose far end is raw frames."""

    def __init__(self, near: Session, far: ssl.SSLSocket, end: End) -> None:
        loop = asyncio.get_running_loop()
        self.far = Far(far)
        self.idle = Idle()
        self.channel = Channel(loop, near, self.idle, 60)
        user, self.local = tcp_pair()
        self.user = User(user)
        self.ended: list[Stream] = []
        self.stream = Stream(loop, self.channel, self.local, end, self._on_end, 60)

    def _on_end(self, stream: Stream) -> None:
        self.ended.append(stream)
        self.channel.handler = self.idle

    async def outcome(self) -> tuple[Outcome | None, str]:
        def over() -> bool:
            self.user.step()
            return bool(self.ended and self.user.end)

        await until(over, "the stream ends and the user sees it")
        assert len(self.ended) == 1
        return self.stream.outcome, self.stream.detail

    def close(self) -> None:
        self.channel.close()
        self.user.sock.close()
        self.far.tls.close()


async def half(end: End) -> Half:
    return Half(*await opener_session(), end)


OPEN = frames.encode_open(frames.Open("0", "tcp", "localhost", 80, "192.0.2.1", 4711))


@on_both_loops
def test_the_first_bytes_go_out_with_the_open(kind: str) -> None:
    async def main() -> None:
        h = await half("source")
        h.user.sock.send(b"GET /")
        await turns()
        h.stream.begin(OPEN)
        await until(lambda: h.far.read(), "OPEN")
        assert h.far.wire == OPEN + frames.encode(frames.DATA, b"GET /")
        h.stream.stop(Outcome.STOPPED, "")
        h.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("first", ["nothing", "fin"])
def test_an_open_goes_out_without_bytes(kind: str, first: str) -> None:
    async def main() -> None:
        h = await half("source")
        if first == "fin":
            h.user.sock.shutdown(socket.SHUT_WR)
            await turns()
        h.stream.begin(OPEN)
        expected = OPEN + (FIN if first == "fin" else b"")
        await until(lambda: h.far.read() == expected, "OPEN")
        h.stream.stop(Outcome.STOPPED, "")
        h.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("fin_first", [False, True])
def test_a_refusal_resets_the_source_and_leaves_the_channel_fit_for_use(
    kind: str, fin_first: bool
) -> None:
    async def main() -> None:
        h = await half("source")
        h.stream.begin(OPEN)
        if fin_first:
            h.user.sock.shutdown(socket.SHUT_WR)
            await until(lambda: h.far.read() == OPEN + FIN, "FIN")
        h.far.tls.write(frames.encode_refused(frames.Refused("unreachable", "no such host")))
        assert await h.outcome() == (Outcome.REFUSED, "unreachable: no such host")
        assert h.user.end == "rst"
        await until(lambda: h.far.read() == OPEN + FIN, "one FIN")
        assert not h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
@both_ends
@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (FIN + frames.encode(frames.DATA, b"x"), "DATA is not allowed after FIN"),
        (FIN + FIN, "FIN is not allowed within a stream"),
        (OPEN, "OPEN is not allowed within a stream"),
        (frames.encode(frames.REFUSED, b"\xff"), ""),
    ],
)
def test_what_is_not_allowed_is_a_loss(kind: str, end: End, wire: bytes, words: str) -> None:
    async def main() -> None:
        h = await half(end)
        h.stream.begin()
        h.far.tls.write(wire)
        outcome, detail = await h.outcome()
        assert outcome is Outcome.LOST
        assert detail.startswith(f"protocol error: {words}")
        assert h.user.end in ("rst", "fin")  # FIN came first in some; after it nothing more
        assert h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
def test_a_destination_is_never_refused(kind: str) -> None:
    async def main() -> None:
        h = await half("destination")
        h.stream.begin()
        h.far.tls.write(frames.encode_refused(frames.Refused("x", "y")))
        outcome, detail = await h.outcome()
        assert (outcome, h.user.end) == (Outcome.LOST, "rst")
        assert detail == "protocol error: REFUSED is not allowed within a stream"
        h.close()

    run(kind, main)


@on_both_loops
@both_ends
def test_a_reset_frame_resets_the_user(kind: str, end: End) -> None:
    async def main() -> None:
        h = await half(end)
        h.stream.begin()
        h.far.tls.write(frames.encode(frames.DATA, b"begun") + RESET)
        assert await h.outcome() == (Outcome(f"reset-by-{other(end)}"), "")
        assert h.user.end == "rst"
        assert h.channel.closed
        h.close()

    run(kind, main)


@on_both_loops
def test_a_source_that_was_reset_before_it_began(kind: str) -> None:
    async def main() -> None:
        h = await half("source")
        h.user.reset()
        await turns()
        h.stream.begin(OPEN)
        assert h.stream.outcome is Outcome.RESET_BY_SOURCE
        assert len(h.ended) == 1
        h.close()

    run(kind, main)
