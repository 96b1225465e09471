"""chisel: a reverse remote, users and the server's fingerprint checked, SSH within a WebSocket.

As its documentation writes it; the transport underneath is plain HTTP, for the SSH inside already
encrypts everything.
"""

from __future__ import annotations

import re
import subprocess

from benchmarks.processes import UnavailableError, find_program, free_ports
from benchmarks.systems.base import TCP, UDP, System


class Chisel(System):
    """Client -> chisel server -> SSH in a WebSocket -> chisel client -> destination."""

    name = "chisel"
    title = "chisel"
    security = "relay can read; both authenticated"
    variants = TCP | UDP

    def start(self) -> None:
        """Start the server, then the client."""
        room = self.place.room(self.name)
        chisel = find_program("chisel")
        port, public = free_ports(2)
        key = room / "key"
        subprocess.run([chisel, "server", "--keygen", key], check=True, capture_output=True)
        listen = ("--host", "127.0.0.1", "--port", str(port), "--keyfile", key)
        self.relay = self.run(
            "chisel-server",
            [chisel, "server", *listen, "--reverse", "--auth", "bench:mark"],
            room,
        )
        self.relay.wait_listening(port)
        fingerprint = re.search(r"Fingerprint (\S+)", self.relay.log)
        if fingerprint is None:
            raise UnavailableError(f"chisel names no fingerprint: {self.relay.log}")
        near = "{}:{}".format(*self.between(("127.0.0.1", port)))
        kind = "/udp" if self.place.datagrams else ""
        remote = "R:127.0.0.1:{}:{}:{}{}".format(public, *self.place.destination, kind)
        options = ("--auth", "bench:mark", "--fingerprint", fingerprint[1])
        client = self.run("chisel-client", [chisel, "client", *options, near, remote], room)
        if not self.place.datagrams:
            client.wait_listening(public)
        self.open_to_visitors(public)
