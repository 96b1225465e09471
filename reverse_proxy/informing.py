"""Tells a destination who its client is, in the way that the route or exposure asks for.

* ``proxy-v1``, ``proxy-v2``: a PROXY protocol header goes before the client's first byte.
* ``loopback``: the connection comes from an address of 127.0.0.0/8 that stands for the client;
  ``reverse-proxy whois`` tells for which.
"""

from __future__ import annotations

import socket
from typing import Literal

from common.refusals import Refusal
from reverse_proxy.houses import Request
from reverse_proxy.proxy_protocol import header
from reverse_proxy.visitors_file import VisitorsFile


class Informer:
    """Knows the loopback addresses of clients.

    Args:
        visitors: where they are remembered.
    """

    def __init__(self, visitors: VisitorsFile) -> None:
        self._visitors = visitors

    def source(self, request: Request) -> str:
        """Return the address that the connection has to come from; empty for any."""
        if request.inform != "loopback":
            return ""
        return self._visitors.stand_in(request.source.host)

    def greet(self, sock: socket.socket, request: Request) -> Refusal | None:
        """Send what goes before the client's first byte on ``sock``, which has just connected.

        Returns:
            Why the destination cannot be served, if so.
        """
        if request.inform not in ("proxy-v1", "proxy-v2"):
            return None
        version: Literal[1, 2] = 1 if request.inform == "proxy-v1" else 2
        head = header(version, request.source, request.entered_at)
        try:
            sent = sock.send(head)  # an empty send buffer takes a hundred bytes
        except OSError as error:
            return Refusal("unreachable", f"{request.destination}: {error.strerror or error}")
        if sent < len(head):
            return Refusal("unreachable", f"{request.destination} does not take a PROXY header")
        return None
