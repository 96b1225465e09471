"""An opener whose channels a test hands in, with raw frames at their far ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import pytest

from common import frames
from common import switchboard as module
from common.addresses import HostPort
from common.frames import FrameReader
from common.joined import Joined
from common.line import Line
from common.outcome import Outcome
from common.pool import PoolSize
from common.routes import RouteTable
from common.tls import opener_context
from entry_point.metrics import Metrics
from entry_point.opener import Opener
from entry_point.source import Source
from tests.common.fake_relay import new_client
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import ANN, BOB, opener_session, tcp_pair

ROUTE = RouteTable.parse(["5001:localhost:80"]).listeners[0].match("127.0.0.1")
FIN, DONE, PONG = (frames.encode(each) for each in (frames.FIN, frames.DONE, frames.PONG))


class Far:
    """The acceptor's end of one channel."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self._reader = FrameReader()
        self.kinds: list[int] = []
        self.data = b""
        self.ended = False

    def read(self) -> list[int]:
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self.ended:
                piece = b""
                with contextlib.suppress(ConnectionResetError):
                    piece = self.tls.read(1 << 16)
                self.ended = not piece
                view, position, kind = memoryview(piece), 0, 1
                while piece and kind:
                    kind, payload, position = self._reader.next(view, position)
                    if kind == frames.DATA:
                        self.data += bytes(payload)
                    if kind:
                        self.kinds.append(kind)
        return self.kinds


class Bench:
    def __init__(
        self, *, wait_s: float = 60, linger_s: float = 60, minimum: int = 2, relays: int = 1
    ) -> None:
        self.metrics = Metrics()
        self.ends: list[tuple[Source, Outcome, str]] = []
        self.trusted = True
        self.fars: list[Far] = []
        self.users: list[socket.socket] = []
        self.opener = Opener(
            [HostPort("127.0.0.1", 1 + number) for number in range(relays)],
            new_client(),
            opener_context(ANN),
            size=PoolSize(minimum, 512),
            linger_s=linger_s,
            wait_s=wait_s,
            trusted=lambda _: self.trusted,
            metrics=self.metrics,
        )
        self.relay = self.opener.relays[0]

    async def join(self, instance: bytes = bytes(16)) -> Far:
        near, far = await opener_session()
        self.fars.append(Far(far))
        self.opener._on_joined(self.relay, Joined(near, BOB.public.raw, instance, 60))
        return self.fars[-1]

    def connect(self, first: bytes = b"") -> socket.socket:
        """A source comes in."""
        assert ROUTE is not None
        user, sock = tcp_pair()
        if first:
            user.send(first)
        self.users.append(user)
        loop = asyncio.get_running_loop()
        address = HostPort("127.0.0.1", 4711)
        self.opener.open(
            Source(loop, sock, address, ROUTE, "0", lambda *end: self.ends.append(end))
        )
        return user

    async def until(self, condition: Callable[[], object], what: str) -> None:
        def step() -> object:
            for far in self.fars:
                far.read()
            return condition()

        await until(step, what)

    def outcomes(self) -> list[Outcome]:
        return [each[1] for each in self.ends]

    def counts(self) -> tuple[int, int, int]:
        return self.opener.board.idle, self.opener.board.busy, self.opener.board.waiting

    async def close(self) -> None:
        self.opener.stop()
        self.opener.abort()
        await turns()
        assert self.counts() == (0, 0, 0)
        assert len(self.ends) == len(self.users)
        assert self.relay.busy == 0
        assert self.metrics.channels_opened - self.metrics.channels_closed == len(self.relay.lines)
        assert not self.relay.lines
        for each in (*self.users, *(far.tls for far in self.fars)):
            each.close()


