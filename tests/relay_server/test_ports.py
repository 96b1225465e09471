"""Listening ports: opened and closed on demand, those that stand aside."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from common.addresses import HostPort
from common.errors import SettingError
from common.sockets import listen
from common.wire import Kind
from relay_server.metrics import Metrics
from relay_server.public.claims import Claim
from relay_server.public.door import Services
from relay_server.public.ports import Ports
from tests.common.loops import on_both_loops, run, until
from tests.relay_server.owners import ALICE
from tests.relay_server.public_stage import is_free


class Nobody:
    """A router that keeps whoever comes."""

    def __init__(self) -> None:
        self.came: list[tuple[str, socket.socket]] = []

    def tunnel(self, sock: socket.socket, address: HostPort) -> None:
        self.came.append(("tunnel", sock))

    def has_exposure(self, port: int) -> bool:
        return False

    def visit_port(self, sock: socket.socket, address: HostPort, port: int) -> None:
        self.came.append(("port", sock))

    def visit_name(
        self, sock: socket.socket, address: HostPort, port: int, sni: str | None
    ) -> bool:
        return False

    def visit_http(self, sock: socket.socket, address: HostPort, port: int) -> None:
        self.came.append(("http", sock))


def ports(host: str = "127.0.0.1") -> tuple[Ports, Nobody]:
    nobody = Nobody()
    return Ports(asyncio.get_running_loop(), host, nobody, Metrics()), nobody


def claim(kind: Kind, port: int = 0, host: str = "") -> Claim:
    return Claim(1, kind, host, port, None, False, 0.0, "", ALICE)


@on_both_loops
def test_a_free_port_is_kept_for_its_claim_or_dropped(kind: str) -> None:
    async def main() -> None:
        all_ports, _ = ports()
        port = HostPort("127.0.0.1", all_ports.free_port("tcp"))
        assert not is_free(port)
        all_ports.open_tcp(port.port)
        all_ports.drop_fresh()
        assert not is_free(port)
        all_ports.open_tcp(port.port)  # twice is once
        all_ports.close_tcp(port.port)
        assert is_free(port)
        dropped = HostPort("127.0.0.1", all_ports.free_port("tcp"))
        all_ports.drop_fresh()
        assert is_free(dropped)
        all_ports.close_tcp(dropped.port)  # nobody's: nothing happens
        all_ports.close()
        all_ports.close()

    run(kind, main)


@on_both_loops
def test_a_standing_door_serves_more_and_stays(kind: str) -> None:
    async def main() -> None:
        all_ports, nobody = ports()
        stands = all_ports.stand("127.0.0.1", 0, Services(tunnel=True))
        assert all_ports.stand("127.0.0.1", stands.port, Services(http=True)) == stands
        all_ports.open_tcp(stands.port)
        all_ports.close_tcp(stands.port)
        with socket.create_connection((stands.host, stands.port)) as visitor:
            visitor.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: nobody.came, "the door is open")
        assert nobody.came[0][0] == "http"
        nobody.came[0][1].close()
        all_ports.close()
        assert is_free(stands)

    run(kind, main)


@on_both_loops
def test_who_is_looked_at_is_let_go_with_the_doors(kind: str) -> None:
    async def main() -> None:
        all_ports, nobody = ports()
        stands = all_ports.stand("127.0.0.1", 0, Services(tunnel=True, http=True))
        with socket.create_connection((stands.host, stands.port)) as visitor:
            visitor.settimeout(5)
            await until(lambda: all_ports.undecided == 1, "it is looked at")
            all_ports.close()
            assert all_ports.undecided == 0
            assert visitor.recv(1) == b""
        assert not nobody.came

    run(kind, main)


def test_a_port_that_is_taken_is_an_error_with_advice() -> None:
    async def main() -> None:
        all_ports, _ = ports()
        with listen("127.0.0.1", 0) as sock:
            taken = sock.getsockname()[1]
            with pytest.raises(SettingError, match=rf"127\.0\.0\.1:{taken}.*another"):
                all_ports.open_tcp(taken)
            with pytest.raises(SettingError, match=re.escape(str(taken))):
                all_ports.stand("127.0.0.1", taken, Services(http=True))
        all_ports.open_tcp(taken)
        all_ports.close()

    run("asyncio", main)


def test_the_words_say_how_people_get_there() -> None:
    async def main() -> None:
        everywhere, _ = ports("*")
        assert everywhere.words(claim("tcp", 80)) == ":80"
        here, _ = ports()
        assert here.words(claim("udp", 53)) == "127.0.0.1:53/udp"
        assert here.words(claim("http", host="a.example")) == ""
        http = here.stand("127.0.0.1", 0, Services(http=True)).port
        https = here.stand("127.0.0.1", 0, Services(https=True)).port
        assert here.words(claim("http", host="a.example")) == f"http://a.example:{http}"
        assert here.words(claim("https", host="a.example")) == f"https://a.example:{https}"
        here.ends_tls = True
        both = f"http://a.example:{http} https://a.example:{https}"
        assert here.words(claim("http", host="a.example")) == both
        here.close()

    run("asyncio", main)
