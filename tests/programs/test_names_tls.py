"""Host names over TLS: ended at the relay with a certificate of its own, or passed through."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.addresses import HostPort
from common.key_files import write_private, write_public
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.programs.ends import TcpServer, connected
from tests.programs.harness import Program, Suite, wait_for
from tests.programs.sites import Site, ask, names_relay


def tls_files(suite: Suite, name: str, *hosts: str) -> tuple[Path, Path]:
    made = make_certificate(parse_names(list(hosts), []), 30, datetime.now(UTC))
    certificate, key = suite.path(f"{name}.crt"), suite.path(f"{name}.key")
    for each in (certificate, key):
        each.unlink(missing_ok=True)
    write_public(certificate, made.certificate)
    write_private(key, made.key)
    return certificate, key


@contextmanager
def tls_to(public: HostPort, host: str, certificate: Path) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(certificate))
    with connected(public) as sock, context.wrap_socket(sock, server_hostname=host) as tls:
        yield tls


def test_tls_ends_at_the_relay_and_the_certificate_can_be_changed(suite: Suite) -> None:
    with Site("one") as one:
        certificate, key = tls_files(suite, "web", "one.fidb.app")
        other, other_key = tls_files(suite, "other", "www.example.org", "two.example.org")
        relay, _ = names_relay(
            suite,
            *("--https-port", "0", "--https-cert", f"{certificate},{other}"),
            *("--https-key", f"{key},{other_key}"),
        )
        public = relay.addresses()[2]
        suite.reverse_proxy(relay, "--http", f"one:{one.address},www.example.org:{one.address}")
        with tls_to(public, "one.fidb.app", certificate) as tls:
            status, body = ask(tls, "one.fidb.app")
            assert status == 200
            assert b"X-Forwarded-Proto: https\r" in body
            assert ask(tls, "www.example.org")[0] == 421
        with tls_to(public, "www.example.org", other) as tls:
            assert ask(tls, "www.example.org")[0] == 200
        certificate.write_text("garbage")
        wait_for(lambda: _swapped(public, certificate, relay), "a broken file is told of")
        tls_files(suite, "web", "one.fidb.app")

        def new_one() -> bool:
            try:
                with tls_to(public, "one.fidb.app", certificate) as tls:
                    return ask(tls, "one.fidb.app")[0] == 200
            except ssl.SSLError:
                return False

        wait_for(new_one, "the new certificate is used", step_s=0.3)


def _swapped(public: HostPort, certificate: Path, relay: Program) -> bool:
    with connected(public) as sock, pytest.raises((ssl.SSLError, OSError)):
        ssl.create_default_context().wrap_socket(sock, server_hostname="one.fidb.app")
    return "certificate not changed" in relay.log


def test_tls_is_passed_through_by_its_sni(suite: Suite) -> None:
    certificate, key = tls_files(suite, "inside", "inside.fidb.app")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def handle(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"inside heard " + tls.recv(100))
            tls.unwrap()

    with TcpServer(handle) as server:
        relay = suite.relay("--domain", "fidb.app", "--https-port", "0")
        public = relay.addresses()[1]
        suite.reverse_proxy(relay, "--https", f"inside:{server.address}")
        with tls_to(public, "inside.fidb.app", certificate) as tls:
            tls.sendall(b"hello")
            assert tls.recv(100) == b"inside heard hello"
        with connected(public) as sock:  # no such name, and no certificate to say so with
            context = ssl.create_default_context()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(sock, server_hostname="nobody.fidb.app")
