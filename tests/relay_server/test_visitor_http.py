"""A visitor's HTTP connection over loopback TCP; the service's side of the channel is a test's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from common import frames
from common.addresses import HostPort
from common.channel import Channel
from common.outcome import Outcome
from common.session import Session
from relay_server.http import pages
from relay_server.http.exchange import Customer, Exchange
from relay_server.http.patience import IDLE_S, STALL_S
from relay_server.http.visitor import HttpVisitor
from relay_server.http.wires import PlainWire
from tests.common.loops import on_both_loops, run, turns, until
from tests.common.sessions import session_pair, tcp_pair

VISITOR, PUBLIC = HostPort("192.0.2.7", 50000), HostPort("198.51.100.1", 80)
FIN = frames.encode(frames.FIN)


class Service:
    """The acceptor's end of a channel: keeps what comes, says what it is told to."""

    def __init__(self, session: Session) -> None:
        self.received = bytearray()
        self.frames: list[int] = []
        self.lost = False
        self.channel = Channel(asyncio.get_running_loop(), session, self, 10.0)

    def on_data(self, data: memoryview) -> int:
        self.received += data
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        self.frames.append(kind)

    def on_drained(self) -> None:
        pass

    def on_tick(self) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        self.lost = True

    def say(self, data: bytes) -> None:
        self.channel.write(frames.encode(frames.DATA, data))


class Idle(Service):
    """Holds the opener's end until an exchange takes it."""


@dataclass
class House:
    """The services by host name, each with channels at the ready."""

    visitor: socket.socket
    services: dict[str, list[Service]] = field(default_factory=dict)
    idle: dict[str, list[Channel]] = field(default_factory=dict)
    got: bytearray = field(default_factory=bytearray)
    over: list[HttpVisitor] = field(default_factory=list)
    http: HttpVisitor | None = None

    def find(self, host: str) -> Target | None:
        return Target(self, host) if host in self.services else None

    def say(self, data: bytes) -> None:
        assert self.visitor.send(data) == len(data)

    def read(self) -> bytes | None:
        """All that has come; None after a RST."""
        with contextlib.suppress(BlockingIOError):
            try:
                while piece := self.visitor.recv(1 << 20):
                    self.got += piece
            except ConnectionError:
                return None
        return bytes(self.got)

    async def gets(self, what: bytes) -> None:
        await until(lambda: what in (self.read() or b""), f"the visitor gets {what!r}")

    async def ends(self) -> None:
        await until(lambda: self.over, "the connection is over")

    def service(self, host: str = "a.example", number: int = 0) -> Service:
        return self.services[host][number]

    async def asked(self, what: bytes, host: str = "a.example", number: int = 0) -> Service:
        service = self.service(host, number)
        await until(lambda: what in service.received, f"the service is asked {what!r}")
        return service


@dataclass(frozen=True)
class Target:
    house: House
    host: str
    host_header: bytes = b""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and other.host == self.host

    def open(
        self, address: HostPort, entered_at: HostPort, first: bytes, customer: Customer
    ) -> Exchange | pages.Page:
        loop = asyncio.get_running_loop()
        exchange = Exchange(loop, lambda: b"", first, customer, lambda: None)
        if self.house.idle[self.host]:
            exchange.begin(self.house.idle[self.host].pop(0), b"", 10.0, lambda: None)
        else:
            exchange.fail(Outcome.NO_CHANNEL, "none")
        return exchange


def played(kind: str, play: Callable[[House], Awaitable[None]], buffer: int = 0) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = tcp_pair(buffer)
        house = House(left)
        channels: list[Channel] = []
        for host in ("a.example", "b.example"):
            house.services[host], house.idle[host] = [], []
            for _ in range(2):
                one, other = await session_pair()
                idle, service = Idle(one), Service(other)
                house.services[host].append(service)
                house.idle[host].append(idle.channel)
                channels += [idle.channel, service.channel]
        house.http = HttpVisitor(
            loop, PlainWire(right), VISITOR, PUBLIC, "http", None, house.find, house.over.append
        )
        house.http.start()
        try:
            await play(house)
        finally:
            house.http.abort()
            left.close()
            for channel in channels:
                channel.close()

    run(kind, main)


