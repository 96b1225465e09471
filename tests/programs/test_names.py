"""Host names at the relay: whose they are, what services are told, and what visitors are shown."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.addresses import HostPort
from common.key_files import write_private, write_public
from gen_cert.names import parse_names
from gen_cert.x509 import make_certificate
from tests.programs.harness import (
    Program,
    Suite,
    TcpServer,
    connected,
    receive_all,
    receive_reset,
    wait_for,
)
from tests.programs.test_clients import (
    CLOSE,
    TEXT,
    WebSocket,
    accept_key,
    read_head,
    serve_websocket,
)
from tests.programs.test_exposures import as_another

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


class Site:
    """A web service that answers with its name and what it was told, on kept connections."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.server = TcpServer(self._serve)

    def _serve(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            while first := lines.readline():
                fields = []
                while (line := lines.readline()) not in (b"", b"\r\n"):
                    fields.append(line)
                length = sum(
                    int(each.split(b":")[1]) for each in fields if each.startswith(b"Content-Le")
                )
                body = lines.read(length)
                told = first + b"".join(sorted(fields)) + body
                answer = self.name.encode() + b"\n" + told
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                if not first.startswith(b"HEAD"):
                    sock.sendall(answer)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @property
    def address(self) -> HostPort:
        return self.server.address


def ask(sock: socket.socket, host: str, path: str = "/", method: str = "GET") -> tuple[int, bytes]:
    """Send one request and return status and body of the answer, which has a length."""
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = read_head(sock)
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    body = b""
    while method != "HEAD" and len(body) < int(length):
        body += sock.recv(int(length) - len(body))
    return int(head.split()[1]), body


def names_relay(suite: Suite, *args: str) -> tuple[Program, HostPort]:
    relay = suite.relay("--domain", "fidb.app", "--http-port", "0", *args)
    return relay, relay.addresses()[1]


def curl(public: HostPort, host: str, *args: str, path: str = "/", scheme: str = "http") -> str:
    where = f"{host}:{public.port}:{public.host}"
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--resolve", where]
    done = subprocess.run(
        [*command, *args, f"{scheme}://{host}:{public.port}{path}"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.stdout.decode() + done.stderr.decode()


@needs_curl
def test_three_names_of_two_reverse_proxies_with_different_keys(suite: Suite) -> None:
    with Site("one") as one, Site("two") as two, Site("three") as three:
        other = as_another(suite)
        relay, public = names_relay(suite)
        suite.reverse_proxy(relay, "--http", f"one:{one.address},two:{two.address}")
        rival = suite.reverse_proxy(relay, *other, "--http", f"three:{three.address}")
        for name in ("one", "two", "three"):
            assert curl(public, f"{name}.fidb.app").startswith(f"{name}\n")
        # One connection, every request judged by its own Host.
        with connected(public) as sock:
            for _ in range(3):
                for name in ("one", "three", "two", "two"):
                    status, body = ask(sock, f"{name}.fidb.app")
                    assert (status, body.split(b"\n")[0]) == (200, name.encode())
                assert ask(sock, "nobody.fidb.app")[0] == 404
        # A key cannot claim another's name, nor a wildcard above it.
        thief = suite.reverse_proxy(
            relay,
            *(*other, "--http", f"one:{three.address},*.fidb.app:{three.address}"),
        )
        for name in ("one", r"\*\.fidb\.app"):
            line = thief.wait_log(rf"not exposed .*exposure={name}:.*held")
            assert suite.identity.public.fingerprint in line
        # Killing one does not disturb the other.
        with connected(public) as sock:
            assert ask(sock, "one.fidb.app")[0] == 200
            for program in (rival, thief):
                program.kill()
            assert ask(sock, "one.fidb.app")[0] == 200
            wait_for(lambda: ask(sock, "three.fidb.app")[0] == 503, "three is offline")
            assert ask(sock, "one.fidb.app")[0] == 200


def test_what_a_service_is_told(suite: Suite) -> None:
    with Site("one") as one:
        relay, public = names_relay(suite)
        suite.reverse_proxy(
            relay, "--http", f"kept:{one.address},changed:{one.address},host=intranet:81"
        )
        with connected(public) as sock:
            sock.sendall(
                b"GET /a?b HTTP/1.1\r\nHost: kept.fidb.app\r\nX-Forwarded-For: 8.8.8.8\r\n"
                b"Connection: close, X-Mine\r\nX-Mine: hop\r\nX-Real-IP: 8.8.8.8\r\n\r\n"
            )
            answer = receive_all(sock).decode()
        told = answer.partition("one\n")[2].splitlines()
        assert told[0] == "GET /a?b HTTP/1.1"
        assert sorted(told[1:]) == [
            "Host: kept.fidb.app",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Host: kept.fidb.app",
            f"X-Forwarded-Port: {public.port}",
            "X-Forwarded-Proto: http",
        ]
        with connected(public) as sock:
            body = ask(sock, "changed.fidb.app")[1].decode()
            assert "Host: intranet:81\r" in body
            assert "X-Forwarded-Host: changed.fidb.app\r" in body


def test_wildcards_and_full_names(suite: Suite) -> None:
    with Site("one") as one, Site("two") as two, Site("three") as three:
        relay, public = names_relay(suite)
        suite.reverse_proxy(
            relay,
            *("--http", f"*.example.org:{one.address},www.example.org:{two.address}"),
            *("--http", f"*.deep.example.org:{three.address}"),
        )
        with connected(public) as sock:
            for host, name in (
                ("www.example.org", b"two"),
                ("WWW.Example.Org.", b"two"),
                ("other.example.org", b"one"),
                ("a.b.example.org", b"one"),
                ("a.deep.example.org", b"three"),
            ):
                assert ask(sock, host)[1].split(b"\n")[0] == name, host
            assert ask(sock, "example.org")[0] == 404


def test_permithost_decides_which_names_a_key_may_have(suite: Suite) -> None:
    trusted = suite.path("auth.pub")
    plain = trusted.read_text()
    trusted.write_text(f'permithost="app.fidb.app,*.mine.org" {plain}')
    with Site("one") as one:
        relay, public = names_relay(suite)
        proxy = suite.reverse_proxy(
            relay, "--http", f"app:{one.address},blog:{one.address},a.mine.org:{one.address}"
        )
        proxy.wait_log("not exposed .*blog.*not-permitted .*permithost=")
        with connected(public) as sock:
            assert ask(sock, "app.fidb.app")[0] == 200
            assert ask(sock, "a.mine.org")[0] == 200
            assert ask(sock, "blog.fidb.app")[0] == 404
        trusted.write_text(f'permithost="*.mine.org" {plain}')
        relay.signal(signal.SIGHUP)
        proxy.wait_log("not exposed .*app.*not-permitted")
        with connected(public) as sock:
            assert ask(sock, "app.fidb.app")[0] == 404


def test_pages(suite: Suite) -> None:
    with Site("one") as one:
        relay, public = names_relay(suite)
        proxy = suite.reverse_proxy(relay, "--http", f"one:{one.address},gone:127.0.0.1:1")
        with connected(public) as sock:
            status, body = ask(sock, "<b>.fidb.app")
            assert status == 400
        with connected(public) as sock:
            assert ask(sock, "gone.fidb.app") == (
                502,
                b"502 The service does not answer\n"
                b"The machine behind gone.fidb.app is connected, but its service could not be"
                b" used.\nOwner: unreachable; the log of reverse-proxy says more.\n",
            )
            assert ask(sock, "nobody.fidb.app", method="HEAD")[0] == 404
            sock.sendall(b"GET / HTTP/1.1\r\nHost: nobody.fidb.app\r\nAccept: text/html\r\n\r\n")
            head = read_head(sock)
            assert b"\r\nContent-Type: text/html; charset=utf-8\r\n" in head
            (length,) = re.findall(rb"Content-Length: (\d+)", head)
            page = sock.recv(int(length))
            assert b"nobody.fidb.app" in page
            assert b"http://" not in page  # nothing is loaded from elsewhere
        proxy.kill()
        relay.wait_metric("tenants_present", lambda count: count == 0)
        with connected(public) as sock:
            status, body = ask(sock, "one.fidb.app")
            assert (status, b"offline" in body) == (503, True)


def test_a_websocket_through_a_name(suite: Suite) -> None:
    with TcpServer(serve_websocket) as server:
        relay, public = names_relay(suite)
        suite.reverse_proxy(relay, "--http", f"chat:{server.address}")
        with connected(public) as sock:
            key = base64.b64encode(os.urandom(16))
            sock.sendall(
                b"GET /chat HTTP/1.1\r\nHost: chat.fidb.app\r\nUpgrade: websocket\r\n"
                b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
            )
            head = read_head(sock)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert accept_key(key) in head
            end = WebSocket(sock, client=True)
            for length in (1, 126, 65536, 3_000_000):
                end.send(TEXT, b"x" * length)
                assert end.receive() == (TEXT, b"X" * length)
            end.send(CLOSE, b"\x03\xe8")
            assert end.receive() == (CLOSE, b"\x03\xe8")


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


SMUGGLED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: one.fidb.app\r\nContent-Length: 4\r\n"
    b"Content-Length: 5\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: one.fidb.app\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: one.fidb.app\n\n\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: one.fidb.app\r\nX: a\r\n b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : one.fidb.app\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: one.fidb.app\r\nHost: two.fidb.app\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: one.fidb.app\r\nX: a\0b\r\n\r\n",
    "another host in the target": b"GET http://two.fidb.app/ HTTP/1.1\r\n"
    b"Host: one.fidb.app\r\n\r\n",
}


@pytest.mark.parametrize("trick", SMUGGLED)
def test_nothing_is_smuggled(suite: Suite, trick: str) -> None:
    """The service never sees the request, and nothing that follows it is answered."""
    with Site("one") as one:
        relay, public = names_relay(suite)
        suite.reverse_proxy(relay, "--http", f"one:{one.address}")
        with connected(public) as sock:
            sock.sendall(SMUGGLED[trick] + b"GET /second HTTP/1.1\r\nHost: one.fidb.app\r\n\r\n")
            answer = receive_all(sock)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert one.server.accepted == 0


def test_a_service_that_dies_within_an_answer_is_no_clean_end(suite: Suite) -> None:
    def handle(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with TcpServer(handle) as server:
        relay, public = names_relay(suite)
        suite.reverse_proxy(relay, "--http", f"one:{server.address}")
        with connected(public) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: one.fidb.app\r\n\r\n")
            assert receive_reset(sock) > 0


def test_a_large_body_each_way_is_not_held(suite: Suite) -> None:
    size = 64 * 1024 * 1024

    def handle(sock: socket.socket) -> None:
        read_head(sock)
        left = size
        while left:
            left -= len(sock.recv(1 << 20))
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            sock.sendall(block)

    with TcpServer(handle) as server:
        relay, public = names_relay(suite)
        suite.reverse_proxy(relay, "--http", f"one:{server.address}")
        before = relay.resident_kib()
        with connected(public) as sock:
            sock.sendall(
                b"PUT / HTTP/1.1\r\nHost: one.fidb.app\r\nContent-Length: %d\r\n\r\n" % size
            )
            block = bytes(1 << 20)
            for _ in range(size >> 20):
                sock.sendall(block)
            assert len(receive_all(sock)) > size
        assert relay.resident_kib() - before < 8 * 1024
