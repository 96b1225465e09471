"""A visitor's HTTP connection over loopback TCP; the services' side of the channels is a test's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.addresses import HostPort
from common.channel import Channel
from common.outcome import Outcome
from relay_server.http import pages
from relay_server.http.exchange import Customer, Exchange
from relay_server.http.visitor import HttpVisitor
from relay_server.http.wires import PlainWire
from tests.common.loops import run, until
from tests.common.sessions import session_pair, tcp_pair
from tests.relay_server.ends import Idle, Service, Visitor

VISITOR, PUBLIC = HostPort("192.0.2.7", 50000), HostPort("198.51.100.1", 80)


@dataclass
class House:
    """The services by host name, each with channels at the ready."""

    visitor: Visitor
    services: dict[str, list[Service]] = field(default_factory=dict)
    idle: dict[str, list[Channel]] = field(default_factory=dict)
    over: list[HttpVisitor] = field(default_factory=list)
    http: HttpVisitor | None = None

    def find(self, host: str) -> Target | None:
        return Target(self, host) if host in self.services else None

    def say(self, data: bytes) -> None:
        assert self.visitor.sock.send(data) == len(data)

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
        house = House(Visitor(left))
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


UPGRADE = get("/", more="Connection: Upgrade\r\nUpgrade: websocket\r\n")
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def http(house: House) -> HttpVisitor:
    assert house.http is not None
    return house.http


def later(house: House, seconds: float) -> None:
    """Let so much time pass for the visitor's limits."""
    http(house).sweep(asyncio.get_running_loop().time() + seconds)
