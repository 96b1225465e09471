"""This suite's public side: a port or a host name of the relay that leads to a reverse-proxy."""

from __future__ import annotations

import re

from benchmarks.processes import UnavailableError
from benchmarks.systems.base import Place
from benchmarks.systems.suite import Programs


class Exposed(Programs):
    """Client -> relay-server -> TLS -> reverse-proxy -> destination."""

    name = "exposed"
    title = "this suite, exposed port"
    security = "both authenticated, relay can read"
    option = ""

    def __init__(self, place: Place) -> None:
        super().__init__(place)

    def start(self) -> None:
        """Start both programs."""
        self.relay = self._start("relay-server", "--host", "127.0.0.1", "-p", "0")
        host, port = self.place.destination
        proxy = self._start(
            "reverse-proxy", "-s", self._bound(self.relay), "-e", f"0:{host}:{port}{self.option}"
        )
        found = re.search(r"127\.0\.0\.1:(\d+) -> ", proxy.wait_ready())
        if found is None:
            raise UnavailableError(f"nothing is exposed: {proxy.log}")
        self.address = ("127.0.0.1", int(found[1]))


class ExposedRaw(Exposed):
    """The same, without a second encryption."""

    name = "exposed-raw"
    title = "this suite, exposed port, raw"
    security = "set-up authenticated, bytes as they are"
    option = ",raw"


class Named(Programs):
    """Client -> relay-server -> TLS -> reverse-proxy -> HTTP server, by host name."""

    name = "named"
    title = "this suite, host name"
    security = "both authenticated, relay can read"
    workloads = frozenset({"http"})
    http_host = "app.example.org"

    def __init__(self, place: Place) -> None:
        super().__init__(place)

    def start(self) -> None:
        """Start both programs."""
        if self.place.web is None:
            raise UnavailableError("no HTTP server is installed (nginx)")
        self.relay = self._start(
            "relay-server", "--host", "127.0.0.1", "-p", "0", "--http-port", "0"
        )
        host, port = self.place.web
        self._start(
            "reverse-proxy",
            *("-s", self._bound(self.relay), "--http", f"{self.http_host}:{host}:{port}"),
        )
        self.address = ("127.0.0.1", int(self._bound(self.relay, 1).rpartition(":")[2]))
