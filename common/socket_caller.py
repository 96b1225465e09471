"""A caller that is a TCP connection: a source of an entry-point, or a visitor of the relay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from common.addresses import HostPort
from common.channel import Channel
from common.outcome import Outcome
from common.sockets import close_with_reset, is_dead
from common.stream import Stream

STALE_S = 10.0
"""Seconds without an acknowledgement after which the kernel is asked about a caller that waits."""


class SocketCaller:
    """A connection that wants a channel; kinds of callers add what they ask for.

    Args:
        sock: non-blocking; owned by the caller, then by its stream.
        address: where it comes from.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, address: HostPort):
        self.sock = sock
        self.address = address
        self.accepted_at = loop.time()
        self.stream: Stream | None = None
        """The stream, once it has begun."""
        self._loop = loop

    def request(self) -> bytes:
        """Return the frame that asks for what the caller wants."""
        raise NotImplementedError

    def ended(self, outcome: Outcome, detail: str) -> None:
        """Report how it went; called once."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Bytes from the connection to the far end."""
        return self.stream.sent if self.stream else 0

    @property
    def received(self) -> int:
        """Bytes from the far end to the connection."""
        return self.stream.received if self.stream else 0

    @property
    def seconds(self) -> float:
        """Seconds since the connection was accepted."""
        return self._loop.time() - self.accepted_at

    def gone(self) -> bool:
        """Whether the connection has been reset already."""
        return is_dead(self.sock, STALE_S)

    def begin(
        self, channel: Channel, preface: bytes, heartbeat_s: float, on_end: Callable[[], None]
    ) -> None:
        """Let a stream join the connection and the channel."""

        def ended(stream: Stream) -> None:
            on_end()
            assert stream.outcome is not None  # noqa: S101 - a stream that has ended has one
            self.ended(stream.outcome, stream.detail)

        self.stream = Stream(self._loop, channel, self.sock, "source", ended, heartbeat_s)
        self.stream.begin(preface)

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Reset the connection: there is no channel for it."""
        close_with_reset(self.sock)
        self.ended(outcome, detail)

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End the stream at once."""
        assert self.stream is not None  # noqa: S101 - called after begin only
        self.stream.stop(outcome, detail)
