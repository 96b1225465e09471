"""What a client takes from a relay for a heartbeat."""

from __future__ import annotations

import asyncio

import pytest

from common.link import LONGEST_HEARTBEAT_S, SHORTEST_HEARTBEAT_S, login
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import on_both_loops, run


@on_both_loops
@pytest.mark.parametrize(
    ("said", "taken"),
    [(1e-9, SHORTEST_HEARTBEAT_S), (2.5, 2.5), (3600.0, LONGEST_HEARTBEAT_S)],
)
def test_a_relay_can_neither_hurry_nor_lull_its_clients(
    kind: str, said: float, taken: float
) -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome(said)
            await asyncio.Event().wait()

        relay = FakeRelay(script)
        link = await login(relay.address, new_client(), lambda: None)
        assert link.heartbeat_s == taken
        link.close()
        await relay.close()

    run(kind, main)
