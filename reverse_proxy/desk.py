"""One channel of the acceptor: it waits for a request, dials, and lets a ``Stream`` take over.

A request is an OPEN frame from a partner or a VISIT frame from the relay; the house says which,
and what it means. After a refusal the desk takes in what the opener had already sent, up to FIN,
and is ready for the next request.
"""

from __future__ import annotations

import enum
import logging
import socket
from collections.abc import Callable
from typing import Final

from common import frames
from common.channel import Channel, log_idle_loss
from common.joined import Joined
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.stream import Stream
from reverse_proxy.dialler import Dial
from reverse_proxy.flows import FlowDesk
from reverse_proxy.houses import House, Request
from reverse_proxy.informing import Informer

log = logging.getLogger(__name__)


_DATAGRAMS: Final = (frames.FLOW, frames.DATAGRAM, frames.FORGET)


class _Mood(enum.Enum):
    IDLE = "on an idle channel"
    DIALLING = "while the destination is dialled"
    REFUSING = "after a refusal"


class Desk:
    """Serves one channel, stream after stream; it owns the channel.

    Args:
        house: what all desks share.
        informer: tells destinations who their client is.
        on_end: called once, when the channel has ended.
    """

    __slots__ = (
        "_dial",
        "_house",
        "_informer",
        "_mood",
        "_on_end",
        "_request",
        "_started_at",
        "channel",
        "flows",
        "heartbeat_s",
        "partner",
        "stream",
    )

    def __init__(
        self, house: House, informer: Informer, joined: Joined, on_end: Callable[[Desk], None]
    ) -> None:
        self._house = house
        self._informer = informer
        self._on_end = on_end
        self.partner = joined.partner
        self.heartbeat_s = joined.heartbeat_s
        self.stream: Stream | None = None
        self.flows: FlowDesk | None = None
        self._mood = _Mood.IDLE
        self._dial: Dial | None = None
        self._request: Request | None = None
        self._started_at = 0.0
        self.channel = Channel(house.loop, joined.session, self, joined.heartbeat_s)

    @property
    def busy(self) -> bool:
        """Whether a stream runs, or its destination is being dialled."""
        return bool(self.stream or self.flows) or self._mood is _Mood.DIALLING

    def stop(self, outcome: Outcome, detail: str) -> None:
        """End what runs, and the channel, at once."""
        running = self.stream or self.flows
        if running is not None:
            running.stop(outcome, detail)
        self.channel.lose(detail)

    # What the channel reports

    def on_data(self, data: memoryview) -> int:
        """Take in what was sent before the opener knew of the refusal."""
        if self._mood is not _Mood.REFUSING:
            raise frames.not_allowed(frames.DATA, self._mood.value)
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Take the next request, or the FIN that ends a refused stream."""
        if kind == self._house.opens and self._mood is _Mood.IDLE:
            self._open(payload)
        elif kind == frames.FIN and self._mood is _Mood.REFUSING:
            self._mood = _Mood.IDLE
            self.channel.write(frames.encode(frames.DONE))
        elif kind in _DATAGRAMS and self._mood is _Mood.REFUSING:
            pass  # sent before the opener knew of the refusal
        elif kind == frames.RESET and self._mood is _Mood.REFUSING:
            self.channel.close()
            self._on_end(self)
        elif kind == frames.RESET and self._mood is _Mood.IDLE:
            # The stream before ended well for us, and badly for the opener.
            self.channel.lose("reset by the opener")
        elif kind != frames.PONG:
            raise frames.not_allowed(kind, self._mood.value)

    def on_drained(self) -> None:
        """Nothing here waits for the channel to drain."""

    def on_tick(self) -> None:
        """A dial has a timer of its own."""

    def on_lost(self, reason: str) -> None:
        """Give up what was being dialled."""
        if self._dial is not None:
            self._dial.cancel()
            self._report(Outcome.LOST, reason)
        else:
            log_idle_loss(log, self.partner, reason)
        self._on_end(self)

    # A stream's life

    def _open(self, payload: bytes) -> None:
        request = self._house.read(payload, self.partner)
        self._started_at = self._house.loop.time()
        self._house.metrics.streams_opened += 1
        self._house.on_request()
        if isinstance(request, Refusal):
            self._request = None
            self._refuse(request)
            return
        self._request = request
        if request.protocol == "udp":
            self.flows = FlowDesk(
                self._house.loop,
                self.channel,
                request,
                self._house.metrics,
                self._flows_ended,
                self._flows_refused,
            )
            self.flows.start()
            return
        self._mood = _Mood.DIALLING
        self.channel.pause()  # what follows the request waits for the destination
        self._dial = Dial(
            self._house.loop,
            request.destination.host,
            request.destination.port,
            request.judge,
            self._connected,
            self._refused,
            self._informer.source(request),
        )
        self._dial.start()

    def _connected(self, sock: socket.socket) -> None:
        self._dial = None
        assert self._request is not None  # noqa: S101 - it is what was dialled for
        refusal = self._informer.greet(sock, self._request)
        if refusal is not None:
            sock.close()
            self._refused(refusal)
            return
        self._mood = _Mood.IDLE
        loop = self._house.loop
        self.stream = Stream(loop, self.channel, sock, "destination", self._ended, self.heartbeat_s)
        self.stream.begin()
        self.channel.resume()

    def _refused(self, refusal: Refusal) -> None:
        self._dial = None
        self._refuse(refusal)
        self.channel.resume()

    def _refuse(self, refusal: Refusal) -> None:
        self._mood = _Mood.REFUSING
        self._house.metrics.streams_refused += 1
        self._report(Outcome.REFUSED, f"{refusal.code}: {refusal.detail}")
        self.channel.write(frames.encode_refused(frames.Refused(refusal.code, refusal.detail)))

    def _ended(self, stream: Stream) -> None:
        self.stream = None
        metrics = self._house.metrics
        metrics.bytes_sent += stream.sent
        metrics.bytes_received += stream.received
        if stream.outcome is Outcome.FINISHED:
            metrics.streams_finished += 1
        else:
            metrics.streams_failed += 1
        assert stream.outcome is not None  # noqa: S101 - a stream that has ended has one
        self._report(stream.outcome, stream.detail, stream.sent, stream.received)
        self.channel.handler = self
        if self.channel.closed:
            self._on_end(self)

    def _flows_refused(self, refusal: Refusal) -> None:
        self.flows = None
        self.channel.handler = self
        self._refuse(refusal)

    def _flows_ended(self, outcome: Outcome, detail: str) -> None:
        flows, self.flows = self.flows, None
        assert flows is not None  # noqa: S101 - they have just ended
        metrics = self._house.metrics
        metrics.bytes_sent += flows.sent
        metrics.bytes_received += flows.received
        if outcome is Outcome.FINISHED:
            metrics.streams_finished += 1
        else:
            metrics.streams_failed += 1
        self._report(outcome, detail, flows.sent, flows.received)
        self.channel.handler = self
        if self.channel.closed:
            self._on_end(self)

    def _report(self, outcome: Outcome, detail: str, sent: int = 0, received: int = 0) -> None:
        request = self._request
        event(
            log,
            logging.INFO if outcome is Outcome.FINISHED else logging.WARNING,
            "stream",
            budget_key=self._house.budget_key(outcome),
            source=str(request.source) if request else None,
            destination=str(request.destination) if request else None,
            outcome=outcome.value,
            sent=sent,
            received=received,
            seconds=self._house.loop.time() - self._started_at,
            detail=detail or None,
        )
