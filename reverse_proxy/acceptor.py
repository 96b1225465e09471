"""The acceptor: keeps links pending on every relay and answers the streams of its channels.

A channel's handler here is a :class:`Desk` while no bytes flow: it waits for OPEN, dials, and lets
a ``Stream`` take over. After a refusal it takes in what the opener had already sent, up to FIN,
and is ready for the next OPEN.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
import ssl
from collections.abc import Iterable

import anyio

from common import frames
from common.addresses import HostPort
from common.channel import Channel, log_idle_loss
from common.client import Partners, new_backoff
from common.keys import PublicKey
from common.link import Client
from common.link_pool import Joined, LinkPool
from common.logs import event
from common.pool import HighWater, PoolSize
from common.refusals import Refusal
from common.stream import Outcome, Stream
from reverse_proxy.dialler import Dial
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy

log = logging.getLogger(__name__)


class _Mood(enum.Enum):
    IDLE = "on an idle channel"
    DIALLING = "while the destination is dialled"
    REFUSING = "after a refusal"


class Desk:
    """Serves one channel, stream after stream."""

    __slots__ = (
        "_acceptor",
        "_dial",
        "_mood",
        "_request",
        "_started_at",
        "channel",
        "heartbeat_s",
        "partner",
        "relay",
        "stream",
    )

    def __init__(self, acceptor: Acceptor, relay: Relay, joined: Joined) -> None:
        self._acceptor = acceptor
        self.relay = relay
        self.partner = joined.partner
        self.heartbeat_s = joined.heartbeat_s
        self.stream: Stream | None = None
        self._mood = _Mood.IDLE
        self._dial: Dial | None = None
        self._request: frames.Open
        self._started_at = 0.0
        self.channel = Channel(acceptor.loop, joined.tls, self, joined.heartbeat_s)

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
        elif kind == frames.RESET and self._mood is _Mood.REFUSING:
            self.channel.close()
            self._acceptor.forget(self)
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
        self._acceptor.forget(self)

    # A stream's life

    def _open(self, request: frames.Open) -> None:
        self._request = request
        self._started_at = self._acceptor.loop.time()
        self._acceptor.metrics.streams_opened += 1
        if request.group != self._acceptor.group:
            # Only a relay that joins links of two groups can bring this about.
            self._refuse(Refusal("wrong-group", "this reverse-proxy is of another group"))
            return
        self._mood = _Mood.DIALLING
        self.channel.pause()  # what follows OPEN waits for the destination
        self._dial = Dial(
            self._acceptor.loop,
            request.host,
            request.port,
            self._judge,
            self._connected,
            self._refused,
        )
        self._dial.start()

    def _judge(self, host: str, address: str, port: int) -> Refusal | None:
        trusted = self._acceptor.partners.get(self.partner)
        if trusted is None:
            return Refusal("expired-key", "the opener's key is no longer trusted here")
        return trusted.check_open(host, address, port) or self._acceptor.policy.check(
            host, address, port
        )

    def _connected(self, sock: socket.socket) -> None:
        self._dial = None
        self._mood = _Mood.IDLE
        loop = self._acceptor.loop
        self.stream = Stream(loop, self.channel, sock, "destination", self._ended, self.heartbeat_s)
        self.stream.begin()
        self.channel.resume()

    def _refused(self, refusal: Refusal) -> None:
        self._dial = None
        self._refuse(refusal)
        self.channel.resume()

    def _refuse(self, refusal: Refusal) -> None:
        self._mood = _Mood.REFUSING
        self._acceptor.metrics.streams_refused += 1
        self._report(Outcome.REFUSED, f"{refusal.code}: {refusal.detail}")
        self.channel.write(frames.encode_refused(frames.Refused(refusal.code, refusal.detail)))

    def _ended(self, stream: Stream) -> None:
        self.stream = None
        metrics = self._acceptor.metrics
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
            self._acceptor.forget(self)

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
            seconds=self._acceptor.loop.time() - self._started_at,
            detail=detail or None,
        )


class Relay:
    """The acceptor's account of one relay: its links, and the channels that go through it."""

    def __init__(self, linger_s: float) -> None:
        self.pool: LinkPool
        self.desks: set[Desk] = set()
        self.mark = HighWater(linger_s)


