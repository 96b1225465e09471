"""The visitor's end of the HTTP edge: a wire, the loop's interest in it, and an orderly end."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from common.fairness import Share
from common.scratch import scratch
from common.sockets import is_dead, keep_alive, was_reset
from relay_server.http.wires import BUFFER_SIZE, Wire

SILENT_S: Final = 30.0
"""Seconds in which a visitor that is alive acknowledges what it is sent."""

# One loop per process and never two reads at once: all connections share one buffer.
_buffer: Final = scratch(BUFFER_SIZE)


class User(Protocol):
    """Who is served by a connection."""

    def on_data(self, data: memoryview) -> None:
        """Take what the visitor has sent; it is valid only now."""

    def on_visitor_end(self, *, reset: bool) -> None:
        """Note that the visitor will send no more."""

    def on_drained(self) -> None:
        """Go on writing."""

    def on_lost(self) -> None:
        """Note that nothing can be written any more."""


class Connection:
    """Reads when its user wants, and writes; it owns the wire."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wire: Wire, user: User) -> None:
        self.sent = 0
        """Bytes written."""
        self.ended = False
        """Whether the visitor will send no more."""
        self.draining = False
        """Whether the kernel has not taken all that was written."""
        self._loop = loop
        self._wire = wire
        self._share = Share()
        self._fd = wire.sock.fileno()
        self._user = user
        self._heard_at = self._taken_at = loop.time()
        self._reading = False
        self._goodbye = False
        self._closed = False

    def start(self) -> None:
        """Begin to read; TLS may have decrypted the first bytes already."""
        keep_alive(self._wire.sock)
        self.read_on()
        self._loop.call_soon(self._on_readable)

    def read_on(self) -> None:
        """Read what comes."""
        if not (self._reading or self.ended or self._closed):
            self._reading = True
            self._heard_at = self._loop.time()
            self._loop.add_reader(self._fd, self._on_readable)

    def stop_reading(self) -> None:
        """Slow the visitor down."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``; look at :attr:`draining` before sending much more."""
        if not data or self._closed:
            return
        self.sent += len(data)
        try:
            drained = self._wire.write(data)
        except OSError:
            self._user.on_lost()
            return
        if not drained and not self.draining:
            self.draining = True
            self._taken_at = self._loop.time()
            self._loop.add_writer(self._fd, self._on_writable)

    def say_goodbye(self) -> None:
        """Say, after what is on its way, that no more will come."""
        self._goodbye = True
        if not self.draining:
            self._wire.say_goodbye()

    def close(self, *, abort: bool) -> None:
        """Close; ``abort`` makes a RST of it. May be called twice."""
        if not self._closed:
            self._closed = True
            self.stop_reading()
            self._loop.remove_writer(self._fd)
            if abort:
                self._wire.abort()
            else:
                self._wire.close()

    def is_dead(self) -> bool:
        """Whether the kernel has lost the visitor, and nobody has been told."""
        sock = self._wire.sock
        return was_reset(sock) if self._reads_alone else is_dead(sock, SILENT_S)

    def unread_s(self, now: float) -> float:
        """Return for how many seconds we have read, and nothing has come."""
        return now - self._heard_at if self._reading else 0.0

    def untaken_s(self, now: float) -> float:
        """Return for how many seconds the visitor has taken nothing of what waits for it."""
        return now - self._taken_at if self.draining else 0.0

    @property
    def _reads_alone(self) -> bool:
        """Whether a dead visitor would be noticed by reading."""
        return self._reading and not self.draining

    def _on_readable(self) -> None:
        if not self._reading:
            return
        count = self._wire.read(_buffer)
        if count:
            self._heard_at = self._loop.time()
            self._share.took(count)
            self._user.on_data(_buffer[:count])
        if self._wire.ended and not self._closed:
            self.stop_reading()
            self.ended = True
            self._user.on_visitor_end(reset=isinstance(self._wire.ended, OSError))

    def _on_writable(self) -> None:
        self._taken_at = self._loop.time()
        try:
            if not self._wire.flush():
                return
        except OSError:
            self._user.on_lost()
            return
        self.draining = False
        self._loop.remove_writer(self._fd)
        if self._goodbye:
            self._wire.say_goodbye()
        self._user.on_drained()
