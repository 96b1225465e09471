"""The opener: keeps channels ready on every relay for the sources that come."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Callable, Iterable

import anyio

from common.addresses import HostPort
from common.channel import lose_untrusted
from common.client import new_backoff
from common.joined import Joined
from common.line import Account
from common.link import Client
from common.link_pool import LinkPool
from common.pair_joiner import PairJoiner
from common.pool import PoolSize
from common.switchboard import Caller, Switchboard
from entry_point.metrics import Metrics

log = logging.getLogger(__name__)


class Relay(Account):
    """The opener's account of one relay: its links, and the channels that go through it."""

    def __init__(self, linger_s: float) -> None:
        super().__init__(linger_s, lambda: self.pool.poke())
        self.pool: LinkPool


class Opener:
    """Gives each caller a channel.

    Args:
        relays: where the channels go through; each has a pool of its own.
        size: bounds of each pool.
        linger_s: seconds after which channels opened in a burst are closed again.
        wait_s: seconds a source waits for a channel.
        trusted: whether a partner's raw key may be used now; asked again at every tick.
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
    ) -> None:
        self._client = client
        self._inner = inner
        self._size = size
        self._trusted = trusted
        self.board = Switchboard(
            wait_s=wait_s, why_none=self._why_none, on_wait=self._poke, counts=metrics
        )
        self.relays = [self._relay(each, linger_s) for each in relays]

    def _relay(self, address: HostPort, linger_s: float) -> Relay:
        relay = Relay(linger_s)
        relay.pool = LinkPool(
            address,
            self._client,
            PairJoiner(
                self._client,
                self._inner,
                on_joined=lambda joined: self._on_joined(relay, joined),
                on_backlog=lambda _: None,
            ),
            wanted=lambda: self._links_wanted(relay),
            on_goaway=lambda: self._on_goaway(relay),
            urgent=lambda: self.board.waiting > 0,
            backoff=new_backoff(),
        )
        return relay

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
        board = self.board
        counts = (
            f"{board.busy} streams, {board.idle} channels ready, {board.waiting} sources waiting"
        )
        return counts if board.idle or board.busy else f"{counts}: {self._why_none()}"

    def open(self, caller: Caller) -> None:
        """Give the caller a channel, now or as soon as there is one."""
        self.board.open(caller)

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
                self.board.shrink(relay, self._wanted(relay))

    def reconsider(self) -> None:
        """Act at once on other trusted keys."""
        for relay in self.relays:
            self.drop_untrusted(relay)
            relay.pool.renew()

    def drop_untrusted(self, relay: Relay) -> None:
        """End the channels, streams included, whose partner's key has expired or was removed."""
        for line in [each for each in relay.lines if not self._trusted(each.partner)]:
            lose_untrusted(log, line.channel, line.partner)

    def stop(self) -> None:
        """Drain: dial no more, close idle channels; sources that wait are told now."""
        self.board.stop()
        for relay in self.relays:
            relay.pool.stop()
            self._on_goaway(relay)

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until every stream is over at both ends."""
        await self.board.quiet()

    def abort(self) -> None:
        """End every stream now: the grace is over."""
        self.board.abort(list(self.relays))

    def _poke(self) -> None:
        for relay in self.relays:
            relay.pool.poke()

    def _wanted(self, relay: Relay) -> int:
        """Return how many channels and links the relay should have in all."""
        healthy = sum(each.pool.healthy for each in self.relays) or len(self.relays)
        share = math.ceil(self.board.waiting / healthy)
        wanted = self._size.for_opener(relay.busy, share)
        relay.mark.observe(wanted, self.board.loop.time())
        return wanted

    def _links_wanted(self, relay: Relay) -> int:
        """Return how many links should be dialled or pending.

        Links on their way when the need falls are not called off, unless they exceed the mark: the
        relay may have paired them already, and what is too much is closed when the burst is over.
        """
        have = len(relay.lines) + relay.pool.joining
        total = have + relay.pool.links
        needed = self._wanted(relay)
        mark = relay.mark.observe(needed, self.board.loop.time())
        return max(needed, min(total, mark)) - have

    def _on_joined(self, relay: Relay, joined: Joined) -> None:
        self.board.add(relay, joined)

    def _on_goaway(self, relay: Relay) -> None:
        for line in list(relay.lines):
            self.board.retire(line)

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
