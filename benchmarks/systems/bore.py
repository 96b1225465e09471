"""bore: a server on the public host, a client beside the destination, a shared secret.

The secret admits the client; the traffic itself is not encrypted, which is how bore works. Its port
for clients cannot be chosen, so the server has a loopback address of its own.
"""

from __future__ import annotations

import os
from typing import Final

from benchmarks.processes import find_program, free_ports
from benchmarks.systems.base import System

CONTROL_PORT: Final = 7835


class Bore(System):
    """Client -> bore server -> bore local -> destination."""

    name = "bore"
    title = "bore"
    security = "none; client authenticated"

    def start(self) -> None:
        """Start the server, then the client."""
        room = self.place.room(self.name)
        bore = find_program("bore")
        (public,) = free_ports(1)
        network = f"127.78.{os.getpid() % 251}"
        server, way = f"{network}.1", f"{network}.2"
        secret = {"BORE_SECRET": "benchmark"}
        listen = ("--bind-addr", server, "--bind-tunnels", "127.0.0.1")
        self.relay = self.run("bore-server", [bore, "server", *listen], room, secret)
        self.relay.wait_listening(CONTROL_PORT, server)
        near, _ = self.between((server, CONTROL_PORT), (way, CONTROL_PORT))
        host, port = self.place.destination
        to = ("--local-host", host, "--to", near, "--port", str(public))
        client = self.run("bore-client", [bore, "local", str(port), *to], room, secret)
        client.wait_listening(public)
        self.open_to_visitors(public)
