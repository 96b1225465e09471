"""The public side of a reverse-proxy at one relay: what it exposes, and links for the visitors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import anyio

from common import frames
from common.addresses import HostPort
from common.channel import SILENT_HEARTBEATS
from common.client import new_backoff
from common.exposure_grammar import Exposure
from common.forwarding import MakeForwarder
from common.joined import Joined
from common.link import Client, Link
from common.link_pool import LinkPool
from common.outcome import Outcome
from common.pool import HighWater, PoolSize
from common.wire import Paired, Purpose, Visit
from reverse_proxy.desk import Desk
from reverse_proxy.exposer import Exposer
from reverse_proxy.houses import VisitorsHouse
from reverse_proxy.informing import Informer
from reverse_proxy.metrics import Metrics
from reverse_proxy.raw import RawJoiner

log = logging.getLogger(__name__)


class VisitorJoiner:
    """Makes a channel of a link whose other end is the relay."""

    purpose: Purpose = "visitors"

    def __init__(self, instance: bytes, on_joined: Callable[[Joined], None]) -> None:
        self._instance = instance
        self._on_joined = on_joined

    async def join(self, link: Link, call: Paired | Visit | None) -> None:  # noqa: ARG002 - a Joiner
        """Let frames follow in the link's session.

        Raises:
            PeerError: the relay did not wait for its turn; the link is closed.
        """
        try:
            session = link.session()
        except BaseException:
            link.close()
            raise
        self._on_joined(Joined(session, b"", self._instance, link.heartbeat_s))


class PublicSide:
    """Everything that one relay's visitors need.

    Args:
        relay: where to dial.
        exposures: what is made public, by the number that names it at the relay.
        hold_s: seconds that visitors wait while this reverse-proxy is away.
        size: bounds of the pools of links.
        linger_s: seconds after which channels opened in a burst are closed again.
    """

    def __init__(
        self,
        relay: HostPort,
        client: Client,
        exposures: Mapping[int, Exposure],
        *,
        hold_s: float,
        size: PoolSize,
        linger_s: float,
        informer: Informer,
        make_forwarder: MakeForwarder,
        metrics: Metrics,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._exposures = exposures
        self._size = size
        self._informer = informer
        self._metrics = metrics
        self._mark = HighWater(linger_s)
        self._raw_mark = HighWater(linger_s)
        self._desks: set[Desk] = set()
        self._stopping = False
        self._quiet = anyio.Event()
        self._house = VisitorsHouse(self._loop, metrics, exposures)
        self._house.on_request = self._poke
        self.exposer = Exposer(relay, client, exposures, hold_s, new_backoff(), self._poke)
        self._raw = RawJoiner(self._house, informer, make_forwarder, self._poke)
        joiner = VisitorJoiner(client.instance, self._on_joined)
        self._channels = LinkPool(
            relay,
            client,
            joiner,
            wanted=self._channels_wanted,
            on_goaway=self._send_away,
            urgent=lambda: self.exposer.waiting.visitors > 0,
            backoff=new_backoff(),
        )
        self._raw_links = LinkPool(
            relay,
            client,
            self._raw,
            wanted=self._raw_wanted,
            on_goaway=lambda: None,
            urgent=lambda: self.exposer.waiting.raw > 0,
            backoff=new_backoff(),
        )

    def public(self) -> list[str]:
        """Return what is public now, and where it leads, for people."""
        return [
            f"{where} -> {HostPort(each.host, each.target_port)}"
            for number, where in sorted(self.exposer.public.items())
            for each in (self._exposures[number],)
        ]

    @property
    def channels(self) -> int:
        """Channels for visitors, idle and busy, and raw streams."""
        return len(self._desks) + len(self._raw.joints)

    async def run(self) -> None:
        """Keep exposures and channels alive until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.exposer.run)
            tasks.start_soon(self._channels.run)
            tasks.start_soon(self._raw_links.run)
            await self.exposer.first_login.wait()  # which also tells the heartbeat
            while True:
                await anyio.sleep(self.exposer.heartbeat_s)
                for desk in list(self._desks):
                    desk.channel.tick()
                self._raw.tick(SILENT_HEARTBEATS * self.exposer.heartbeat_s)
                self._shrink()
                self._poke()

    def stop(self) -> None:
        """Drain: take no further channel, and ask the relay to leave those there are."""
        self._stopping = True
        self._channels.stop()
        self._raw_links.stop()
        self._send_away()
        self._settle()

    async def quiet(self) -> None:
        """Wait, after :meth:`stop`, until no visitor is served any more."""
        while self.channels:
            self._quiet = anyio.Event()
            await self._quiet.wait()

    def abort(self) -> None:
        """End every stream and channel now: the grace is over."""
        for desk in list(self._desks):
            desk.stop(Outcome.STOPPED, "the grace is over")
        self._raw.abort()

    def _settle(self) -> None:
        if not self.channels:
            self._quiet.set()

    def _send_away(self) -> None:
        for desk in list(self._desks):
            desk.channel.write(frames.encode(frames.GOAWAY))

    def _poke(self) -> None:
        self._channels.poke()
        self._raw_links.poke()
        self._settle()

    def _has_public(self, *, raw: bool) -> bool:
        """Whether anything is public that needs links of this kind."""
        return any(self._exposures[number].raw is raw for number in self.exposer.public)

    def _needed(self) -> int:
        busy = sum(desk.busy for desk in self._desks)
        needed = self._size.for_opener(busy, self.exposer.waiting.visitors)
        return self._mark.observe(needed, self._loop.time())

    def _channels_wanted(self) -> int:
        if not self._has_public(raw=False):
            return 0
        busy = sum(desk.busy for desk in self._desks)
        return self._size.for_opener(busy, self.exposer.waiting.visitors) - len(self._desks)

    def _raw_wanted(self) -> int:
        if not self._has_public(raw=True):
            return 0
        needed = max(self._size.minimum, self.exposer.waiting.raw)
        wanted = self._raw_mark.observe(needed, self._loop.time())
        return min(wanted, self._size.limit - len(self._raw.joints) - self._raw_links.joining)

    def _shrink(self) -> None:
        """Ask the relay to leave idle channels beyond what was needed lately."""
        excess = len(self._desks) - self._needed()
        idle = [each for each in self._desks if not each.busy]
        for desk in idle[: max(excess, 0)]:
            desk.channel.write(frames.encode(frames.GOAWAY))

    def _on_joined(self, joined: Joined) -> None:
        if self._stopping:
            joined.session.close()
            return
        self._desks.add(Desk(self._house, self._informer, joined, self._forget))
        self._metrics.channels_opened += 1

    def _forget(self, desk: Desk) -> None:
        """Strike a channel that has ended from the account."""
        self._desks.remove(desk)
        self._metrics.channels_closed += 1
        self._poke()
