"""Floods of strangers: they cost the relay a bounded amount, and a legitimate client no time.

A stranger is a connection that has not said HELLO. It may be silent for 5 s, has 10 s from its
first byte to HELLO, and shares 128 places with all strangers of its address.
"""

from __future__ import annotations

import os
import resource
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from common.addresses import HostPort
from common.wire import Welcome
from tests.programs.ends import TcpServer, connected
from tests.programs.evil_client import dial, is_ended
from tests.programs.harness import DEADLINE_S, Program, Suite, wait_for

COUNT = 1000
PER_SOURCE, IN_ALL = 128, 2048
SILENT_S, HANDSHAKE_S = 5.0, 10.0
DELAY_S = 1.0
"""What a flood may cost a legitimate login; a second is 20 times what it takes without one, and
leaves room for a machine that does other things as well."""
GROWTH_KIB = 48 * 1024
"""What the floods here may cost the relay's memory: 2,048 that are silent have 20 MiB, and of those
that speak few are in a handshake at a time."""


def first_flight(version: ssl.TLSVersion) -> bytes:
    """Return the ClientHello that OpenSSL sends for a version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    out = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


HELLO = first_flight(ssl.TLSVersion.TLSv1_3)
GARBAGE: dict[str, Callable[[], bytes]] = {
    "random bytes": lambda: os.urandom(300),
    "HTTP": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "SSH": lambda: b"SSH-2.0-OpenSSH_9.6\r\n",
    "a truncated hello": lambda: HELLO[:100],
    "a hello of TLS 1.2": lambda: first_flight(ssl.TLSVersion.TLSv1_2),
    "a hello of TLS 1.3 without our ALPN": lambda: HELLO,
    "a record of 64 KiB": lambda: b"\x16\x03\x01\xff\xff" + os.urandom(500),
    "a handshake message of 16 MiB": lambda: (
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + os.urandom(500)
    ),
    "one byte of a record": lambda: b"\x16",
    "an alert": lambda: b"\x15\x03\x03\x00\x02\x02\x28",
    "nothing but zeros": lambda: bytes(1000),
}


def strangers(
    relay: HostPort, count: int, words: list[bytes], sources: int = 1
) -> list[socket.socket]:
    """Return ``count`` connections from 127.0.0.1 and up, each of which has said its words."""
    socks = []
    for number in range(count):
        sock = socket.socket()
        sock.bind((f"127.0.0.{1 + number % sources}", 0))
        sock.settimeout(10)
        sock.connect((relay.host, relay.port))
        if words:
            with suppress(OSError):  # the relay may have thrown it out already
                sock.sendall(words[number % len(words)])
        socks.append(sock)
    return socks


@contextmanager
def flood(
    relay: HostPort, count: int, words: list[bytes], sources: int = 1
) -> Iterator[list[socket.socket]]:
    """Let strangers come in a thread of their own; they stay to the end of the ``with``."""
    socks: list[socket.socket] = []

    def come() -> None:
        socks.extend(strangers(relay, count, words, sources))

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield socks
    finally:
        thread.join()
        for sock in socks:
            sock.close()


def login_seconds(suite: Suite, relay: Program, times: int = 20) -> list[float]:
    """Return how long legitimate logins of this machine take, first dial to WELCOME.

    As our clients do it: when 128 others of the same address come within the same few milliseconds
    a login may be the oldest that has to go, and is tried again.
    """
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        while time.monotonic() < began + DEADLINE_S:
            with (
                suppress(ConnectionError, ssl.SSLError),
                dial(suite, relay) as client,
            ):
                if isinstance(client.login("entry-point", "nobody else"), Welcome):
                    seconds.append(time.monotonic() - began)
                    break
    assert len(seconds) == times
    return seconds


def newcomer_seconds(suite: Suite, relay: Program) -> float:
    """Return how long a new entry-point takes to its first channel."""
    began = time.monotonic()
    program = suite.entry_point(relay, "-r", "0:9", "--pool", "1")
    seconds = time.monotonic() - began
    program.end()
    return seconds


def settle(relay: Program, descriptors: int) -> None:
    """Wait until nothing of the strangers is left."""
    relay.wait_metric("strangers", lambda count: count == 0, HANDSHAKE_S + 5)
    wait_for(
        lambda: relay.descriptors() <= descriptors,
        f"{descriptors} descriptors as before; now {relay.descriptors()}",
    )


def refusals(relay: Program) -> int:
    return sum("connection refused" in line for line in relay.lines)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        pytest.param(1, "silent", marks=pytest.mark.slow),
        (8, "silent"),
        (1, "garbage"),
        pytest.param(8, "garbage", marks=pytest.mark.slow),
    ],
)
def test_a_flood_does_not_delay_a_legitimate_link(suite: Suite, sources: int, words: str) -> None:
    relay = suite.relay()
    suite.reverse_proxy(relay)
    address = relay.addresses()[0]
    before = statistics.median(login_seconds(suite, relay))
    calm = newcomer_seconds(suite, relay)
    relay.wait_metric("pairs_open", lambda count: count == 0)
    descriptors, memory = relay.descriptors(), relay.resident_kib()
    said = [make() for make in GARBAGE.values()] if words == "garbage" else []
    with flood(address, COUNT, said, sources):
        during = login_seconds(suite, relay, 60)
        most = relay.metric("strangers")
        crowded = newcomer_seconds(suite, relay)
        relay.wait_metric("connections_accepted", lambda count: count >= COUNT)
        during += login_seconds(suite, relay)
        growth = relay.resident_kib() - memory
    print(
        f"{COUNT} {words} from {sources}: login {before * 1000:.1f} ms before,"
        f" {statistics.median(during) * 1000:.1f} ms (worst {max(during) * 1000:.1f}) during;"
        f" newcomer {calm:.2f} s, {crowded:.2f} s; at most {most:.0f} strangers, +{growth} KiB"
    )
    assert max(during) < before + DELAY_S
    assert crowded < calm + 2 * DELAY_S
    assert growth < GROWTH_KIB
    if sources == 1:
        assert most <= PER_SOURCE
        assert relay.metric("connections_evicted") > 0 or words == "garbage"
    settle(relay, descriptors)
    # A thousand events, and a handful of lines: five in ten seconds, and a summary of the rest.
    assert 0 < refusals(relay) <= 15
    assert len(relay.lines) < 40
    assert "Traceback" not in relay.log


def ended_after(sock: socket.socket, began: float, ends: dict[str, float], name: str) -> None:
    sock.settimeout(20)
    assert is_ended(sock)
    ends[name] = time.monotonic() - began


def test_the_deadlines_of_a_stranger(suite: Suite) -> None:
    """Silence ends after 5 s, and everything short of HELLO after 10 s, drop by drop or not."""
    relay = suite.relay()
    address = relay.addresses()[0]
    descriptors = relay.descriptors()
    ends: dict[str, float] = {}
    for sock in strangers(address, 200, [b"nonsense"]):
        sock.close()
    silent, stuck, drop = strangers(address, 3, [])
    stuck.sendall(HELLO[:100])
    mute = dial(suite, relay)
    half = dial(suite, relay)
    half.tls.sendall(b"\x00\x20\x95")  # a message that never becomes whole
    began = time.monotonic()
    socks = {
        "silent": silent,
        "half a hello": stuck,
        "a drop a second": drop,
        "no message": mute.tls,
        "half a message": half.tls,
    }
    threads = [
        threading.Thread(target=ended_after, args=(sock, began, ends, name))
        for name, sock in socks.items()
    ]
    for thread in threads:
        thread.start()
    done = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            for byte in HELLO:
                drop.sendall(bytes([byte]))
                if done.wait(1.0):
                    return

    dripper = threading.Thread(target=drip)
    dripper.start()
    for thread in threads:
        thread.join()
    done.set()
    dripper.join()
    for sock in socks.values():
        sock.close()
    assert SILENT_S - 0.5 < ends.pop("silent") < SILENT_S + 2, ends
    assert len(ends) == 4
    for name, seconds in ends.items():
        assert HANDSHAKE_S - 0.5 < seconds < HANDSHAKE_S + 2, (name, ends)
    relay.wait_log("code=no-login reason=.no HELLO within 10 s of the first byte")
    settle(relay, descriptors)
    line = relay.wait_log("suppressed \\d+ more like it")
    assert 'budget="connection refused: no-login"' in line
    assert refusals(relay) <= 10


def test_places_of_one_source_and_of_all(suite: Suite) -> None:
    """The newest stay: whoever has been silent longest goes, of the source that has the most."""
    relay = suite.relay()
    address = relay.addresses()[0]
    descriptors, memory = relay.descriptors(), relay.resident_kib()
    one = strangers(address, PER_SOURCE + 50, [])
    relay.wait_metric("connections_evicted", lambda count: count == 50)
    assert all(map(is_ended, one[:50]))
    assert relay.metric("strangers") == PER_SOURCE
    many = strangers(address, IN_ALL + 100, [], sources=20)
    relay.wait_metric("connections_accepted", lambda count: count >= len(one) + len(many))
    assert relay.metric("strangers") <= IN_ALL
    # Nobody of 20 sources is shut out by the other 19, nor by the others of its own address.
    assert max(login_seconds(suite, relay)) < DELAY_S
    assert relay.resident_kib() - memory < GROWTH_KIB
    for sock in one + many:
        sock.close()
    settle(relay, descriptors)


def test_many_floods_in_a_row_leave_nothing_behind(suite: Suite) -> None:
    relay = suite.relay()
    address = relay.addresses()[0]
    words = [make() for make in GARBAGE.values()]
    for sock in strangers(address, 500, words):  # what Python and OpenSSL keep is kept once
        sock.close()
    relay.wait_metric("strangers", lambda count: count == 0, 15)
    descriptors, memory = relay.descriptors(), relay.resident_kib()
    for _ in range(6):
        for sock in strangers(address, 500, words, sources=4):
            sock.close()
    settle(relay, descriptors)
    growth = relay.resident_kib() - memory
    print(f"3,500 garbage first flights in all: +{growth} KiB")
    assert growth < 8 * 1024
    assert relay.metric("logins_failed") == 3500


def test_a_relay_without_descriptors_serves_whom_it_has(
    suite: Suite, echo_server: TcpServer
) -> None:
    relay = suite.relay("--heartbeat", "5")
    suite.reverse_proxy(relay)
    entry_point = suite.entry_point(relay, "-r", f"0:{echo_server.address}")
    entrance, address = entry_point.addresses()[0], relay.addresses()[0]
    entry_point.wait_metric("channels_idle", lambda count: count >= 8)
    with connected(entrance) as old:
        old.sendall(b"before")
        assert old.recv(100) == b"before"
        descriptors = relay.descriptors()
        _, hard = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (descriptors + 10, hard))
        crowd = strangers(address, 300, [])
        relay.wait_log("cannot accept connections; raise the limit .ulimit -n.")
        cpu, began = cpu_seconds(relay), time.monotonic()
        for size in (1, 1000, 1_000_000):
            payload = os.urandom(size)
            sender = threading.Thread(target=old.sendall, args=(payload,))
            sender.start()
            got = b""
            while len(got) < size:
                got += old.recv(1 << 20)
            assert got == payload
            sender.join()
        until = began + 2
        while time.monotonic() < until:
            old.sendall(b"?")
            assert old.recv(1) == b"?"
            until -= 0.0005
        # It does not spin: it is the stream that costs something.
        assert cpu_seconds(relay) - cpu < 0.8 * (time.monotonic() - began)
        for sock in crowd:
            sock.close()
        # The first one stands behind 300 others, of whom ten at a time are let in and go.
        assert max(login_seconds(suite, relay, 3)) < SILENT_S
        assert login_seconds(suite, relay, 3)[-1] < DELAY_S
        old.sendall(b"after")
        assert old.recv(100) == b"after"
    assert sum("cannot accept" in line for line in relay.lines) <= 10
    assert relay.process.poll() is None


def cpu_seconds(program: Program) -> float:
    with open(f"/proc/{program.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
