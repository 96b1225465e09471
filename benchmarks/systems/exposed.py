"""This suite's public side: a port or a host name of the relay that leads to a reverse-proxy."""

from __future__ import annotations

import re
from typing import Final

from benchmarks.processes import UnavailableError
from benchmarks.systems.base import HTTP, TCP, UDP, to_address
from benchmarks.systems.suite import Programs

VISITORS_OF_ONE: Final = 4096
"""The relay admits so many at one exposure."""


class Exposed(Programs):
    """Client -> relay-server -> TLS -> reverse-proxy -> destination."""

    name = "exposed"
    title = "this suite, exposed port"
    security = "relay can read; both authenticated"
    variants = TCP | UDP
    option = ""

    def start(self) -> None:
        """Start both programs."""
        self._start_relay()
        exposure = f"0:{self._target()}{self.option}"
        count = 1 + max((0, *self.place.crowd)) // VISITORS_OF_ONE
        proxy = self._start_client("reverse-proxy", "-e", ",".join([exposure] * count))
        ports = re.findall(r"127\.0\.0\.1:(\d+)(?:/udp)? -> ", proxy.wait_ready())
        if len(ports) != count:
            raise UnavailableError(f"{len(ports)} of {count} ports are exposed: {proxy.log}")
        self.open_to_visitors(int(ports[0]))
        self.doors = [("127.0.0.1", int(each)) for each in ports]


class ExposedRaw(Exposed):
    """The same, without a second encryption."""

    name = "exposed-raw"
    title = "this suite, exposed port, raw"
    security = "none; set-up authenticated"
    variants = TCP
    option = ",raw"


class Named(Programs):
    """Client -> relay-server -> TLS -> reverse-proxy -> HTTP server, by host name."""

    name = "named"
    title = "this suite, host name"
    security = "relay can read; both authenticated"
    variants = HTTP
    http_host = "app.example.org"

    def start(self) -> None:
        """Start both programs."""
        self._start_relay("--http-port", "0")
        host, port = self.place.destination
        self._start_client("reverse-proxy", "--http", f"{self.http_host}:{host}:{port}")
        assert self.relay
        self.open_to_visitors(to_address(self._bound(self.relay, 1))[1])
