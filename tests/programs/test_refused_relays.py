"""A relay that is not who it should be, or not there: its client says the cause and the next step.

The messages are pinned, for they are what a person acts on.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from common.addresses import HostPort
from common.key_files import write_private, write_public
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.programs.ends import TcpServer
from tests.programs.harness import Suite
from tests.programs.refusals import message


def certificate(suite: Suite, name: str, *, made: datetime | None = None) -> tuple[str, str]:
    """Write another certificate of the relay, valid for a day from ``made``."""
    names = parse_names(["localhost"], ["127.0.0.1"])
    files = make_certificate(names, 1, made or datetime.now(UTC))
    write_public(suite.path(f"{name}.crt"), files.certificate)
    write_private(suite.path(f"{name}.key"), files.key)
    return f"cert/{name}.crt", f"cert/{name}.key"


def trouble(suite: Suite, relay: HostPort, *args: str) -> str:
    client = suite.start("entry-point", "-s", str(relay), "-r", "0:9", *args)
    reason = message(client.wait_log("relay trouble"))
    client.end()
    return reason


def test_a_relay_with_another_certificate(suite: Suite) -> None:
    certificate(suite, "other")
    relay = suite.relay("-c", "cert/other.crt", "-k", "cert/other.key")
    address = relay.addresses()[0]
    assert trouble(suite, address) == (
        f"certificate verify failed: self-signed certificate; {address} does not show the"
        " certificate in --server-cert; copy server.crt from the relay, and if it is the same"
        " already, somebody else answers there"
    )
    line = relay.wait_log("connection refused.* code=no-login ")
    assert message(line) == (
        "tlsv1 alert unknown ca; the client does not accept this relay's certificate: copy"
        " server.crt to it, and name it with --server-cert there"
    )


def test_an_expired_certificate_of_the_relay(suite: Suite) -> None:
    crt, key = certificate(suite, "old", made=datetime.now(UTC) - timedelta(days=30))
    relay = suite.relay("-c", crt, "-k", key)
    relay.wait_log(r"clients refuse this certificate file=cert/old\.crt reason=\"it expired at ")
    address = relay.addresses()[0]
    assert trouble(suite, address, "-c", crt) == (
        "certificate verify failed: certificate has expired; make a new one on the relay:"
        " gen-cert x509 --force"
    )
    line = relay.wait_log("connection refused.* code=no-login ")
    assert message(line) == (
        "sslv3 alert certificate expired; this relay's certificate has expired: gen-cert x509"
        " --force"
    )


def test_a_certificate_from_the_future(suite: Suite) -> None:
    crt, key = certificate(suite, "new", made=datetime.now(UTC) + timedelta(days=30))
    relay = suite.relay("-c", crt, "-k", key)
    assert trouble(suite, relay.addresses()[0], "-c", crt) == (
        "certificate verify failed: certificate is not yet valid; this machine's clock is wrong,"
        " or the relay's was when its certificate was made"
    )


def serve_http(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hang_up(sock: socket.socket) -> None:
    sock.recv(4096)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve_http, "wrong version number; is {} a relay-server of this suite?"),
        (hang_up, "unexpected eof while reading; is {} a relay-server of this suite?"),
    ],
)
def test_not_a_relay_at_all(
    suite: Suite, answer: Callable[[socket.socket], None], reason: str
) -> None:
    with TcpServer(answer) as server:
        assert trouble(suite, server.address) == reason.format(server.address)


def test_nobody_there(suite: Suite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = HostPort("127.0.0.1", unused.getsockname()[1])
    assert re.match(
        rf"cannot reach the relay at {address}: (\[Errno 111\] )?.*refused",
        trouble(suite, address),
        re.IGNORECASE,
    )
