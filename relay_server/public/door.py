"""A door: one TCP port of the relay, and who may be meant by a connection to it.

Up to four things share a port: tunnel clients (the relay's own port), host names over HTTP and over
TLS, and one exposure of the port itself for everything else. Where only one is possible a
connection goes there at once, unseen; where there is a choice its first bytes decide:

======================  ====================================================================
first bytes             whose it is
======================  ====================================================================
TLS with our ALPN       a tunnel client, on the relay's own port
TLS                     the host name in its SNI, if the port serves names over TLS
HTTP                    the host name in its head, if the port serves names over HTTP
anything else, silence  the exposure of the port, or else a tunnel client that fails to log in
======================  ====================================================================
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Final, Protocol

from common.addresses import HostPort
from common.listener import Listener
from common.logs import event
from common.sockets import close_with_reset, end_with_reset
from relay_server.admission import Admission, source_of
from relay_server.metrics import Metrics
from relay_server.public.first_bytes import Http, Other, Silent, Tls, Tunnel, Verdict
from relay_server.public.peek import DEADLINE_S, Peek

log = logging.getLogger(__name__)

SILENT_S: Final = 0.3
"""Seconds after which a connection that says nothing is taken for one that waits to be spoken to:
SSH, SMTP, MySQL. A tunnel client's first bytes come with the end of the TCP handshake. Where
nothing waits to be spoken to nothing is taken for it: a segment that is lost costs a second."""


class Router(Protocol):
    """Where connections go."""

    def tunnel(self, sock: socket.socket, address: HostPort) -> None:
        """Take over a connection of a client of ours."""

    def has_exposure(self, port: int) -> bool:
        """Whether the TCP port itself is exposed."""

    def visit_port(self, sock: socket.socket, address: HostPort, port: int) -> None:
        """Take over a connection for the exposure of the port."""

    def visit_name(
        self, sock: socket.socket, address: HostPort, port: int, sni: str | None
    ) -> bool:
        """Take over a TLS connection for the host name, if it is known or can be answered."""

    def visit_http(self, sock: socket.socket, address: HostPort, port: int) -> None:
        """Take over an HTTP connection in plain text."""


@dataclass(slots=True)
class Services:
    """What a door serves besides the exposure of its port."""

    tunnel: bool = False
    http: bool = False
    https: bool = False


HTTP_ALONE: Final = Services(http=True)


class Door:
    """One listening port.

    Args:
        sock: listening; the door owns it.
        services: what the port serves; may be added to.
        strangers: counts the connections of all doors whose first bytes are awaited.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        services: Services,
        router: Router,
        strangers: Admission[Peek],
        metrics: Metrics,
    ) -> None:
        self.services = services
        self._loop = loop
        self._router = router
        self._strangers = strangers
        self._metrics = metrics
        self._sock = sock
        self._listener = Listener(loop, sock, self._accept)

    @property
    def address(self) -> HostPort:
        """Where it listens."""
        return self._listener.address

    def close(self) -> None:
        """Stop listening; what was accepted lives on. May be called twice."""
        self._listener.close()

    def _accept(self, sock: socket.socket, address: HostPort) -> None:
        services = self.services
        exposed = self._router.has_exposure(self.address.port)
        if not exposed and services.tunnel and not (services.http or services.https):
            self._router.tunnel(sock, address)
        elif exposed and not (services.tunnel or services.http or services.https):
            self._visit_port(sock, address)
        elif services == HTTP_ALONE and not exposed:
            self._router.visit_http(sock, address, self.address.port)
        else:
            self._look(sock, address)

    def _look(self, sock: socket.socket, address: HostPort) -> None:
        source = source_of(address.host)

        def decided(verdict: Verdict) -> None:
            self._strangers.leave(peek, source)
            self._lead(sock, address, verdict)

        exposed = self._router.has_exposure(self.address.port)
        silent_s = SILENT_S if exposed else DEADLINE_S
        peek = Peek(self._loop, sock, decided, silent_s=silent_s)
        evicted = self._strangers.admit(peek, source)
        if evicted is not None:
            self._metrics.connections_evicted += 1
            evicted.cancel()
        peek.start()

    def _lead(self, sock: socket.socket, address: HostPort, verdict: Verdict) -> None:
        """Hand the connection to whom its first bytes are meant for."""
        services, port = self.services, self.address.port
        match verdict:
            case Tunnel() if services.tunnel:
                self._router.tunnel(sock, address)
                return
            case Tls(sni=sni) if services.https:
                if self._router.visit_name(sock, address, port, sni):
                    return
            case Http() if services.http:
                self._router.visit_http(sock, address, port)
                return
            case Tunnel() | Tls() | Http() | Other() | Silent():
                pass
        if self._router.has_exposure(port):
            self._visit_port(sock, address)
        elif services.tunnel:
            self._router.tunnel(sock, address)
        else:
            close_with_reset(sock)
            event(
                log,
                logging.INFO,
                "visitor turned away",
                budget_key="visitor turned away: nothing for it",
                visitor=str(address),
                port=port,
                reason=f"this port serves no {verdict}",
            )

    def _visit_port(self, sock: socket.socket, address: HostPort) -> None:
        end_with_reset(sock)
        self._router.visit_port(sock, address, self.address.port)
