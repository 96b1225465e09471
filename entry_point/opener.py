"""The opener: keeps channels ready on every relay and gives each source one of them.

A source for which none is ready waits, in order, at most ``wait_s`` seconds. Every source that is
handed to :meth:`Opener.open` is reported to ``on_end`` exactly once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import anyio

from common.addresses import HostPort
from common.client import new_backoff
from common.keys import PublicKey
from common.link import Client
from common.link_pool import Joined, LinkPool
from common.logs import event
from common.pool import PoolSize
from common.sockets import close_with_reset, is_dead
from common.stream import Outcome, Stream
from entry_point.idle_lines import IdleLines
from entry_point.line import Line, Relay
from entry_point.metrics import Metrics
from entry_point.proof import Proof
from entry_point.source import Source

log = logging.getLogger(__name__)

FRESH_S: Final = 5.0
"""A channel heard from within so many seconds takes a source's bytes without a question."""


class Opener:
    """Gives each :class:`Source` a channel.

    Args:
        relays: where the channels go through; each has a pool of its own.
        size: bounds of each pool.
        linger_s: seconds after which channels opened in a burst are closed again.
        wait_s: seconds a source waits for a channel.
        trusted: whether a partner's raw key may be used now; asked again at every tick.
        on_end: called with a source, its stream if it got one, the outcome and its detail.
    """

    def __init__(
        self,
        relays: Iterable[HostPort],
        client: Client,
        inner: ssl.SSLContext,
        *,
        size: PoolSize,
        linger_s: float,
        wait_s: float,
        trusted: Callable[[bytes], bool],
        metrics: Metrics,
        on_end: Callable[[Source, Stream | None, Outcome, str], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._client = client
        self._inner = inner
        self._size = size
        self._wait_s = wait_s
        self._trusted = trusted
        self._metrics = metrics
        self._on_end = on_end
        self._idle: IdleLines[Line] = IdleLines()
        self._streams: dict[Stream, tuple[Source, Line]] = {}
        self._proofs: dict[Proof, tuple[Source, Line]] = {}
        self._waiting: deque[Source] = deque()
        self._stopping = False
        self._quiet = anyio.Event()
        self.relays = [self._relay(each, linger_s) for each in relays]

    def _relay(self, address: HostPort, linger_s: float) -> Relay:
        relay = Relay(linger_s)
        relay.pool = LinkPool(
            address,
            self._client,
            self._inner,
            wanted=lambda: self._links_wanted(relay),
            on_joined=lambda joined: self._on_joined(relay, joined),
            on_goaway=lambda: self._on_goaway(relay),
            on_backlog=lambda _: None,
            urgent=lambda: bool(self._waiting),
            backoff=new_backoff(),
        )
        return relay

    @property
    def idle(self) -> int:
        """Channels that are ready."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Sources that have a channel."""
        return len(self._streams) + len(self._proofs)

    @property
    def waiting(self) -> int:
        """Sources that have none yet."""
        return len(self._waiting)

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
        counts = f"{self.busy} streams, {self.idle} channels ready, {self.waiting} sources waiting"
        return counts if self.idle or self.busy else f"{counts}: {self._why_none()}"

    def open(self, source: Source) -> None:
        """Give the source a channel, now or as soon as there is one."""
        if is_dead(source.sock, self._wait_s):  # a health check: it costs no channel
            self._on_end(source, None, Outcome.RESET_BY_SOURCE, "it did not wait")
            close_with_reset(source.sock)
            return
        line = self._idle.take()
        if line is not None:
            self._assign(line, source)
            return
        left_s = source.accepted_at + self._wait_s - self.loop.time()
        source.deadline = self.loop.call_later(max(left_s, 0), self._give_up, source)
        self._waiting.append(source)
        for relay in self.relays:
            relay.pool.poke()

    def retire(self, line: Line) -> None:
        """Start no further stream on the channel; close it as soon as it is idle."""
        line.channel.retired = True
        if line in self._idle:
            line.channel.close()
            self.forget(line)

    def forget(self, line: Line) -> None:
        """Strike a channel that has ended from the account."""
        self._idle.discard(line)
        if line in line.relay.lines:
            line.relay.lines.remove(line)
            self._metrics.channels_closed += 1
            line.relay.pool.poke()

    async def run(self, relay: Relay) -> None:
        """Keep one relay's pool and channels alive until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.pool.run)
            await relay.pool.first_login.wait()  # which also tells the heartbeat
            while True:
                await anyio.sleep(relay.pool.heartbeat_s)
                self.drop_untrusted(relay)
                for line in list(relay.lines):
                    line.channel.tick()
                self._shrink(relay)

    def reconsider(self) -> None:
        """Act at once on other trusted keys."""
        for relay in self.relays:
            self.drop_untrusted(relay)
            relay.pool.renew()

    def drop_untrusted(self, relay: Relay) -> None:
        """End the channels, streams included, whose partner's key has expired or was removed."""
        for line in [each for each in relay.lines if not self._trusted(each.partner)]:
            reason = "the partner's key is no longer trusted"
            event(
                log,
                logging.WARNING,
                "channel closed",
                budget_key="channel of a key that is no longer trusted",
                partner=PublicKey(line.partner).fingerprint,
                reason=reason,
            )
            line.channel.lose(reason)

    def stop(self) -> None:
        """Drain: dial no more, close idle channels; sources that wait are told now."""
        self._stopping = True
        self._settle()
        for relay in self.relays:
            relay.pool.stop()
            self._on_goaway(relay)
        while self._waiting:
            self._give_up(self._waiting[0])

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until every stream is over at both ends."""
        await self._quiet.wait()

    def abort(self) -> None:
        """End every stream now: the grace is over."""
        for stream in list(self._streams):
            stream.stop(Outcome.STOPPED, "the grace is over")
        for proof in list(self._proofs):
            proof.give_up("the grace is over")
        for relay in self.relays:
            for line in list(relay.lines):  # of streams that are over at this end only
                line.channel.lose("the grace is over")

    def _wanted(self, relay: Relay) -> int:
        """Return how many channels and links the relay should have in all."""
        healthy = sum(each.pool.healthy for each in self.relays) or len(self.relays)
        share = math.ceil(len(self._waiting) / healthy)
        wanted = self._size.for_opener(relay.busy, share)
        relay.mark.observe(wanted, self.loop.time())
        return wanted

    def _links_wanted(self, relay: Relay) -> int:
        """Return how many links should be dialled or pending.

        Links on their way when the need falls are not called off, unless they exceed the mark: the
        relay may have paired them already, and what is too much is closed when the burst is over.
        """
        have = len(relay.lines) + relay.pool.joining
        total = have + relay.pool.links
        needed = self._wanted(relay)
        mark = relay.mark.observe(needed, self.loop.time())
        return max(needed, min(total, mark)) - have

    def _shrink(self, relay: Relay) -> None:
        mark = relay.mark.observe(self._wanted(relay), self.loop.time())
        excess = len(relay.lines) - mark
        for line in [each for each in relay.lines if each in self._idle][: max(excess, 0)]:
            self.retire(line)

    def _on_joined(self, relay: Relay, joined: Joined) -> None:
        line = Line(self, relay, joined)
        relay.lines.add(line)
        self._metrics.channels_opened += 1
        if self._stopping:
            line.channel.retired = True
        self._use(line)

    def _on_goaway(self, relay: Relay) -> None:
        for line in list(relay.lines):
            self.retire(line)

    def _use(self, line: Line) -> None:
        """Give an idle channel to the next source, or to the pool, or close it."""
        if line.channel.closed:
            self.forget(line)
        elif line.channel.retired:
            line.channel.close()
            self.forget(line)
        elif source := self._next_waiting():
            self._assign(line, source)
        else:
            line.channel.handler = line
            self._idle.put(line)

    def _next_waiting(self) -> Source | None:
        """Return the source that has waited longest; one that has gone costs no channel."""
        while self._waiting:
            source = self._waiting.popleft()
            if source.deadline is not None:
                source.deadline.cancel()
            if not is_dead(source.sock, self._wait_s):
                return source
            close_with_reset(source.sock)
            self._on_end(source, None, Outcome.RESET_BY_SOURCE, "it did not wait")
        return None

    def _assign(self, line: Line, source: Source) -> None:
        line.relay.busy += 1
        self._idle.stream_began(line.instance)
        request = source.request(self._client.group)
        if self.loop.time() - line.channel.heard_at < FRESH_S:
            self._begin(line, source, request)
        else:
            self._metrics.proofs_asked += 1
            proof = Proof(
                self.loop,
                line.channel,
                request,
                on_alive=lambda: self._proven(proof),
                on_dead=lambda reason: self._disproven(proof, reason),
            )
            self._proofs[proof] = source, line
            proof.ask()
        line.relay.pool.poke()

    def _begin(self, line: Line, source: Source, request: bytes) -> None:
        stream = Stream(
            self.loop, line.channel, source.sock, "source", self._ended, line.heartbeat_s
        )
        self._streams[stream] = source, line
        stream.begin(request)

    def _proven(self, proof: Proof) -> None:
        source, line = self._proofs.pop(proof)
        self._begin(line, source, b"")

    def _disproven(self, proof: Proof, reason: str) -> None:
        source, line = self._proofs.pop(proof)
        self._metrics.proofs_failed += 1
        event(log, logging.INFO, "silent channel replaced", reason=reason)
        self.rested(line)
        if self._stopping:
            close_with_reset(source.sock)
            self._on_end(source, None, Outcome.STOPPED, reason)
        else:
            self.open(source)

    def _ended(self, stream: Stream) -> None:
        source, line = self._streams.pop(stream)
        if line.channel.closed:
            self.rested(line)
        else:
            line.rest()
        assert stream.outcome is not None  # noqa: S101 - a stream that has ended has one
        self._on_end(source, stream, stream.outcome, stream.detail)

    def rested(self, line: Line) -> None:
        """Take back the channel of a stream that is over at both ends."""
        line.relay.busy -= 1
        self._idle.stream_ended(line.instance)
        self._use(line)
        self._settle()

    def _settle(self) -> None:
        if self._stopping and not any(each.busy for each in self.relays):
            self._quiet.set()

    def _give_up(self, source: Source) -> None:
        self._waiting.remove(source)
        if source.deadline is not None:
            source.deadline.cancel()
        close_with_reset(source.sock)
        if self._stopping:
            self._on_end(source, None, Outcome.STOPPED, "the program ends")
        else:
            self._on_end(source, None, Outcome.NO_CHANNEL, self._why_none())

    def _why_none(self) -> str:
        reasons = [each.pool.trouble for each in self.relays if each.pool.trouble]
        if reasons:
            return reasons[0]
        if not self._client.partners():
            return "no key in --trusted-keys can be a partner now; the log says why for each"
        return (
            f"no reverse-proxy of group {self._client.group!r} that trusts this key, and is "
            "trusted, has a link at the relay"
        )