class Acceptor:
    """Answers openers.

    Args:
        relays: where links are kept pending; each has a pool of its own.
        size: bounds of each pool.
        linger_s: seconds after which links opened in a burst are closed again.
        policy: what may be dialled.
        partners: whose streams are served, and what each key may open.
    """

    def __init__(
        self,
        relays: Iterable[HostPort],
        client: Client,
        inner: ssl.SSLContext,
        *,
        size: PoolSize,
        linger_s: float,
        policy: Policy,
        partners: Partners,
        metrics: Metrics,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.group = client.group
        self.policy = policy
        self.partners = partners
        self.metrics = metrics
        self._client = client
        self._inner = inner
        self._size = size
        self._stopping = False
        self._quiet = anyio.Event()
        self.relays = [self._relay(each, linger_s) for each in relays]

    def _relay(self, address: HostPort, linger_s: float) -> Relay:
        relay = Relay(linger_s)
        relay.pool = LinkPool(
            address,
            self._client,
            self._inner,
            wanted=lambda: self._wanted(relay, 0),
            on_joined=lambda joined: self._on_joined(relay, joined),
            on_goaway=lambda: self._send_away(relay),
            on_backlog=lambda backlog: self._on_backlog(relay, backlog),
            urgent=lambda: False,  # an acceptor cannot know who waits
            backoff=new_backoff(),
        )
        return relay

    @property
    def channels(self) -> int:
        """Channels, idle and busy."""
        return sum(len(each.desks) for each in self.relays)

    @property
    def pending(self) -> int:
        """Links that are dialled, or wait for a partner."""
        return sum(each.pool.links for each in self.relays)

    @property
    def logins(self) -> int:
        """Links that a relay welcomed, ever."""
        return sum(each.pool.logins for each in self.relays)

    @property
    def failures(self) -> int:
        """Dials, logins and inner sessions that failed, ever."""
        return sum(each.pool.failures for each in self.relays)

    def status(self) -> str:
        """Return one line on how things are, for the service manager."""
        counts = f"{self.channels} channels, {self.pending} links pending"
        troubles = [each.pool.trouble for each in self.relays if each.pool.trouble]
        return f"{counts}: {troubles[0]}" if troubles else counts

    async def run(self, relay: Relay) -> None:
        """Keep one relay's pool and channels alive until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.pool.run)
            await relay.pool.first_login.wait()  # which also tells the heartbeat
            while True:
                await anyio.sleep(relay.pool.heartbeat_s)
                self._drop_untrusted(relay)
                for desk in list(relay.desks):
                    desk.channel.tick()
                relay.pool.poke()

    def forget(self, desk: Desk) -> None:
        """Strike a channel that has ended from the account."""
        if desk in desk.relay.desks:
            desk.relay.desks.remove(desk)
            self.metrics.channels_closed += 1
            desk.relay.pool.poke()
        self._settle()

    def stop(self) -> None:
        """Drain: take no further channel, and ask the openers to leave those there are."""
        self._stopping = True
        for relay in self.relays:
            relay.pool.stop()
            self._send_away(relay)
        self._settle()

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until every opener has left."""
        await self._quiet.wait()

    def abort(self) -> None:
        """End every stream and channel now: the grace is over."""
        for relay in self.relays:
            for desk in list(relay.desks):
                if desk.stream is not None:
                    desk.stream.stop(Outcome.STOPPED, "the grace is over")
                desk.channel.lose("the grace is over")

    def _settle(self) -> None:
        if self._stopping and not self.channels:
            self._quiet.set()

    def _send_away(self, relay: Relay) -> None:
        for desk in list(relay.desks):
            desk.channel.write(frames.encode(frames.GOAWAY))

    def reconsider(self) -> None:
        """Act at once on other trusted keys."""
        for relay in self.relays:
            self._drop_untrusted(relay)
            relay.pool.renew()

    def _drop_untrusted(self, relay: Relay) -> None:
        for desk in [each for each in relay.desks if self.partners.get(each.partner) is None]:
            reason = "the partner's key is no longer trusted"
            event(
                log,
                logging.WARNING,
                "channel closed",
                budget_key="channel of a key that is no longer trusted",
                partner=PublicKey(desk.partner).fingerprint,
                reason=reason,
            )
            desk.channel.lose(reason)

    def _wanted(self, relay: Relay, backlog: int) -> int:
        channels = len(relay.desks) + relay.pool.joining
        wanted = self._size.for_acceptor(channels, backlog)
        return min(relay.mark.observe(wanted, self.loop.time()), self._size.limit - channels)

    def _on_backlog(self, relay: Relay, backlog: int) -> None:
        self._wanted(relay, backlog)
        relay.pool.poke()

    def _on_joined(self, relay: Relay, joined: Joined) -> None:
        if self._stopping:
            joined.tls.close()
            return
        relay.desks.add(Desk(self, relay, joined))
        self.metrics.channels_opened += 1
