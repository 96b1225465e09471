"""Clients that are admitted and hostile towards a partner: openers that break the inner protocol.

Whatever they do ends their own channel with one clear line in the log. Nothing crashes, nothing
stays behind, and nobody else waits for it.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from common import frames
from common.addresses import HostPort
from tests.programs.ends import TcpServer, connected
from tests.programs.evil_client import (
    DATA,
    FIN,
    EvilClient,
    dial,
    is_ended,
    open_frame,
    raw_socket,
    read_frames,
)
from tests.programs.harness import Suite, wait_for


class Chain:
    """A relay, a reverse-proxy and an entry-point with an innocent stream open."""

    def __init__(self, suite: Suite, echo_server: TcpServer) -> None:
        self.suite = suite
        self.destination = echo_server.address
        self.relay, self.reverse_proxy, self.entry_point, self.entrance = suite.chain(
            echo_server.address
        )

    def opener(self) -> EvilClient:
        return dial(self.suite, self.relay).pending("entry-point")

    def healthy(self) -> None:
        with connected(self.entrance) as sock:
            sock.sendall(b"still there?")
            assert sock.recv(100) == b"still there?"


@pytest.fixture
def chain(suite: Suite, echo_server: TcpServer) -> Iterator[Chain]:
    chain = Chain(suite, echo_server)
    with connected(chain.entrance) as innocent:
        innocent.sendall(b"before")
        assert innocent.recv(100) == b"before"
        yield chain
        innocent.sendall(b"after")
        assert innocent.recv(100) == b"after"
    chain.healthy()
    for program in (chain.relay, chain.reverse_proxy, chain.entry_point):
        assert program.process.poll() is None
        assert "internal error" not in program.log
        assert "Traceback" not in program.log


OPENER_ON_IDLE: dict[str, tuple[bytes, str]] = {
    "DATA before OPEN": (DATA, "DATA is not allowed on an idle channel"),
    "FIN before OPEN": (FIN, "FIN is not allowed on an idle channel"),
    "REFUSED from the opener": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed on an idle channel",
    ),
    "GOAWAY from the opener": (
        frames.encode(frames.GOAWAY),
        "GOAWAY is not allowed on an idle channel",
    ),
    "a type that is none": (frames.header(99, 0), "a frame of type 99 with 0 bytes is not allowed"),
    "type 0": (frames.header(0, 5), "a frame of type 0 with 5 bytes is not allowed"),
    "a huge OPEN": (
        frames.header(frames.OPEN, 0xFFFFFF),
        "a frame of OPEN with 16777215 bytes",
    ),
    "a PING with a payload": (
        frames.header(frames.PING, 1),
        "a frame of PING with 1 bytes",
    ),
    "an empty OPEN": (frames.header(frames.OPEN, 0), "a frame of OPEN with 0 bytes is not allowed"),
    "an OPEN that is none": (frames.encode(frames.OPEN, b"\xc1"), "not an OPEN frame"),
    "an OPEN of port 0": (
        frames.encode_open(frames.Open("0", "tcp", "127.0.0.1", 0, "192.0.2.9", 1)),
        "not an OPEN frame",
    ),
    "an OPEN of sctp": (
        frames.encode_open(frames.Open("0", "sctp", "127.0.0.1", 53, "192.0.2.9", 1)),  # type: ignore[arg-type]
        "not an OPEN frame",
    ),
    "an OPEN with a long name": (
        frames.encode_open(frames.Open("0", "tcp", "x" * 256, 53, "192.0.2.9", 1)),
        "not an OPEN frame",
    ),
    "DATA of nothing": (frames.header(frames.DATA, 0), "a DATA frame without data is not allowed"),
}


def test_bad_frames_of_an_opener_on_an_idle_channel(chain: Chain, echo_server: TcpServer) -> None:
    accepted = echo_server.accepted
    for name, (words, _) in OPENER_ON_IDLE.items():
        with chain.opener().inner("entry-point") as evil:
            evil.sendall(words)
            assert is_ended(evil), name
    assert echo_server.accepted == accepted
    lines = [line for line in chain.reverse_proxy.lines if "channel closed" in line]
    assert len(lines) == 5  # then the log's budget is spent
    for line, (_, reason) in zip(lines, OPENER_ON_IDLE.values(), strict=False):
        assert f'reason="protocol error: {reason}' in line
        assert f"partner={chain.suite.identity.public.fingerprint}" in line


OPENER_WITHIN: dict[str, tuple[bytes, str]] = {
    "OPEN twice": (b"OPEN", "OPEN is not allowed within a stream"),
    "REFUSED": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed within a stream",
    ),
    "DATA after FIN": (FIN + DATA, "DATA is not allowed after FIN"),
    "FIN twice": (FIN + FIN, "FIN is not allowed within a stream"),
    "a type that is none": (frames.header(99, 0), "a frame of type 99 with 0 bytes is not allowed"),
    "a huge REFUSED": (
        frames.header(frames.REFUSED, 5000),
        "a frame of REFUSED with 5000 bytes",
    ),
}


def test_bad_frames_of_an_opener_within_a_stream(suite: Suite) -> None:
    ends: list[str] = []

    def hold(sock: socket.socket) -> None:
        try:
            while sock.recv(65536):
                pass
            while True:  # the opener's end was a clean one; keep our side open
                sock.send(b".")
                time.sleep(0.01)
        except (ConnectionResetError, BrokenPipeError):
            ends.append("reset")

    with TcpServer(hold) as server:
        chain = Chain(suite, server)
        for name, (words, reason) in OPENER_WITHIN.items():
            with chain.opener().inner("entry-point") as evil:
                request = open_frame(server.address)
                evil.sendall(request + DATA + (request if words == b"OPEN" else words))
                assert is_ended(evil), name
            line = chain.reverse_proxy.wait_log(re.escape(f"protocol error: {reason}"))
            assert "outcome=lost" in line
        wait_for(lambda: ends == ["reset"] * len(OPENER_WITHIN), "each destination sees a RST")
        assert chain.reverse_proxy.metric("streams_failed") == len(OPENER_WITHIN)


def test_a_reset_of_an_idle_channel_is_no_offence(chain: Chain) -> None:
    """It crosses our FIN when the other side's stream ends badly at the last moment."""
    with chain.opener().inner("entry-point") as evil:
        evil.sendall(frames.encode(frames.RESET))
        assert is_ended(evil)
    assert "protocol error" not in chain.reverse_proxy.log


