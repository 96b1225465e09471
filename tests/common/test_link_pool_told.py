"""What a pool remembers of its relay's troubles."""

from __future__ import annotations

from common.backoff import Backoff
from common.link import Link
from common.link_pool import TOLD, LinkPool
from common.wire import Paired, Purpose, Visit
from tests.common.fake_relay import FakeRelay, Session, new_client
from tests.common.loops import run


class Nobody:
    """Puts no link to use."""

    purpose: Purpose = "pair"

    async def join(self, link: Link, call: Paired | Visit | None) -> None:
        link.close()


def test_a_relay_whose_reasons_never_repeat_is_not_remembered_for_ever() -> None:
    async def main() -> None:
        async def script(session: Session) -> None:
            await session.welcome()

        relay = FakeRelay(script)
        pool = LinkPool(
            relay.address,
            new_client(),
            Nobody(),
            wanted=lambda: 0,
            on_goaway=lambda: None,
            urgent=lambda: False,
            backoff=Backoff(rng=lambda: 0.0),
        )
        for number in range(10 * TOLD):
            pool._failed(f"reason {number}", dialled=True)
            assert f"reason {number}" in pool._told
            assert len(pool._told) <= TOLD
        await relay.close()

    run("asyncio", main)
