"""frp: frps on the public host, frpc beside the destination; a token, TLS as by default.

As its documentation writes it: TLS between the two has been on since 0.50 (frps makes its own
certificate, which frpc does not check), all connections share one (``tcpMux``), and one of them is
ready before a visitor comes (``poolCount`` 1). ``frp-nomux`` follows its advice for short delays
under load instead: ``tcpMux`` off, and as many connections ready as frps allows by default, five.
"""

from __future__ import annotations

from benchmarks.processes import find_program, free_ports
from benchmarks.systems.base import TCP, UDP, System

_SERVER = """\
bindAddr = "127.0.0.1"
bindPort = {port}
auth.token = "benchmark"
transport.tcpMux = {mux}
"""
_CLIENT = """\
serverAddr = "{host}"
serverPort = {port}
auth.token = "benchmark"
transport.tcpMux = {mux}
transport.poolCount = {pool}

[[proxies]]
name = "service"
type = "{kind}"
localIP = "{destination[0]}"
localPort = {destination[1]}
remotePort = {public}
"""


class Frp(System):
    """Client -> frps -> TLS -> frpc -> destination."""

    name = "frp"
    title = "frp, TLS, mux"
    security = "relay can read; client authenticated"
    variants = TCP | UDP
    mux, pool = True, 1

    def start(self) -> None:
        """Start the server, then the client."""
        room = self.place.room(self.name)
        frps, frpc = find_program("frps"), find_program("frpc")
        port, public = free_ports(2)
        mux = str(self.mux).lower()
        server, client = room / "frps.toml", room / "frpc.toml"
        server.write_text(_SERVER.format(port=port, mux=mux))
        self.relay = self.run("frps", [frps, "-c", server], room)
        self.relay.wait_listening(port)
        host, near = self.between(("127.0.0.1", port))
        kind = "udp" if self.place.datagrams else "tcp"
        client.write_text(
            _CLIENT.format(
                host=host,
                port=near,
                mux=mux,
                pool=self.pool,
                kind=kind,
                destination=self.place.destination,
                public=public,
            )
        )
        process = self.run("frpc", [frpc, "-c", client], room)
        if not self.place.datagrams:
            process.wait_listening(public)
        self.open_to_visitors(public)


class FrpWithoutMux(Frp):
    """The same with a connection for each visitor."""

    name = "frp-nomux"
    title = "frp, TLS, no mux"
    mux, pool = False, 5
