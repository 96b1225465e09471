"""rathole: a server on the public host, a client beside the destination, one service.

As its documentation writes it: a token for the service, ``nodelay`` on and eight connections ready
for visitors, as by default; with TLS (the server's certificate in PKCS#12, which the client checks)
or with Noise in its default pattern (``Noise_NK``: the client knows the server's key).
"""

from __future__ import annotations

import re
import subprocess
from typing import Final

from benchmarks.processes import UnavailableError, find_program, free_ports
from benchmarks.systems.base import TCP, UDP, System

_SERVER: Final = """\
[server]
bind_addr = "127.0.0.1:{port}"
[server.services.service]
token = "benchmark"
type = "{kind}"
bind_addr = "127.0.0.1:{public}"
"""
_CLIENT: Final = """\
[client]
remote_addr = "{host}:{port}"
[client.services.service]
token = "benchmark"
type = "{kind}"
local_addr = "{destination[0]}:{destination[1]}"
"""


class Rathole(System):
    """Client -> rathole -> TLS or Noise -> rathole -> destination."""

    security = "relay can read; both authenticated"
    variants = TCP | UDP

    def start(self) -> None:
        """Start the server, then the client."""
        room = self.place.room(self.name)
        rathole = find_program("rathole")
        port, public = free_ports(2)
        of_server, of_client = self._transport()
        kind = "udp" if self.place.datagrams else "tcp"
        server, client = room / "server.toml", room / "client.toml"
        server.write_text(_SERVER.format(port=port, public=public, kind=kind) + of_server)
        self.relay = self.run("rathole-server", [rathole, "--server", server], room)
        self.relay.wait_listening(port)
        host, near = self.between(("127.0.0.1", port))
        destination = self.place.destination
        text = _CLIENT.format(host=host, port=near, kind=kind, destination=destination)
        client.write_text(text + of_client)
        process = self.run("rathole-client", [rathole, "--client", client], room)
        if not self.place.datagrams:
            process.wait_listening(public)
        self.open_to_visitors(public)

    def _transport(self) -> tuple[str, str]:
        """Return what the server's and the client's configuration say about encryption."""
        raise NotImplementedError


class RatholeTls(Rathole):
    """With TLS."""

    name = "rathole-tls"
    title = "rathole, TLS"

    def _transport(self) -> tuple[str, str]:
        place = self.place
        bundle = place.room(self.name) / "identity.pfx"
        command = [find_program("openssl"), "pkcs12", "-export", "-passout", "pass:benchmark"]
        command += ["-inkey", str(place.key), "-in", str(place.certificate), "-out", str(bundle)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"openssl makes no PKCS#12: {done.stderr[-300:]}")
        return (
            '[server.transport]\ntype = "tls"\n'
            f'[server.transport.tls]\npkcs12 = "{bundle}"\npkcs12_password = "benchmark"\n',
            '[client.transport]\ntype = "tls"\n[client.transport.tls]\n'
            f'trusted_root = "{place.certificate}"\nhostname = "localhost"\n',
        )


class RatholeNoise(Rathole):
    """With Noise."""

    name = "rathole-noise"
    title = "rathole, Noise"

    def _transport(self) -> tuple[str, str]:
        done = subprocess.run(
            [find_program("rathole"), "--genkey"], capture_output=True, text=True, check=False
        )
        keys = re.findall(r"Key:\s+(\S+)", done.stdout)
        if len(keys) != 2:
            raise UnavailableError(f"rathole makes no keys: {(done.stdout + done.stderr)[-300:]}")
        private, public = keys
        return (
            '[server.transport]\ntype = "noise"\n'
            f'[server.transport.noise]\nlocal_private_key = "{private}"\n',
            '[client.transport]\ntype = "noise"\n'
            f'[client.transport.noise]\nremote_public_key = "{public}"\n',
        )