STRANGE_HOSTS = [
    "127.0.0.1\0.example",
    "\0",
    "%",
    " ",
    "..",
    "xn--",
    "\u00fc.example",
    "\U0001f4a9" * 60,
    "\x1b[2J\n2026 fake line",
    "a" * 255,
    "127.1",
    "0x7f000001",
    "2130706433",
    "::ffff:169.254.169.254",
    "0",
    "-1",
]


def test_strange_host_names_are_refused_and_the_channel_lives_on(
    chain: Chain, echo_server: TcpServer
) -> None:
    port = chain.destination.port
    with chain.opener().inner("entry-point") as evil:
        for host in STRANGE_HOSTS:
            evil.sendall(open_frame(HostPort(host, port)))
            kind, payload = next(read_frames(evil))
            assert kind == frames.REFUSED, host
            frames.decode_refused(payload)
            evil.sendall(FIN)
            assert next(read_frames(evil)) == (frames.DONE, b"")
        evil.sendall(open_frame(chain.destination) + DATA + FIN)
        assert next(read_frames(evil)) == (frames.DATA, b"data")
    # A line of the log for each, and none of them is forged.
    assert not [line for line in chain.reverse_proxy.lines if "\x1b" in line]
    assert not [line for line in chain.reverse_proxy.lines if line.startswith("2026 fake")]


def stalls(chain: Chain, evil_words: Callable[[], None]) -> float:
    """Return the longest round trip of an innocent stream while ``evil_words`` runs."""
    talker = threading.Thread(target=evil_words)
    worst = 0.0
    with connected(chain.entrance) as sock:
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"
        talker.start()
        while talker.is_alive():
            began = time.monotonic()
            sock.sendall(b"?")
            assert sock.recv(1) == b"?"
            worst = max(worst, time.monotonic() - began)
    talker.join()
    return worst


FLOOD_S = 1.5


def test_a_flood_of_pings_is_answered_sparingly(chain: Chain) -> None:
    evil = chain.opener().inner("entry-point")
    pings = frames.encode(frames.PING) * 4096  # one record

    def ping() -> None:
        until = time.monotonic() + FLOOD_S
        with suppress(OSError):
            while time.monotonic() < until:
                evil.send(pings)

    evil.settimeout(2)
    assert stalls(chain, ping) < 0.5
    evil.close()


def test_a_flood_of_tiny_frames_does_not_hold_up_others(chain: Chain) -> None:
    evil = chain.opener().inner("entry-point")
    evil.settimeout(2)
    stop = threading.Event()

    def drain() -> None:  # of the echoes
        with suppress(OSError):
            while not stop.is_set() and evil.recv(65536):
                pass

    def talk() -> None:
        until = time.monotonic() + FLOOD_S
        tiny = (frames.header(frames.DATA, 1) + b"x") * 3276  # one record
        with suppress(OSError):
            evil.sendall(open_frame(chain.destination))
            while time.monotonic() < until:
                evil.send(tiny)

    drainer = threading.Thread(target=drain)
    drainer.start()
    assert stalls(chain, talk) < 0.5
    stop.set()
    raw_socket(evil).close()
    drainer.join()
