"""HAProxy: one hop that splices TCP, and a pair that speaks TLS to each other.

Configured as its manual advises and otherwise left alone: threads as many as cores, default
buffers, TLS sessions used again, no logging. The pair authenticates the server only; mutual TLS
would cost it more. Both ends agree on TLS 1.3 with AES-256-GCM, as this suite's do.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import Process, find_program, free_ports
from benchmarks.systems.base import HTTP, System

_GLOBAL = """\
global
    ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384
    ssl-default-server-options ssl-min-ver TLSv1.3

defaults
    mode tcp
    timeout connect 10s
    timeout client 1m
    timeout server 1m
"""


_HTTP = _GLOBAL.replace("mode tcp", "mode http\n    option forwardfor\n    http-reuse safe")


def _start(system: System, name: str, directory: Path, port: int, listen: str) -> Process:
    config = directory / f"{name}.cfg"
    common = _HTTP if system.variants == HTTP else _GLOBAL
    config.write_text(f"{common}\nlisten {name}\n{listen}")
    process = system.run(name, [find_program("haproxy"), "-db", "-f", config], directory)
    process.wait_listening(port)
    return process


class HaproxySplice(System):
    """Client -> HAProxy -> destination; plain TCP, spliced by the kernel."""

    name = "haproxy-tcp"
    title = "HAProxy, TCP splice"
    security = "none"

    def start(self) -> None:
        """Start one HAProxy."""
        (port,) = free_ports(1)
        host, target = self.place.destination
        listen = f"""\
    bind 127.0.0.1:{port}
    option splice-auto
    server destination {host}:{target}
"""
        self.relay = _start(self, "haproxy", self.place.room(self.name), port, listen)
        self.open_to_visitors(port)


class HaproxySpliceTwice(System):
    """Client -> HAProxy -> HAProxy -> destination; plain TCP, spliced by the kernel."""

    name = "haproxy-tcp-2"
    title = "HAProxy, TCP splice, twice"
    security = "none"

    def start(self) -> None:
        """Start the far one, then the near one."""
        room = self.place.room(self.name)
        ports = free_ports(2)
        host, target = self.place.destination
        for name, port in zip(("server", "client"), ports, strict=True):
            listen = f"""\
    bind 127.0.0.1:{port}
    option splice-auto
    server next {host}:{target}
"""
            _start(self, f"haproxy-{name}", room, port, listen)
            self.address = ("127.0.0.1", port)
            if name == "server":
                host, target = self.between(self.address)
        self.relay = self.processes[0]


class HaproxyTls(System):
    """Client -> HAProxy -> TLS -> HAProxy -> destination."""

    name = "haproxy-tls"
    title = "HAProxy, TLS pair"
    security = "server can read; server authenticated"

    def start(self) -> None:
        """Start the server's side, then the client's."""
        room = self.place.room(self.name)
        port, inner = free_ports(2)
        pem = room / "server.pem"
        pem.write_text(self.place.certificate.read_text() + self.place.key.read_text())
        pem.chmod(0o600)
        host, target = self.place.destination
        server = f"""\
    bind 127.0.0.1:{inner} ssl crt {pem}
    server destination {host}:{target}
"""
        self.relay = _start(self, "haproxy-server", room, inner, server)
        far, near = self.between(("127.0.0.1", inner))
        client = f"""\
    bind 127.0.0.1:{port}
    server far {far}:{near} ssl verify required ca-file {self.place.certificate}
"""
        _start(self, "haproxy-client", room, port, client)
        self.address = ("127.0.0.1", port)


class HaproxyHttp(HaproxyTls):
    """Client -> HAProxy in HTTP mode -> TLS -> HAProxy in HTTP mode -> HTTP server."""

    name = "haproxy-http"
    title = "HAProxy, HTTP, TLS pair"
    variants = HTTP
