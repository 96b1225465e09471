"""Who has a pool of links against a relay that plays a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from common.addresses import HostPort
from common.backoff import Backoff
from common.joined import Joined
from common.keys import Identity
from common.link_pool import LinkPool
from common.pair_joiner import PairJoiner
from common.tls import opener_context
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.sessions import ANN, BOB

Script = Callable[[Session], Awaitable[None]]


class Owner:
    """What a pool is told, and how many links it is asked for."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.joined: list[Joined] = []
        self.goaways = 0
        self.backlogs: list[int] = []
        self.delays: list[float] = []
        self.urgent = False
        self.pool: LinkPool

    def on_goaway(self) -> None:
        self.goaways += 1

    def delay(self) -> float:
        self.delays.append(0.01)
        return 0.01


@contextlib.asynccontextmanager
async def running(
    script: Script,
    wanted: int = 1,
    *,
    address: HostPort | None = None,
    partners: tuple[Identity, ...] = (BOB,),
    base_s: float = 0.0,
) -> AsyncIterator[tuple[Owner, FakeRelay]]:
    relay, owner = FakeRelay(script), Owner(wanted)
    client = new_client(partners=partners)
    owner.pool = pool = LinkPool(
        address or relay.address,
        client,
        PairJoiner(
            client,
            opener_context(ANN),
            on_joined=owner.joined.append,
            on_backlog=owner.backlogs.append,
        ),
        wanted=lambda: owner.wanted,
        on_goaway=owner.on_goaway,
        urgent=lambda: owner.urgent,
        backoff=Backoff(rng=lambda: 0.999, base_s=base_s, cap_s=base_s),
    )
    task = asyncio.create_task(pool.run())
    try:
        yield owner, relay
        pool.stop()
        await relay.close()
        await asyncio.wait_for(task, 10)
        assert (pool.links, pool.joining, pool._dials) == (0, 0, [])
    finally:
        task.cancel()
        await relay.close()
        for each in owner.joined:
            each.session.close()


async def wait(session: Session) -> None:
    """A relay that has no partner for anybody."""
    await session.welcome()
    while True:
        await session.receive()