@on_both_loops
def test_channels_are_used_again(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        far = await b.join()
        for number in range(1, 6):
            user = b.connect(b"hello")
            user.shutdown(socket.SHUT_WR)
            await b.until(lambda: far.kinds[-1:] == [frames.FIN], "a stream")
            far.tls.write(FIN)
            far.kinds.append(0)
            await b.until(lambda: len(b.ends) == number, "its end")  # noqa: B023
            assert b.counts() == (0, 0, 0)  # the far end may still be at it
            far.tls.write(DONE)
            await b.until(lambda: b.opener.board.idle, "the channel is idle again")
        assert b.outcomes() == [Outcome.FINISHED] * 5
        assert far.data == b"hello" * 5
        assert b.counts() == (1, 0, 0)
        assert b.metrics.channels_opened == 1
        await b.close()

    run(kind, main)


@on_both_loops
def test_sources_wait_in_order_and_are_served_as_channels_come(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        for number in range(3):
            b.connect(bytes([number]))
        assert b.counts() == (0, 0, 3)
        first, second = await b.join(), await b.join()
        await b.until(lambda: first.data + second.data == b"\x00\x01", "two are served")
        assert b.counts() == (0, 2, 1)
        b.users[1].shutdown(socket.SHUT_WR)
        await b.until(lambda: second.kinds[-1:] == [frames.FIN], "the end of the second")
        second.tls.write(FIN + DONE)
        await b.until(lambda: second.data == b"\x01\x02", "the third on the channel of the second")
        await b.close()
        assert b.outcomes() == [Outcome.FINISHED, Outcome.STOPPED, Outcome.STOPPED]

    run(kind, main)


@on_both_loops
def test_a_source_that_waited_too_long_is_reset(kind: str) -> None:
    async def main() -> None:
        b = Bench(wait_s=0.01)
        user = b.connect()
        await b.until(lambda: b.ends, "given up")
        ((source, outcome, detail),) = b.ends
        assert (source.stream, outcome) == (None, Outcome.NO_CHANNEL)
        assert detail.startswith("no reverse-proxy of group '0' that trusts this key, and is")
        with pytest.raises(ConnectionResetError):
            user.recv(1)
        b.connect()
        b.relay.pool.trouble = "the relay is not there"
        await b.until(lambda: len(b.ends) == 2, "given up")
        assert b.ends[1][2] == "the relay is not there"
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_channel_that_was_silent_proves_that_it_lives(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_S", -1.0)

    async def main() -> None:
        b = Bench()
        far = await b.join()
        b.connect(b"secret")
        await b.until(lambda: far.kinds == [frames.PING, frames.OPEN], "asked")
        assert far.data == b""
        assert b.counts() == (0, 1, 0)
        far.tls.write(PONG)
        await b.until(lambda: far.data == b"secret", "the bytes follow")
        await b.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("broken", ["far end closed", "reset"])
def test_two_hundred_dead_channels_cost_a_source_nothing(
    kind: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that died took all channels with it; each is found out as it is tried."""
    monkeypatch.setattr(module, "FRESH_S", -1.0)

    async def main() -> None:
        b = Bench()
        fars = [await b.join() for _ in range(200)]
        for line in b.relay.lines:
            line.channel.pause()  # its reader has not looked yet
        for far in fars:
            if broken == "reset":
                far.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            far.tls.close()
        await turns()
        b.fars.clear()
        live = await b.join(b"L" * 16)
        loop = asyncio.get_running_loop()
        line = next(each for each in b.relay.lines if each.instance == b"L" * 16)
        b.opener.board._idle.stream_began(line.instance)  # so that it is asked last
        b.connect(b"patience")
        del loop
        for each in list(b.relay.lines):
            each.channel.resume()
        await b.until(lambda: live.kinds[:2] == [frames.PING, frames.OPEN], "the live one is asked")
        live.tls.write(PONG)
        await b.until(lambda: live.data == b"patience", "served")
        b.opener.board._idle.stream_ended(line.instance)
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_retired_channel_is_closed_only_when_its_last_frame_is_out(kind: str) -> None:
    """The FIN may still wait for room in the kernel when the stream has finished."""

    async def main() -> None:
        b = Bench()
        far = await b.join()
        (line,) = b.relay.lines
        user = b.connect(b"all there is")
        await b.until(lambda: far.data, "served")
        far.tls.write(frames.encode(frames.GOAWAY) + FIN)  # the destination has said all
        await b.until(lambda: line.channel.retired, "GOAWAY and FIN")
        session = line.channel._session
        send = session._send

        def no_room(data: bytes) -> int:
            session._send = send
            raise BlockingIOError

        session._send = no_room  # type: ignore[assignment]
        user.shutdown(socket.SHUT_WR)
        await b.until(lambda: far.kinds[-1] == frames.FIN, "the last frame")
        assert not far.ended
        far.tls.write(DONE)
        await b.until(lambda: far.ended, "closed")
        assert b.outcomes() == [Outcome.FINISHED]
        assert b.counts() == (0, 0, 0)
        await b.close()

    run(kind, main)


@on_both_loops
def test_an_idle_channel_is_left_when_its_partner_asks_for_it(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        far = await b.join()
        far.tls.write(frames.encode(frames.GOAWAY))
        await b.until(lambda: far.ended, "left")
        assert b.counts() == (0, 0, 0)
        await b.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize("wire", [frames.encode(frames.DATA, b"x"), FIN, DONE])
def test_frames_on_an_idle_channel_end_it(kind: str, wire: bytes) -> None:
    async def main() -> None:
        b = Bench()
        far = await b.join()
        far.tls.write(wire)
        await b.until(lambda: far.ended, "ended")
        assert b.counts() == (0, 0, 0)
        assert b.metrics.channels_closed == 1
        await b.close()

    run(kind, main)


@on_both_loops
def test_a_refused_stream_gives_its_channel_back(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        far = await b.join()
        b.connect()
        await b.until(lambda: far.kinds == [frames.OPEN], "OPEN")
        far.tls.write(frames.encode_refused(frames.Refused("unreachable", "no")))
        await b.until(lambda: b.ends, "refused")
        assert b.outcomes() == [Outcome.REFUSED]
        await b.until(lambda: far.kinds[-1] == frames.FIN, "FIN")
        far.tls.write(DONE)
        await b.until(lambda: b.counts() == (1, 0, 0), "the channel is idle again")
        await b.close()

    run(kind, main)


@on_both_loops
def test_channels_of_a_key_that_is_gone_end_with_their_streams(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        await b.join()
        await b.join()
        b.connect()
        b.trusted = False
        b.opener.drop_untrusted(b.relay)
        assert b.outcomes() == [Outcome.LOST]
        assert b.ends[0][2] == "the partner's key is no longer trusted"
        assert b.counts() == (0, 0, 0)
        await b.close()

    run(kind, main)


@on_both_loops
def test_what_a_burst_has_left_over_is_closed_oldest_first(kind: str) -> None:
    async def main() -> None:
        b = Bench(linger_s=0.02)
        lines: list[Line] = []
        for _ in range(6):
            await b.join()
            lines += b.relay.lines - set(lines)
        loop = asyncio.get_running_loop()
        begin = loop.time()

        def shrunk() -> bool:
            b.opener.board.shrink(b.relay, b.opener._wanted(b.relay))
            return b.opener.board.idle == 2

        await until(shrunk, "shrunk")
        assert loop.time() - begin < 5
        await turns()
        assert b.opener.board.idle == 2  # never below the minimum
        await b.close()

    run(kind, main)


@on_both_loops
def test_draining_waits_for_streams_and_for_nothing_else(kind: str) -> None:
    async def main() -> None:
        b = Bench()
        busy, idle = await b.join(), await b.join()
        user = b.connect(b"x")
        await b.until(lambda: busy.data + idle.data, "served")
        served, other = (busy, idle) if busy.data else (idle, busy)
        b.opener.stop()
        quiet = asyncio.create_task(b.opener.quiet())
        await b.until(lambda: other.ended, "the idle one is closed")
        assert not quiet.done()
        user.shutdown(socket.SHUT_WR)
        served.tls.write(FIN)
        await b.until(lambda: b.ends, "the stream is over for its source")
        await turns()
        assert not quiet.done()
        served.tls.write(DONE)
        await b.until(lambda: served.ended, "closed after its stream")
        await asyncio.wait_for(quiet, 5)
        assert b.outcomes() == [Outcome.FINISHED]
        await b.close()

    run(kind, main)
