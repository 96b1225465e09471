"""The acceptor: keeps links pending on every relay, and a :class:`Desk` for each channel."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable

import anyio

from common import frames
from common.addresses import HostPort
from common.channel import lose_untrusted
from common.client import Partners, new_backoff
from common.joined import Joined
from common.link import Client
from common.link_pool import LinkPool
from common.outcome import Outcome
from common.pair_joiner import PairJoiner
from common.pool import HighWater, PoolSize
from reverse_proxy.desk import Desk
from reverse_proxy.houses import PartnersHouse
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.policy import Policy

log = logging.getLogger(__name__)


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
        informer: tells destinations who their client is.
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
        informer: Informer,
        metrics: Metrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._partners = partners
        self._metrics = metrics
        self._house = PartnersHouse(self._loop, metrics, client.group, policy, partners)
        self._informer = informer
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
            PairJoiner(
                self._client,
                self._inner,
                on_joined=lambda joined: self._on_joined(relay, joined),
                on_backlog=lambda backlog: self._on_backlog(relay, backlog),
            ),
            wanted=lambda: self._wanted(relay, 0),
            on_goaway=lambda: self._send_away(relay),
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
                desk.stop(Outcome.STOPPED, "the grace is over")

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
        for desk in [each for each in relay.desks if self._partners.get(each.partner) is None]:
            lose_untrusted(log, desk.channel, desk.partner)

    def _wanted(self, relay: Relay, backlog: int) -> int:
        channels = len(relay.desks) + relay.pool.joining
        wanted = self._size.for_acceptor(channels, backlog)
        return min(relay.mark.observe(wanted, self._loop.time()), self._size.limit - channels)

    def _on_backlog(self, relay: Relay, backlog: int) -> None:
        self._wanted(relay, backlog)
        relay.pool.poke()

    def _on_joined(self, relay: Relay, joined: Joined) -> None:
        if self._stopping:
            joined.session.close()
            return
        desk = Desk(self._house, self._informer, joined, lambda desk: self._forget(relay, desk))
        relay.desks.add(desk)
        self._metrics.channels_opened += 1

    def _forget(self, relay: Relay, desk: Desk) -> None:
        """Strike a channel that has ended from the account."""
        relay.desks.remove(desk)
        self._metrics.channels_closed += 1
        relay.pool.poke()
        self._settle()
