"""One source: an accepted connection, the route that admits it, and what becomes of it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from common import frames
from common.addresses import HostPort
from common.routes import Route


@dataclass(eq=False, slots=True)
class Source:
    """A connection that a route admits.

    Args:
        sock: non-blocking; owned by whoever serves the source at the moment.
        address: where it comes from.
        route: what admits it, and where it leads.
        accepted_at: seconds on the loop's clock.
        deadline: runs out while no channel is ready; cancelled by the opener.
    """

    sock: socket.socket
    address: HostPort
    route: Route
    accepted_at: float
    deadline: asyncio.TimerHandle | None = None

    def request(self, group: str) -> bytes:
        """Return the OPEN frame that asks for this source's destination."""
        return frames.encode_open(
            frames.Open(
                group=group,
                protocol="tcp",
                host=self.route.host,
                port=self.route.port,
                source_host=self.address.host,
                source_port=self.address.port,
            )
        )
