"""The service's side of the HTTP edge: one stream to one service, request after request.

An exchange belongs to one visitor's connection, never to two, so no answer can reach a visitor that
it was not meant for. When the visitor goes, or asks for another service, the stream is ended; it
lives on until the service has ended it too, so that its channel can be used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from common import frames
from common.channel import Channel
from common.outcome import Outcome

LINGER_S: Final = 5.0
"""Seconds that a service may take to end its side of a stream that nobody listens to any more."""

_FIN: Final = frames.encode(frames.FIN)
_RESET: Final = frames.encode(frames.RESET)


class Customer(Protocol):
    """Who an exchange works for: one visitor's connection."""

    def on_answer(self, data: memoryview) -> None:
        """Take bytes of the service; to be slowed, call :meth:`Exchange.pause`."""

    def on_end(self) -> None:
        """Note that the service has ended its side."""

    def on_writable(self) -> None:
        """Go on writing."""

    def on_failure(self, outcome: Outcome, detail: str) -> None:
        """Note that there is no (more) service; the exchange is over."""


class Exchange:
    """A caller of the switchboard, and the handler of its channel.

    Args:
        visit: returns the VISIT frame.
        first: what is said first.
        on_over: called once, when the stream is over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        visit: Callable[[], bytes],
        first: bytes,
        customer: Customer,
        on_over: Callable[[], None],
    ) -> None:
        self.accepted_at = loop.time()
        self.sent = 0
        self.received = 0
        self._loop = loop
        self._visit = visit
        self._first = first
        self._customer: Customer | None = customer
        self._on_over = on_over
        self._on_end: Callable[[], None] | None = None
        self._channel: Channel | None = None
        self._fin_sent = False
        self._fin_received = False
        self.over = False
        """Whether the stream has ended, or there never was one."""
        self._linger: asyncio.TimerHandle | None = None

    # The customer's side

    @property
    def open(self) -> bool:
        """Whether there is a stream, and the service has not ended it."""
        return self._channel is not None and not self._fin_received and not self.over

    def send(self, data: bytes | memoryview) -> bool:
        """Send to the service; return whether the customer may go on at once."""
        if self._channel is None:
            self._first += data
            return False
        self.sent += len(data)
        return self._channel.write(_data(data))

    def pause(self) -> None:
        """Be sent nothing until :meth:`resume`."""
        if self._channel is not None:
            self._channel.pause()

    def resume(self) -> None:
        """Be sent more."""
        if self._channel is not None and not self.over:
            self._channel.resume()

    def half_close(self) -> None:
        """Say that the customer has no more to say."""
        if not self._fin_sent and not self.over and self._channel is not None:
            self._fin_sent = True
            self._channel.write(_FIN)
            self._settle()

    def leave(self, *, clean: bool) -> None:
        """Work for nobody any more.

        Args:
            clean: all that was asked has been answered; else the service is told by a RST.
        """
        self._customer = None
        if self.over or self._channel is None:
            return
        if not clean:
            self._reset("the visitor has gone")
            return
        self._channel.resume()
        self.half_close()
        if not self.over:
            self._linger = self._loop.call_later(
                LINGER_S, self._reset, "the service did not end its side"
            )

    # The switchboard's side

    def request(self) -> bytes:
        """Return the VISIT frame."""
        return self._visit()

    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._customer is None

    def begin(
        self,
        channel: Channel,
        preface: bytes,
        heartbeat_s: float,  # noqa: ARG002 - a Caller
        on_end: Callable[[], None],
    ) -> None:
        """Take the channel over, and say what is to be said first in the same write."""
        self._channel, self._on_end = channel, on_end
        channel.handler = self
        if self._customer is None:  # it has gone while we waited for a sign of life
            self._reset("the visitor has gone")
            return
        first, self._first = self._first, b""
        self.sent += len(first)
        drained = channel.write(preface + _data(first))
        if drained and not self.over:
            self._customer.on_writable()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Note that there is no channel."""
        self._finish(outcome, detail)

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End at once."""
        self._reset(detail, outcome)

    # What the channel reports

    def on_data(self, data: memoryview) -> int:
        """Hand bytes of the service to the customer."""
        if self._fin_received:
            raise frames.not_allowed(frames.DATA, "after FIN")
        self.received += len(data)
        if self._customer is not None:
            self._customer.on_answer(data)
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Follow the service's FIN, RESET or REFUSED."""
        if kind == frames.FIN and not self._fin_received:
            self._fin_received = True
            if self._customer is not None:
                self._customer.on_end()
            self._settle()
        elif kind == frames.RESET:
            assert self._channel is not None  # noqa: S101 - it has just spoken
            self._channel.close()
            self._finish(Outcome.RESET_BY_DESTINATION, "the service reset the connection")
        elif kind == frames.REFUSED and not self._fin_received:
            refused = frames.decode_refused(payload)
            self._fin_received = True
            assert self._channel is not None  # noqa: S101 - it has just spoken
            if not self._fin_sent:
                self._channel.write(_FIN)
            self._finish(Outcome.REFUSED, f"{refused.code}: {refused.detail}")
        elif kind not in (frames.PONG, frames.GOAWAY):
            raise frames.not_allowed(kind, "within a stream")

    def on_drained(self) -> None:
        """Let the customer go on."""
        if self._customer is not None:
            self._customer.on_writable()

    def on_lost(self, reason: str) -> None:
        """Note that the channel has ended under the stream."""
        self._finish(Outcome.LOST, reason)

    def on_tick(self) -> None:
        """The channel's liveness is all there is to look after."""

    # The ends

    def _settle(self) -> None:
        if self._fin_sent and self._fin_received:
            self._finish(Outcome.FINISHED, "")

    def _reset(self, detail: str, outcome: Outcome = Outcome.RESET_BY_SOURCE) -> None:
        channel = self._channel
        if self.over or channel is None:
            return
        if not channel.closed:
            if channel.drained and channel.write(_RESET):
                channel.close()
            else:
                channel.abort()
        self._finish(outcome, detail)

    def _finish(self, outcome: Outcome, detail: str) -> None:
        if self.over:
            return
        self.over = True
        if self._linger is not None:
            self._linger.cancel()
        customer, self._customer = self._customer, None
        if self._on_end is not None:
            self._on_end()
        if customer is not None and outcome is not Outcome.FINISHED:
            customer.on_failure(outcome, detail)
        self._on_over()


def _data(data: bytes | memoryview) -> bytes:
    return b"".join((frames.header(frames.DATA, len(data)), data)) if data else b""
