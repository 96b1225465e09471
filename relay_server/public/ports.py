"""The listening ports of the relay: doors for TCP, sockets for UDP, opened and closed on demand.

*Standing* doors are there from the start, for tunnel clients and for host names; a port that an
exposure asks for is bound when it is granted and let go when nobody holds it any more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from common.addresses import HostPort
from common.datagram_port import DatagramPort
from common.process import descriptor_limit
from common.sockets import bind_udp, listen
from common.wire import Kind
from relay_server.admission import Admission, places
from relay_server.metrics import Metrics
from relay_server.public.claims import Claim
from relay_server.public.door import Door, Router, Services
from relay_server.public.peek import Peek

MakeDatagramPort = Callable[[socket.socket], DatagramPort]


class Ports:
    """Every port the relay listens on.

    Args:
        host: where public ports are bound; empty or ``*`` for all addresses.
        router: where connections go.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, router: Router, metrics: Metrics
    ) -> None:
        self.host = host
        self._loop = loop
        self._router = router
        self._metrics = metrics
        self._doors: dict[int, Door] = {}
        self._standing: set[int] = set()
        self._http = self._https = 0  # the ports of host names, if they are served
        self.ends_tls = False
        """Whether names of kind http are served over TLS as well."""
        self._datagrams: dict[int, DatagramPort] = {}
        self._fresh: dict[tuple[Kind, int], socket.socket] = {}  # bound for a claim to come
        self._places = places(descriptor_limit())
        self._strangers: Admission[Peek] = Admission(in_all=self._places)

    @property
    def undecided(self) -> int:
        """Connections whose first bytes are awaited."""
        return len(self._strangers)

    def stand(self, host: str, port: int, services: Services) -> HostPort:
        """Open a door for good, or let one serve more; return where it listens.

        Raises:
            SettingError: the port cannot be bound.
        """
        door = self._doors.get(port) if port else None
        if door is None:
            door = self._open_door(listen(host, port), services)
        else:
            door.services.tunnel |= services.tunnel
            door.services.http |= services.http
            door.services.https |= services.https
        self._standing.add(door.address.port)
        if services.http:
            self._http = door.address.port
        if services.https:
            self._https = door.address.port
        return door.address

    def free_port(self, kind: Kind) -> int:
        """Return a port that nobody has, bound for the claim that :meth:`open` will bring.

        Raises:
            SettingError: there is none.
        """
        sock = bind_udp(self.host, 0) if kind == "udp" else listen(self.host, 0)
        port: int = sock.getsockname()[1]
        self._fresh[kind, port] = sock
        return port

    def drop_fresh(self) -> None:
        """Let go of ports that were bound for a claim that was not granted."""
        while self._fresh:
            self._fresh.popitem()[1].close()

    def open_tcp(self, port: int) -> None:
        """Listen on a TCP port, if we do not yet.

        Raises:
            SettingError: the port cannot be bound.
        """
        if port not in self._doors:
            sock = self._fresh.pop(("tcp", port), None) or listen(self.host, port)
            self._open_door(sock, Services())

    def open_udp(self, port: int, make: MakeDatagramPort) -> None:
        """Take datagrams on a UDP port; what was there is closed, with its flows.

        Raises:
            SettingError: the port cannot be bound.
        """
        old = self._datagrams.pop(port, None)
        if old is not None:
            old.close()
        sock = self._fresh.pop(("udp", port), None) or bind_udp(self.host, port)
        self._datagrams[port] = make(sock)

    def close_udp(self, port: int) -> None:
        """Let go of a UDP port."""
        datagrams = self._datagrams.pop(port, None)
        if datagrams is not None:
            datagrams.close()

    def close_tcp(self, port: int) -> None:
        """Let go of a TCP port, unless it serves more than exposures."""
        if port not in self._standing:
            door = self._doors.pop(port, None)
            if door is not None:
                door.close()

    def close(self) -> None:
        """Let go of everything; whoever has been led on lives on. May be called twice."""
        self.drop_fresh()
        for look in self._strangers.everybody():
            look.cancel()
        self._strangers = Admission(in_all=self._places)
        for door in self._doors.values():
            door.close()
        for datagrams in self._datagrams.values():
            datagrams.close()
        self._doors.clear()
        self._datagrams.clear()

    def words(self, claim: Claim) -> str:
        """Return how people get to what is claimed: an address, or URLs.

        The address is empty if the relay listens on all: it does not know by which it is known.
        """
        if claim.kind in ("tcp", "udp"):
            address = HostPort("" if self.host in ("", "*") else self.host, claim.port)
            return f"{address}/udp" if claim.kind == "udp" else str(address)
        urls = []
        for scheme, usual, port in (("http", 80, self._http), ("https", 443, self._https)):
            if port and (scheme == claim.kind or (scheme == "https" and self.ends_tls)):
                urls.append(f"{scheme}://{claim.host}" + f":{port}" * (port != usual))
        return " ".join(urls)

    def _open_door(self, sock: socket.socket, services: Services) -> Door:
        door = Door(self._loop, sock, services, self._router, self._strangers, self._metrics)
        self._doors[door.address.port] = door
        return door
