"""Host names at the relay: whose they are, what services are told, and what visitors are shown."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from common.addresses import HostPort
from tests.programs.ends import TcpServer, connected, receive_all, receive_reset
from tests.programs.harness import Suite, wait_for
from tests.programs.sites import Site, ask, names_relay
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
