"""One channel of the acceptor: it waits for OPEN, dials, and lets a ``Stream`` take over.

After a refusal it takes in what the opener had already sent, up to FIN, and is ready for the next
OPEN.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from common import frames
from common.addresses import HostPort
from common.channel import Channel, log_idle_loss
from common.client import Partners
from common.joined import Joined
from common.logs import event
from common.outcome import Outcome
from common.refusals import Refusal
from common.stream import Stream
from reverse_proxy.dialler import Dial
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class House:
    """What all desks share.

    Args:
        group: the group of this reverse-proxy.
        policy: what may be dialled.
        partners: whose streams are served, and what each key may open.
    """

    loop: asyncio.AbstractEventLoop
    group: str
    policy: Policy
    partners: Partners
    metrics: Metrics


class _Mood(enum.Enum):
    IDLE = "on an idle channel"
    DIALLING = "while the destination is dialled"
    REFUSING = "after a refusal"


class Desk:
    """Serves one channel, stream after stream; it owns the channel.

    Args:
        house: what all desks share.
        on_end: called once, when the channel has ended.
    """

    __slots__ = (
        "_dial",
        "_house",
        "_mood",
        "_on_end",
        "_request",
        "_started_at",
        "channel",
        "heartbeat_s",
        "partner",
        "stream",
    )

    def __init__(self, house: House, joined: Joined, on_end: Callable[[Desk], None]) -> None:
        self._house = house
        self._on_end = on_end
        self.partner = joined.partner
        self.heartbeat_s = joined.heartbeat_s
        self.stream: Stream | None = None
        self._mood = _Mood.IDLE
        self._dial: Dial | None = None
        self._request: frames.Open
        self._started_at = 0.0
        self.channel = Channel(house.loop, joined.session, self, joined.heartbeat_s)

    @property
    def busy(self) -> bool:
        """Whether a stream runs, or its destination is being dialled."""
        return self.stream is not None or self._mood is _Mood.DIALLING

    # What the channel reports

    def on_data(self, data: memoryview) -> int:
        """Take in what was sent before the opener knew of the refusal."""
        if self._mood is not _Mood.REFUSING:
            raise frames.not_allowed(frames.DATA, self._mood.value)
        return len(data)

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Take the next OPEN, or the FIN that ends a refused stream."""
        if kind == frames.OPEN and self._mood is _Mood.IDLE:
            self._open(frames.decode_open(payload))
        elif kind == frames.FIN and self._mood is _Mood.REFUSING:
            self._mood = _Mood.IDLE
            self.channel.write(frames.encode(frames.DONE))
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

    def _open(self, request: frames.Open) -> None:
        self._request = request
        self._started_at = self._house.loop.time()
        self._house.metrics.streams_opened += 1
        if request.group != self._house.group:
            # Only a relay that joins links of two groups can bring this about.
            self._refuse(Refusal("wrong-group", "this reverse-proxy is of another group"))
            return
        self._mood = _Mood.DIALLING
        self.channel.pause()  # what follows OPEN waits for the destination
        self._dial = Dial(
            self._house.loop,
            request.host,
            request.port,
            self._judge,
            self._connected,
            self._refused,
        )
        self._dial.start()

    def _judge(self, host: str, address: str, port: int) -> Refusal | None:
        trusted = self._house.partners.get(self.partner)
        if trusted is None:
            return Refusal("expired-key", "the opener's key is no longer trusted here")
        return trusted.check_open(host, address, port) or self._house.policy.check(
            host, address, port
        )

    def _connected(self, sock: socket.socket) -> None:
        self._dial = None
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

    def _report(self, outcome: Outcome, detail: str, sent: int = 0, received: int = 0) -> None:
        request = self._request
        event(
            log,
            logging.INFO if outcome is Outcome.FINISHED else logging.WARNING,
            "stream",
            source=str(HostPort(request.source_host, request.source_port)),
            destination=str(HostPort(request.host, request.port)),
            outcome=outcome.value,
            sent=sent,
            received=received,
            seconds=self._house.loop.time() - self._started_at,
            detail=detail or None,
        )
