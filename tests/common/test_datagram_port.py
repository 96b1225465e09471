from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from common import datagram_port, frames
from common.datagram_port import DatagramPort
from common.errors import ProtocolError
from common.flow_table import LAST_NUMBER, SPARE_NUMBERS
from common.outcome import Outcome
from common.sockets import bind_udp
from common.switchboard import Caller
from entry_point.metrics import Metrics
from tests.common.loops import on_both_loops, run, turns, until

REQUEST = b"request"
FIN = frames.encode(frames.FIN)


class FakeChannel:
    """Writes down what is sent; drains when it is told to."""

    def __init__(self) -> None:
        self.handler: Any = None
        self.sent = b""
        self.drained = True
        self.closed = False

    def write(self, data: bytes) -> bool:
        self.sent += data
        return self.drained

    def close(self) -> None:
        self.closed = True

    abort = close

    def frames(self) -> list[tuple[int, bytes]]:
        """Return what was sent since the last time."""
        view, self.sent = memoryview(self.sent.removeprefix(REQUEST)), b""
        reader, position, found = frames.FrameReader(), 0, []
        while position < len(view):
            kind, payload, position = reader.next(view, position)
            found.append((kind, bytes(payload)))
        return found


class Bench:
    """A port, the channels it gets, and its clients."""

    def __init__(self, idle_s: float = 60, admits: bool = True) -> None:
        self.asked = 0
        self.ended = 0
        self.metrics = Metrics()
        self.channel = FakeChannel()
        self.port = DatagramPort(
            asyncio.get_running_loop(),
            bind_udp("127.0.0.1", 0),
            admits=lambda _: admits,
            ask=lambda: REQUEST,
            open_channel=self._open,
            idle_s=idle_s,
            counts=self.metrics,
            name="53:53/udp",
        )

    def _open(self, caller: Caller) -> None:
        assert caller is self.port
        self.asked += 1

    def _on_end(self) -> None:
        self.ended += 1

    def begin(self) -> None:
        channel: Any = self.channel
        self.port.begin(channel, self.port.request(), 1.0, self._on_end)

    def client(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((self.port.address.host, self.port.address.port))
        return sock

    async def sent(self, *kinds: int) -> list[bytes]:
        """Wait for exactly these frames, and return what is in them."""
        await until(lambda: self.channel.sent, "frames")
        await turns()
        found = self.channel.frames()
        assert [kind for kind, _ in found] == list(kinds)
        return [payload for _, payload in found]


def reply(number: int, data: bytes) -> bytes:
    return frames.FLOW_ID.pack(number) + data


@on_both_loops
def test_flows_share_a_channel_and_replies_find_their_own_source(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        with bench.client() as one, bench.client() as two:
            one.send(b"1")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            flow, datagram = await bench.sent(frames.FLOW, frames.DATAGRAM)
            assert frames.decode_flow(flow) == frames.Flow(1, *one.getsockname())
            assert datagram == reply(1, b"1")
            two.send(b"")
            assert (await bench.sent(frames.FLOW, frames.DATAGRAM))[1] == reply(2, b"")
            bench.port.on_frame(frames.DATAGRAM, reply(2, b"for two"))
            bench.port.on_frame(frames.DATAGRAM, reply(3, b"for nobody"))
            assert two.recv(64) == b"for two"
            with pytest.raises(BlockingIOError):
                one.recv(64)
            assert bench.asked == 1
            bench.port.close()
            assert bench.channel.frames() == [(frames.FIN, b"")]

    run(kind, main)


@on_both_loops
def test_a_late_reply_of_the_stream_before_finds_no_flow_of_the_next(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        with bench.client() as old, bench.client() as new:
            old.send(b"old")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            await bench.sent(frames.FLOW, frames.DATAGRAM)
            bench.port.on_frame(frames.GOAWAY, b"")
            await bench.sent(frames.FIN)
            new.send(b"new")
            await until(lambda: bench.port.flows, "the next flow")
            bench.port.on_frame(frames.DATAGRAM, reply(1, b"for old"))
            bench.port.on_frame(frames.FORGET, frames.FLOW_ID.pack(1))
            with pytest.raises(BlockingIOError):
                new.recv(64)
            bench.port.on_frame(frames.FIN, b"")
            await until(lambda: bench.asked == 2, "the next channel is asked for")
            assert bench.ended == 1
            bench.begin()
            assert (await bench.sent(frames.FLOW, frames.DATAGRAM))[1] == reply(1, b"new")
            bench.port.close()

    run(kind, main)


@on_both_loops
def test_a_refusal_forgets_the_flows_and_is_not_asked_for_again_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagram_port, "AGAIN_S", 0.2)

    async def main() -> None:
        bench = Bench()
        with bench.client() as sock:
            sock.send(b"1")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            await bench.sent(frames.FLOW, frames.DATAGRAM)
            refused = frames.encode_refused(frames.Refused("unresolved", "no such name"))
            bench.port.on_frame(frames.REFUSED, refused[frames.HEADER_SIZE :])
            await bench.sent(frames.FIN)
            assert (bench.ended, bench.port.flows) == (1, 0)
            sock.send(b"2")
            await until(lambda: bench.port.flows, "the datagram is taken")
            assert bench.asked == 1
            await until(lambda: bench.asked == 2, "it is asked for again")
            bench.port.fail(Outcome.NO_CHANNEL, "nobody there")
            assert bench.port.flows == 0
            bench.port.close()

    run(kind, main)


@on_both_loops
def test_the_last_flow_that_expires_ends_the_stream(kind: str) -> None:
    async def main() -> None:
        bench = Bench(idle_s=0.1)
        with bench.client() as sock:
            sock.send(b"1")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            await bench.sent(frames.FLOW, frames.DATAGRAM)
            await bench.sent(frames.FORGET, frames.FIN)
            bench.port.on_frame(frames.FIN, b"")
            assert bench.ended == 1
            bench.port.close()

    run(kind, main)


@on_both_loops
def test_what_waits_for_the_channel_is_bounded_and_counted(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        with bench.client() as sock:
            sock.send(b"first")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            await bench.sent(frames.FLOW, frames.DATAGRAM)
            bench.channel.drained = False
            for number in range(40):
                sock.send(bytes([number]) * 60_000)
                await turns(2)
            await until(lambda: bench.metrics.datagrams_sent == 41, "all are read")
            assert bench.channel.sent == b""
            bench.channel.drained = True
            bench.port.on_drained()
            found = bench.channel.frames()
            assert found[-1][1] == reply(1, bytes([39]) * 60_000)
            assert len(found) + bench.metrics.datagrams_dropped == 40
            assert sum(len(payload) for _, payload in found) <= 1024 * 1024
            bench.port.close()

    run(kind, main)


@on_both_loops
def test_what_breaks_the_rules_is_a_protocol_error(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        for frame, payload in [
            (frames.DATAGRAM, b"\0\0"),
            (frames.DATAGRAM, reply(0, b"")),
            (frames.FORGET, b""),
            (frames.FLOW, b""),
            (frames.OPEN, b""),
            (frames.DONE, b""),
        ]:
            with pytest.raises(ProtocolError):
                bench.port.on_frame(frame, payload)
        bench.port.close()

    run(kind, main)


@on_both_loops
def test_a_source_that_is_not_admitted_costs_no_channel(kind: str) -> None:
    async def main() -> None:
        bench = Bench(admits=False)
        with bench.client() as sock:
            sock.send(b"1")
            await until(lambda: bench.metrics.datagrams_dropped == 1, "it is dropped")
        assert (bench.asked, bench.port.flows) == (0, 0)
        bench.port.close()

    run(kind, main)


@on_both_loops
def test_a_stream_ends_before_its_flows_run_out_of_numbers(kind: str) -> None:
    async def main() -> None:
        bench = Bench()
        with bench.client() as first, bench.client() as second:
            first.send(b"1")
            await until(lambda: bench.asked, "a channel is asked for")
            bench.begin()
            await bench.sent(frames.FLOW, frames.DATAGRAM)
            bench.port._flows._last = LAST_NUMBER - SPARE_NUMBERS
            second.send(b"2")
            flow, _ = await bench.sent(frames.FLOW, frames.DATAGRAM)
            assert frames.decode_flow(flow).id == LAST_NUMBER - SPARE_NUMBERS + 1
            second.send(b"3")
            await bench.sent(frames.FIN)
            bench.port.on_frame(frames.FIN, b"")
            await until(lambda: bench.asked == 2, "the next channel is asked for")
            bench.begin()
            assert (await bench.sent(frames.FLOW, frames.DATAGRAM))[1] == reply(1, b"3")
            bench.port.close()

    run(kind, main)
