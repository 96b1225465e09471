"""A door: who is meant by a connection to it."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest

from common.addresses import HostPort
from common.sockets import listen
from common.wire import ALPN
from relay_server.admission import Admission
from relay_server.metrics import Metrics
from relay_server.public import door as module
from relay_server.public.door import Door, Services
from relay_server.public.peek import Peek
from tests.common.loops import on_both_loops, run, turns, until
from tests.relay_server.test_first_bytes import hello

TUNNEL = hello("relay.example.org", [ALPN])
KNOWN = hello("known.example.org")
UNKNOWN = hello("unknown.example.org")
HTTP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.9\r\n"


class House:
    """A door, who waits behind it, and who has come."""

    def __init__(
        self, *services: str, exposed: bool = False, strangers: Admission[Peek] | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.exposed = exposed
        self.came: list[tuple[str, socket.socket, HostPort]] = []
        self.metrics = Metrics()
        self.strangers: Admission[Peek] = Admission() if strangers is None else strangers
        flags = dict.fromkeys(services, True)
        self.door = Door(
            loop, listen("127.0.0.1", 0), Services(**flags), self, self.strangers, self.metrics
        )
        self.clients: list[socket.socket] = []

    def tunnel(self, sock: socket.socket, address: HostPort) -> None:
        self.came.append(("tunnel", sock, address))

    def has_exposure(self, port: int) -> bool:
        assert port == self.door.address.port
        return self.exposed

    def visit_port(self, sock: socket.socket, address: HostPort, port: int) -> None:
        assert port == self.door.address.port
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\1\0\0\0\0\0\0\0"
        self.came.append(("port", sock, address))

    def visit_name(
        self, sock: socket.socket, address: HostPort, port: int, sni: str | None
    ) -> bool:
        if sni != "known.example.org":
            return False
        self.came.append(("name", sock, address))
        return True

    def visit_http(self, sock: socket.socket, address: HostPort, port: int) -> None:
        self.came.append(("http", sock, address))

    def knock(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.door.address.port), 5)
        client.sendall(data)
        self.clients.append(client)
        return client

    async def where(self, data: bytes) -> str:
        """Return to whom a client is led that says ``data``; "away" if to nobody."""
        before = len(self.came)
        client = self.knock(data)
        client.setblocking(False)
        await until(lambda: len(self.came) > before or is_reset(client), "led somewhere")
        if len(self.came) == before:
            return "away"
        to, sock, address = self.came[-1]
        assert address == HostPort(*client.getsockname())
        assert not data or sock.recv(2 * len(data)) == data
        return to

    def close(self) -> None:
        self.door.close()
        assert len(self.strangers) == 0
        for sock in [*self.clients, *(each[1] for each in self.came)]:
            sock.close()


def is_reset(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "SILENT_S", 0.03)
    patch.setattr(module, "DEADLINE_S", 0.3)


SAYS = {"tunnel": TUNNEL, "known": KNOWN, "unknown": UNKNOWN, "http": HTTP, "ssh": SSH, "": b""}


def expected(services: set[str], exposed: bool, says: str) -> str:
    """The table at the top of the module, and where a door has one use, that."""
    if services == {"tunnel"} and not exposed:
        return "tunnel"
    if services == {"http"} and not exposed:
        return "http"
    if says == "tunnel" and "tunnel" in services:
        return "tunnel"
    if says == "known" and "https" in services:
        return "name"
    if says == "http" and "http" in services:
        return "http"
    if exposed:
        return "port"
    return "tunnel" if "tunnel" in services else "away"


ALL_SERVICES = [
    set(each)
    for count in range(4)
    for each in itertools.combinations(("tunnel", "http", "https"), count)
]


@on_both_loops
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("services", ALL_SERVICES, ids=lambda each: "+".join(sorted(each)) or "-")
def test_who_is_meant(
    kind: str, services: set[str], exposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        quick(monkeypatch)
        house = House(*services, exposed=exposed)
        for says, data in SAYS.items():
            assert await house.where(data) == expected(services, exposed, says), says
        house.close()

    run(kind, main)


@on_both_loops
@pytest.mark.parametrize(
    ("services", "exposed", "to"),
    [(["tunnel"], False, "tunnel"), ([], True, "port"), (["http"], False, "http")],
)
def test_where_there_is_no_choice_nothing_is_awaited(
    kind: str, services: list[str], exposed: bool, to: str
) -> None:
    async def main() -> None:
        house = House(*services, exposed=exposed)
        house.knock()
        await until(lambda: house.came, "led somewhere")
        assert house.came[0][0] == to
        assert len(house.strangers) == 0
        house.close()

    run(kind, main)


@on_both_loops
def test_where_nobody_waits_to_be_spoken_to_a_slow_client_is_waited_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first segment may be lost: it comes again after a second."""

    async def main() -> None:
        monkeypatch.setattr(module, "SILENT_S", 0.01)
        house = House("tunnel", "http")
        loop = asyncio.get_running_loop()
        client = house.knock()
        end = loop.time() + 0.05
        await until(lambda: loop.time() > end, "longer than silence")
        assert not house.came
        client.sendall(HTTP)
        await until(lambda: house.came, "led somewhere")
        assert house.came[0][0] == "http"
        house.close()

    run(kind, main)


@on_both_loops
def test_what_is_exposed_meanwhile_counts(kind: str) -> None:
    async def main() -> None:
        house = House("tunnel", "http")
        client = house.knock()
        await until(lambda: len(house.strangers), "awaited")
        house.exposed = True
        client.sendall(SSH)
        await until(lambda: house.came, "led somewhere")
        assert house.came[0][0] == "port"
        house.close()

    run(kind, main)


@on_both_loops
def test_a_closed_door_leads_those_who_are_in(kind: str) -> None:
    async def main() -> None:
        house = House("tunnel", "http")
        client = house.knock()
        await until(lambda: len(house.strangers), "awaited")
        house.door.close()
        house.door.close()
        client.sendall(HTTP)
        await until(lambda: house.came, "led somewhere")
        house.close()

    run(kind, main)


@on_both_loops
def test_silent_connections_do_not_keep_others_out(kind: str) -> None:
    async def main() -> None:
        house = House("tunnel", "https", strangers=Admission(per_source=4, in_all=6))
        silent = [house.knock() for _ in range(10)]
        await until(lambda: house.metrics.connections_evicted == 6, "the oldest have gone")
        for each in silent:
            each.setblocking(False)
        await until(lambda: all(is_reset(each) for each in silent[:6]), "closed")
        assert not any(is_reset(each) for each in silent[6:])
        assert await house.where(KNOWN) == "name"
        assert house.metrics.connections_evicted == 7
        for each in silent[7:]:
            each.sendall(TUNNEL)
        await until(lambda: len(house.came) == 4, "all are led")
        house.close()

    run(kind, main)


@on_both_loops
def test_many_of_all_kinds_and_none_misled(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "SILENT_S", 0.3)
        house = House("tunnel", "http", "https", exposed=True, strangers=Admission(2000, 2000))
        kinds = list(SAYS.items())
        services = {"tunnel", "http", "https"}
        wanted: dict[int, str] = {}
        for batch in range(20):
            for number in range(10):
                says, data = kinds[(batch + number) % len(kinds)]
                client = house.knock(data[:3])
                if data[3:]:
                    client.sendall(data[3:])
                wanted[client.getsockname()[1]] = expected(services, True, says)
            await turns(3)
        await until(lambda: len(house.came) == len(wanted), "all are led")
        assert {address.port: to for to, _, address in house.came} == wanted
        house.close()

    run(kind, main)