def get(path: str, host: str = "a.example", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@on_both_loops
def test_each_request_goes_to_its_own_host(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/1") + get("/2") + get("/3", "b.example"))
        first = await house.asked(b"GET /1 ")
        assert b"/2" not in first.received  # in order, one at a time
        first.say(ok(b"one"))
        await house.asked(b"GET /2 ")
        first.say(ok(b"two"))
        other = await house.asked(b"GET /3 ", "b.example")
        assert frames.FIN in first.frames or await fin(first)
        other.say(ok(b"three"))
        await house.gets(b"three")
        assert house.got.index(b"one") < house.got.index(b"two")
        assert b"X-Forwarded-For: 192.0.2.7\r\n" in other.received

    played(kind, play)


async def fin(service: Service) -> bool:
    await until(lambda: frames.FIN in service.frames, "the stream is ended")
    return True


@on_both_loops
def test_bytes_behind_an_answer_reach_nobody(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/1") + get("/2"))
        service = await house.asked(b"GET /1 ")
        service.say(ok(b"one") + ok(b"poison"))
        again = await house.asked(b"GET /2 ", number=1)  # over another stream
        again.say(ok(b"two"))
        await house.gets(b"two")
        assert b"poison" not in house.got

    played(kind, play)


ENDINGS: dict[str, tuple[bytes, bool]] = {
    "before the answer": (b"", True),
    "within the head": (b"HTTP/1.1 200 O", True),
    "within the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", False),
    "within a body without a length": (b"HTTP/1.1 200 OK\r\n\r\nabc", False),
    "within a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", False),
}


@on_both_loops
@pytest.mark.parametrize(("said", "page"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_lost_channel_is_a_page_or_a_reset(kind: str, said: bytes, page: bool) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        if said:
            service.say(said)
            await turns()
        if not page:
            await house.gets(b"HTTP/1.1 200")
        service.channel.abort()
        if page:
            await house.gets(b"HTTP/1.1 502")
        else:
            await house.ends()
            await until(lambda: house.read() is None, "the visitor is reset")

    played(kind, play)


@on_both_loops
def test_an_answer_without_a_length_ends_with_the_connection(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        service.channel.write(FIN)
        await house.gets(b"Connection: close\r\n\r\nabc")

    played(kind, play)


@on_both_loops
def test_a_visitor_that_leaves_resets_the_stream(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc")
        service = await house.asked(b"abc")
        house.visitor.close()
        await until(lambda: frames.RESET in service.frames or service.lost, "the stream is reset")

    played(kind, play)


UPGRADE = get("/", more="Connection: Upgrade\r\nUpgrade: websocket\r\n")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@on_both_loops
@pytest.mark.parametrize("first", ["visitor", "service"])
def test_a_websocket_is_bytes_both_ways_and_ends_at_both_ends(kind: str, first: str) -> None:
    async def play(house: House) -> None:
        house.say(UPGRADE)
        service = await house.asked(b"Upgrade: websocket")
        service.say(SWITCHED + b"\x81\x00")
        await house.gets(b"\r\n\r\n\x81\x00")
        house.say(b"\n\0anything")
        await house.asked(b"\n\0anything")
        if first == "visitor":
            house.visitor.shutdown(socket.SHUT_WR)
            await fin(service)
            service.say(b"last words")
            service.channel.write(FIN)
            await house.gets(b"last words")
        else:
            service.say(b"last words")
            service.channel.write(FIN)
            await house.gets(b"last words")
            house.say(b"more")
            await house.asked(b"more")
            house.visitor.shutdown(socket.SHUT_WR)
            await fin(service)
        await house.ends()

    played(kind, play)


@on_both_loops
def test_a_switch_that_was_not_asked_for_is_a_bad_gateway(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        (await house.asked(b"GET / ")).say(SWITCHED)
        await house.gets(b"HTTP/1.1 502")

    played(kind, play)


@on_both_loops
def test_a_trick_in_a_body_ends_the_connection(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        service = await house.asked(b"POST / ")
        house.say(b"1\na\r\n0\r\n\r\n" + get("/smuggled"))
        await house.gets(b"HTTP/1.1 400")
        await until(lambda: frames.RESET in service.frames or service.lost, "the stream is reset")
        assert b"smuggled" not in service.received

    played(kind, play)


@on_both_loops
def test_a_trick_in_a_body_after_the_answer_began_is_a_reset(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        service = await house.asked(b"POST / ")
        service.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await house.gets(b"abc")
        house.say(b"x\r\n")
        await house.ends()
        await until(lambda: house.read() is None, "the visitor is reset")

    played(kind, play)


@on_both_loops
def test_who_asks_without_reading_is_not_read(kind: str) -> None:
    async def play(house: House) -> None:
        asked = get("/", "nobody.example") * 200
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 1 << 24:
                sent += house.visitor.send(asked)
                await turns(5)
        assert sent < 1 << 22
        assert house.http is not None
        assert house.http.sent < 1 << 24

    played(kind, play, buffer=16384)


@on_both_loops
def test_a_large_answer_waits_for_the_visitor_and_is_whole(kind: str) -> None:
    size = 16 << 20

    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(range(256)) * 256
        for _ in range(size // len(piece)):
            service.say(piece)
        await turns(50)
        assert house.http is not None
        assert house.http.sent < size  # the rest waits in the channel
        await until(lambda: len(house.read() or b"") >= size, "all has come")
        assert house.got.endswith(piece)

    played(kind, play)


# Visitors that take their time


def http(house: House) -> HttpVisitor:
    assert house.http is not None
    return house.http


def later(house: House, seconds: float) -> None:
    """Let so much time pass for the visitor's limits."""
    http(house).sweep(asyncio.get_running_loop().time() + seconds)


POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc"


@on_both_loops
def test_who_stalls_in_a_body_is_told_so_and_the_service_is_let_go(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(POST)
        service = await house.asked(b"abc")
        later(house, STALL_S - 1)
        await turns()
        assert not service.frames
        later(house, STALL_S + 1)
        await house.gets(b"HTTP/1.1 408")
        await until(lambda: frames.RESET in service.frames or service.lost, "the stream is reset")

    played(kind, play)


@on_both_loops
def test_who_stalls_in_a_body_whose_answer_has_begun_is_reset(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(POST)
        (await house.asked(b"abc")).say(ok(b"some")[:-1])
        await house.gets(b"som")
        later(house, STALL_S + 1)
        await house.ends()
        await until(lambda: house.read() is None, "the visitor is reset")

    played(kind, play)


@on_both_loops
def test_a_service_that_takes_no_body_is_not_the_visitor_s_fault(kind: str) -> None:
    size = 64 << 20

    async def play(house: House) -> None:
        house.say(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size)
        service = await house.asked(b"POST / ")
        service.channel.pause()
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < size:
                sent += house.visitor.send(bytes(1 << 16))
                await turns(5)
        assert sent < size
        later(house, 10 * STALL_S)
        await turns()
        assert not house.over
        assert house.read() == b""

    played(kind, play)


@on_both_loops
def test_who_takes_nothing_of_its_answer_is_cut_off(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 << 20))
        for _ in range(4):
            service.say(bytes(1 << 20))
        await until(lambda: http(house).sent > 0, "the answer has begun")
        await turns(50)
        later(house, STALL_S - 5)
        await turns()
        assert not house.over
        later(house, STALL_S + 1)
        await house.ends()
        await until(lambda: frames.RESET in service.frames or service.lost, "the stream is reset")

    played(kind, play, buffer=16384)


@on_both_loops
def test_empty_lines_keep_no_connection_alive(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"\r\n")
        await turns(50)
        later(house, IDLE_S - 1)
        assert not house.over
        house.say(b"\r\n")
        await house.gets(b"HTTP/1.1 400")

    played(kind, play)


@on_both_loops
def test_an_empty_line_before_each_request_is_nothing(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"\r\n" + get("/1"))
        (await house.asked(b"GET /1 ")).say(ok(b"one"))
        await house.gets(b"one")
        house.say(b"\r\n")
        await turns()
        house.say(get("/2"))
        (await house.asked(b"GET /2 ")).say(ok(b"two"))
        await house.gets(b"two")

    played(kind, play)


@on_both_loops
def test_a_visitor_that_was_reset_behind_its_request_is_noticed(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(get("/"))
        service = await house.asked(b"GET / ")
        http(house)._connection.stop_reading()  # as if the loop had been told once, and too early
        house.visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        house.visitor.close()
        await turns()
        assert not house.over
        later(house, 1)
        await house.ends()
        await until(lambda: frames.RESET in service.frames or service.lost, "the stream is reset")

    played(kind, play)


@on_both_loops
def test_requests_that_come_together_are_answered_in_turns(kind: str) -> None:
    async def play(house: House) -> None:
        count = 500
        house.say(get("/", "nobody.example") * count)
        seen = 0
        while http(house).requests < count:
            await asyncio.sleep(0)
            assert http(house).requests - seen <= 2  # uvloop's turn may be two of asyncio's
            seen = http(house).requests
            house.read()
        await until(lambda: (house.read() or b"").count(b"HTTP/1.1 404") == count, "all answered")

    played(kind, play)


# What a service may answer


@on_both_loops
def test_an_old_visitor_gets_no_chunks(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        service = await house.asked(b"GET / HTTP/1.0")
        service.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel")
        service.say(b"lo\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n")
        await house.gets(b"world")
        house.visitor.shutdown(socket.SHUT_WR)
        await house.ends()
        head, _, body = bytes(house.got).partition(b"\r\n\r\n")
        assert body == b"hello world"
        assert b"chunked" not in head
        assert b"Connection: close" in head

    played(kind, play)


@on_both_loops
def test_an_old_visitor_sees_that_its_answer_was_cut(kind: str) -> None:
    async def play(house: House) -> None:
        house.say(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        service = await house.asked(b"GET / HTTP/1.0")
        service.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        await house.gets(b"hel")
        service.channel.write(FIN)
        await house.ends()
        await until(lambda: house.read() is None, "the visitor is reset")

    played(kind, play)


@on_both_loops
@pytest.mark.parametrize("protocol", ["", "Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n"])
def test_a_switch_to_another_protocol_is_a_bad_gateway(kind: str, protocol: str) -> None:
    async def play(house: House) -> None:
        house.say(UPGRADE)
        service = await house.asked(b"Upgrade: websocket")
        service.say(f"HTTP/1.1 101 Switching Protocols\r\n{protocol}\r\n".encode())
        await house.gets(b"HTTP/1.1 502")

    played(kind, play)
