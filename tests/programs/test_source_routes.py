"""Routes that are chosen by where a source comes from."""

from __future__ import annotations

import socket

from common.addresses import HostPort
from tests.programs.ends import TcpServer, be_refused, free_port, receive_all
from tests.programs.harness import Suite


class TestSourceRoutes:
    """Routes told apart by the source's address; all of 127.0.0.0/8 is this machine."""

    def connect(self, address: HostPort, source_ip: str) -> socket.socket:
        return socket.create_connection((address.host, address.port), 20, (source_ip, 0))

    def test_the_most_specific_source_wins(self, suite: Suite) -> None:
        def saying(word: bytes) -> TcpServer:
            return TcpServer(lambda sock: sock.sendall(word))

        with saying(b"one") as one, saying(b"net") as net, saying(b"any") as anywhere:
            port = free_port()
            relay = suite.relay()
            suite.reverse_proxy(relay)
            entry_point = suite.entry_point(
                relay,
                *("-r", f"{port}:{anywhere.address}"),
                *("-r", f"127.0.2.0/24:{port}:{net.address}"),
                *("-r", f"127.0.2.9:{port}:{one.address}"),
            )
            address = entry_point.addresses()[0]
            for source_ip, word in (
                ("127.0.0.1", b"any"),
                ("127.0.2.8", b"net"),
                ("127.0.2.9", b"one"),
                ("127.0.3.9", b"any"),
            ):
                with self.connect(address, source_ip) as sock:
                    assert receive_all(sock) == word

    def test_no_route_is_a_reset_and_one_line(self, suite: Suite, echo_server: TcpServer) -> None:
        relay = suite.relay()
        suite.reverse_proxy(relay)
        entry_point = suite.entry_point(relay, "-r", f"127.0.2.9:0:{echo_server.address}")
        address = entry_point.addresses()[0]
        source = be_refused(address, "127.0.2.10")
        line = entry_point.wait_log("no route admits this source")
        assert f"source={source}" in line
        assert f"port={address.port}" in line
        with self.connect(address, "127.0.2.9") as sock:
            sock.sendall(b"admitted")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b"admitted"
        assert len([each for each in entry_point.lines if "no route" in each]) == 1
        assert echo_server.accepted == 1
        assert entry_point.metric("sources_rejected") == 1
