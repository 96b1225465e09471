"""One source: an accepted connection, the route that admits it, and what becomes of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from common import frames
from common.addresses import HostPort
from common.outcome import Outcome
from common.route_grammar import Route
from common.socket_caller import SocketCaller

OnEnd = Callable[["Source", Outcome, str], None]
"""Told of a source, how it ended, and the detail."""


class Source(SocketCaller):
    """A connection that a route admits.

    Args:
        route: what admits it, and where it leads.
        group: the group of its reverse-proxies.
        on_end: called once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        address: HostPort,
        route: Route,
        group: str,
        on_end: OnEnd,
    ) -> None:
        super().__init__(loop, sock, address)
        self.route = route
        self._group = group
        self._on_end = on_end

    def request(self) -> bytes:
        """Return the OPEN frame that asks for this source's destination."""
        return frames.encode_open(
            frames.Open(
                group=self._group,
                protocol="tcp",
                host=self.route.host,
                port=self.route.port,
                source_host=self.address.host,
                source_port=self.address.port,
                inform=self.route.inform,
                listen_host=self._entered_host(),
                listen_port=self.route.listen_port,
            )
        )

    def _entered_host(self) -> str:
        """Return the address that the source came in at, where its destination is told."""
        if not self.route.inform:
            return ""
        try:
            return str(self.sock.getsockname()[0])
        except OSError:
            return ""

    def ended(self, outcome: Outcome, detail: str) -> None:
        """Report how it went."""
        self._on_end(self, outcome, detail)
