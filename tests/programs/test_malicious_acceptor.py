"""Clients that are admitted and hostile towards a partner: acceptors that break the inner protocol.

Whatever they do ends their own channel or stream with one clear line in the log.
"""

from __future__ import annotations

import re
import socket
import time

import pytest

from common import frames
from common.addresses import HostPort
from common.wire import Ready
from tests.programs.ends import connected
from tests.programs.evil_client import (
    DATA,
    FIN,
    EvilClient,
    dial,
    is_ended,
    open_frame,
    raw_socket,
    read_frames,
    send,
)
from tests.programs.harness import Program, Suite, wait_for

ACCEPTOR_ON_IDLE: dict[str, tuple[bytes, str]] = {
    "OPEN": (open_frame(HostPort("127.0.0.1", 22)), "OPEN is not allowed on an idle channel"),
    "DATA": (DATA, "DATA is not allowed on an idle channel"),
    "FIN": (FIN, "FIN is not allowed on an idle channel"),
    "REFUSED": (
        frames.encode_refused(frames.Refused("evil", "evil")),
        "REFUSED is not allowed on an idle channel",
    ),
    "a type that is none": (frames.header(77, 0), "a frame of type 77 with 0 bytes is not allowed"),
}


def acceptor(suite: Suite, relay: Program) -> EvilClient:
    return dial(suite, relay).pending("reverse-proxy")


def test_bad_frames_of_an_acceptor_on_an_idle_channel(suite: Suite) -> None:
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    for name, (words, reason) in ACCEPTOR_ON_IDLE.items():
        with acceptor(suite, relay).inner("reverse-proxy") as evil:
            evil.sendall(words)
            assert is_ended(evil), name
        line = entry_point.wait_log(re.escape(f'reason="protocol error: {reason}"'))
        assert "channel closed" in line
    wait_for(lambda: relay.metric("pairs_open") == 0, "the pairs are gone")


ACCEPTOR_WITHIN: dict[str, tuple[bytes, str, str]] = {
    "OPEN": (open_frame(HostPort("127.0.0.1", 22)), "lost", "OPEN is not allowed within a stream"),
    "DATA after FIN": (FIN + DATA, "lost", "DATA is not allowed after FIN"),
    "FIN twice": (FIN + FIN, "lost", "FIN is not allowed within a stream"),
    "REFUSED after FIN": (
        FIN + frames.encode_refused(frames.Refused("evil", "evil")),
        "lost",
        "REFUSED is not allowed within a stream",
    ),
    "a REFUSED that is none": (
        frames.encode(frames.REFUSED, b"\xc1"),
        "lost",
        "not a REFUSED frame",
    ),
    "a REFUSED that moves the cursor": (
        frames.encode_refused(frames.Refused("evil", "\x1b[2J\nforged line")),
        "refused",
        "forged line",
    ),
    "an end without FIN": (b"", "lost", "the other side ended the connection"),
}


def test_bad_frames_of_an_acceptor_within_a_stream(suite: Suite) -> None:
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    entrance = entry_point.addresses()[0]
    for name, (words, outcome, reason) in ACCEPTOR_WITHIN.items():
        with acceptor(suite, relay).inner("reverse-proxy") as evil, connected(entrance) as source:
            source.sendall(b"question")
            stream = read_frames(evil)
            assert next(stream)[0] == frames.OPEN, name
            assert next(stream) == (frames.DATA, b"question")
            evil.sendall(frames.header(frames.DATA, 4) + b"answ")
            assert source.recv(4) == b"answ"
            if words:
                evil.sendall(words)
            else:
                evil.close()
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                use_up(source)
        line = entry_point.wait_log(re.escape(reason))
        assert f"outcome={outcome}" in line, name
        assert "\x1b" not in line
    wait_for(lambda: entry_point.metric("streams_open") == 0, "no stream is left behind")
    assert entry_point.process.poll() is None


def use_up(source: socket.socket) -> None:
    """Receive to the end, then send until the connection turns out to be reset."""
    while source.recv(100):
        pass
    until = time.monotonic() + 5
    while time.monotonic() < until:  # a FIN went before: only sending tells of the RST
        source.sendall(b"?")
        time.sleep(0.01)


def test_a_partner_that_never_speaks_tls_costs_no_channel(suite: Suite) -> None:
    """READY, and then silence or garbage instead of the inner session."""
    relay = suite.relay()
    entry_point = suite.entry_point(relay, "-r", "0:9", channels=0)
    evil = acceptor(suite, relay)
    evil.paired()
    send(evil.tls, Ready())
    raw = raw_socket(evil.tls)
    raw.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert is_ended(raw)
    raw.close()
    assert "wrong version number" in entry_point.wait_log("no channel came of a pair")
    with acceptor(suite, relay).inner("reverse-proxy"):  # and the next one is welcome
        entry_point.wait_metric("channels_idle", lambda count: count == 1)
