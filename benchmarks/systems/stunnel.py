"""stunnel: a pair that speaks TLS 1.3, sessions used again as by default, Nagle off."""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import Process, find_program, free_ports
from benchmarks.systems.base import System

_COMMON = """\
foreground = yes
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
sslVersion = TLSv1.3
ciphersuites = TLS_AES_256_GCM_SHA384
"""


class Stunnel(System):
    """Client -> stunnel -> TLS -> stunnel -> destination."""

    name = "stunnel"
    title = "stunnel pair"
    security = "server can read; server authenticated"

    def start(self) -> None:
        """Start the server's side, then the client's."""
        room = self.place.room(self.name)
        port, inner = free_ports(2)
        host, target = self.place.destination
        self.relay = self._start(
            "stunnel-server",
            room,
            inner,
            f"[s]\naccept = 127.0.0.1:{inner}\nconnect = {host}:{target}\n"
            f"cert = {self.place.certificate}\nkey = {self.place.key}\n",
        )
        far, near = self.between(("127.0.0.1", inner))
        self._start(
            "stunnel-client",
            room,
            port,
            f"[c]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = {far}:{near}\n"
            f"verifyPeer = yes\nCAfile = {self.place.certificate}\n",
        )
        self.address = ("127.0.0.1", port)

    def _start(self, name: str, room: Path, port: int, service: str) -> Process:
        config = room / f"{name}.conf"
        config.write_text(_COMMON + service)
        process = self.run(name, [find_program("stunnel4", "stunnel"), config], room)
        process.wait_listening(port)
        return process
