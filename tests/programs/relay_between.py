"""The two real programs, an evil relay between them, and a destination that keeps its books."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.programs.ends import TcpServer, connected
from tests.programs.evil_relay import EvilRelay, Tamper, Wire
from tests.programs.harness import Program, Suite, wait_for

UP, DOWN = os.urandom(100_000), os.urandom(100_000)


class Ledger:
    """A destination that sends ``DOWN`` and keeps what it gets, and how each connection ended."""

    def __init__(self) -> None:
        self.got: list[bytearray] = []
        self.ends: list[str] = []
        self.server = TcpServer(self._serve)

    def _serve(self, sock: socket.socket) -> None:
        got = bytearray()
        self.got.append(got)
        self.ends.append(exchange(sock, DOWN, got))


def exchange(sock: socket.socket, data: bytes, got: bytearray) -> str:
    """Send all of ``data``, then receive until the end; return which end it was.

    One after the other: the kernel tells of a RST once, to whoever asks first.
    """
    try:
        sock.sendall(data)
        while part := sock.recv(65536):
            got += part
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except TimeoutError:
        return "nothing"
    return "clean end"


@dataclass
class Stage:
    """The two real programs, and between them a relay in the hands of a test."""

    suite: Suite
    relay: EvilRelay
    reverse_proxy: Program
    entry_point: Program
    ledger: Ledger

    @contextmanager
    def source(self) -> Iterator[socket.socket]:
        """A source that ends with a RST, so that nobody serves it when it has gone."""
        entrance = self.entry_point.addresses()[0]
        with connected(entrance, 10) as source:
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            yield source

    def idle_wire(self, tamper: Tamper | None = None) -> Wire:
        """Join the two and wait until the entry-point has the channel."""
        before = self.entry_point.metric("channels_opened")
        wire = self.relay.join(tamper)
        self.entry_point.wait_metric("channels_opened", lambda count: count > before)
        return wire

    def check_health(self) -> None:
        """A clean pair serves the next source as if nothing had happened."""
        wire = self.idle_wire()
        with self.source() as source:
            source.sendall(UP)
            got = bytearray()
            while len(got) < len(DOWN):
                got += source.recv(65536)
            assert got == DOWN
            wait_for(lambda: self.ledger.got[-1] == UP, "all of it has arrived")
        wire.close()
        for program in (self.reverse_proxy, self.entry_point):
            assert program.process.poll() is None
            assert "internal error" not in program.log
            assert "Traceback" not in program.log


@pytest.fixture
def stage(suite: Suite) -> Iterator[Stage]:
    ledger = Ledger()
    with EvilRelay(suite) as relay, ledger.server as server:
        reverse_proxy = suite.reverse_proxy(relay.address, "--pool", "4")
        entry_point = suite.entry_point(
            relay.address,
            *("-r", f"0:{server.address}", "--pool", "4", "--wait", "30"),
            channels=0,
        )
        yield Stage(suite, relay, reverse_proxy, entry_point, ledger)
        for program in (entry_point, reverse_proxy):
            program.end()
